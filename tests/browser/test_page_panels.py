"""What lies below the answer: futures, the swap, the map; and what is said where the service cannot."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect
from watched_page import TOKEN, Opener, Watched


def sign_in(page: Page) -> None:
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()


def query_key(page: Page) -> str:
    return page.locator("#query [name=key]").input_value()


def test_a_future_is_drawn_and_another(watched: Watched) -> None:
    page = watched.open()
    page.get_by_role("button", name="Draw what comes next").click()
    futures = page.locator(".future")
    expect(futures).to_have_count(1)
    expect(futures).to_contain_text("2 frames given")
    expect(futures).to_contain_text("4 drawn, seed 0")
    page.get_by_role("button", name="Sample again").click()
    expect(futures).to_have_count(2)
    expect(futures.nth(1)).to_contain_text("seed 1")
    strips = page.locator(".film-strip img").evaluate_all("images => images.map(image => image.src)")
    assert strips[0] != strips[1]
    assert page.locator(".film-strip img").first.evaluate("image => image.naturalWidth > image.naturalHeight")
    # They belong to their query.
    page.locator("#hits .shot").first.click()
    expect(futures).to_have_count(0)
    expect(page.get_by_role("button", name="Draw what comes next")).to_be_visible()


def test_a_future_of_an_upload(watched: Watched, digits: Path) -> None:
    page = watched.open()
    page.locator("#upload input[type=file]").set_input_files(sorted((digits / "videos").rglob("*.mp4"))[0])
    expect(page.locator("#query")).to_contain_text("Your clip")
    page.get_by_role("button", name="Draw what comes next").click()
    expect(page.locator(".future")).to_contain_text("4 drawn")


def test_one_clip_s_looks_with_another_s_motion(watched: Watched) -> None:
    page = watched.open()
    swap = page.locator("#swap")
    swap.get_by_role("button", name="take the query's").first.click()
    expect(swap.locator("video")).to_have_count(1)
    page.get_by_role("button", name="Take the motion of hit 3 for the swap").click()
    expect(swap.locator("video")).to_have_count(3)
    page.wait_for_function("[...document.querySelectorAll('#swap video')].every(clip => clip.videoWidth > 0)")
    assert swap.locator("video").last.get_attribute("src").startswith("data:video/mp4")
    swap.get_by_role("link", name="Search the library for this motion with those looks").click()
    expect(page.locator("#hits-title")).to_have_text("They move like the one and look like the other")
    assert "looks=" in page.url


def test_an_upload_cannot_be_swapped(watched: Watched, digits: Path) -> None:
    watched.allowed.add(422)
    page = watched.open()
    page.locator("#upload input[type=file]").set_input_files(sorted((digits / "videos").rglob("*.mp4"))[0])
    expect(page.locator("#query")).to_contain_text("Your clip")
    page.locator("#swap").get_by_role("button", name="take the query's").first.click()
    expect(page.locator("#problem")).to_contain_text("the swap takes clips of the library")


def wait_for_map(page: Page) -> list[list[object]]:
    """Its points, once it is drawn."""
    page.locator("#map").scroll_into_view_if_needed()
    expect(page.locator("#map-said")).to_contain_text("40 clips")
    return page.request.get(page.url.split("/?")[0].rstrip("/") + "/map?by=motion").json()["points"]


def test_the_map_shows_a_clip_and_searches_by_it(watched: Watched) -> None:
    page = watched.open()
    key, x, y, _ = wait_for_map(page)[7]
    canvas = page.locator("#map-canvas")
    box = canvas.bounding_box()
    at = 24 + (x + 1) / 2 * (box["width"] - 48), 24 + (1 - y) / 2 * (box["height"] - 48)
    canvas.hover(position={"x": at[0], "y": at[1]})
    tip = page.locator("#map-tip")
    expect(tip).to_be_visible()
    expect(tip.locator("video")).to_have_attribute("src", f"/clips/{key}/video")
    canvas.click(position={"x": at[0], "y": at[1]})
    expect(page.locator("#query")).to_contain_text(key)
    assert f"key={key}" in page.url


def test_the_map_is_walked_by_arrow_keys(watched: Watched) -> None:
    page = watched.open()
    before = query_key(page)
    wait_for_map(page)
    page.locator("#map-canvas").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#map-tip video").get_attribute("src")
    for arrow in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(arrow)
    expect(page.locator("#map-said")).to_contain_text("Enter searches by it")
    page.keyboard.press("ArrowRight")
    moved = page.locator("#map-tip video").get_attribute("src")
    page.keyboard.press("Enter")
    key = moved.split("/")[2]
    expect(page.locator("#query")).to_contain_text(key)
    assert {first, moved} != {f"/clips/{before}/video"}


def test_the_map_is_coloured_by_a_label(watched: Watched) -> None:
    page = watched.open()
    wait_for_map(page)
    page.get_by_label("Colour by").select_option(label="wall_hit")
    expect(page.locator("#map-key li").first).to_be_visible()
    values = page.request.get(f"{watched.origin}/map?label=wall_hit").json()["values"]
    assert page.locator("#map-key li").all_inner_texts() == values


def test_what_is_missing_is_said(visit: Opener, bare_service: str) -> None:
    watched = visit(bare_service)
    watched.allowed.add(401)
    page = watched.open()
    sign_in(page)
    expect(page.get_by_text("kineme serve INDEX --predictor RUN")).to_be_visible()
    expect(page.locator("#swap")).to_contain_text("kineme serve INDEX --run RUN")
    watched.open("/traversal")
    expect(page.get_by_text("kineme serve INDEX --run RUN")).to_be_visible()
