"""The search page in a real browser: from a question to its answer, by every way there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from watched_page import Opener, Watched


def keys_of(page: Page) -> list[str]:
    return page.locator("#hits .shot").evaluate_all("links => links.map(link => link.dataset.key)")


def wait_for_answer(page: Page, title: str) -> None:
    expect(page.locator("#hits-title")).to_contain_text(title)


def a_video(digits: Path) -> Path:
    return sorted((digits / "videos").rglob("*.mp4"))[0]


def upload(page: Page, file: Path) -> None:
    page.locator("#upload input[type=file]").set_input_files(file)


def test_the_first_sight_is_an_answer(watched: Watched) -> None:
    page = watched.open()
    wait_for_answer(page, "They move like it, whatever they show")
    assert len(keys_of(page)) == 12
    expect(page.locator("#status")).to_contain_text("12 clips by motion")
    expect(page.locator(".agreement")).to_contain_text("of 12")


def test_hits_play_in_step_with_the_query(watched: Watched) -> None:
    page = watched.open()
    page.wait_for_function("[...document.querySelectorAll('#answer video.clip')].every(clip => clip.readyState > 2)")
    page.wait_for_timeout(1500)
    # At one moment of the page, the clips are at one moment of theirs; a frame lasts a tenth of a second.
    spread = """() => {
        const times = [...document.querySelectorAll('#answer video.clip')].map(clip => clip.currentTime);
        return Math.max(...times) - Math.min(...times);
    }"""
    spreads = []
    for _ in range(5):
        spreads.append(page.evaluate(spread))
        page.wait_for_timeout(70)
    assert sorted(spreads)[2] < 0.1, spreads
    assert page.locator("#answer video.clip").first.evaluate("clip => !clip.paused || clip.ended")
    page.get_by_role("button", name="Pause").click()
    assert page.locator("#answer video.clip").evaluate_all("clips => clips.every(clip => clip.paused)")


def test_an_upload_brings_results(watched: Watched, digits: Path) -> None:
    page = watched.open()
    first = keys_of(page)
    upload(page, a_video(digits))
    expect(page.locator("#query")).to_contain_text("Your clip")
    assert "clip=" in page.url
    assert len(keys_of(page)) == 12
    # The clip itself is in the library, and nothing is nearer to it.
    assert page.locator("#hits .score").first.inner_text() == "1.000"
    assert keys_of(page) != first
    expect(page.locator("#query video")).to_have_js_property("error", None)


def test_a_dropped_file_is_an_upload(watched: Watched, digits: Path) -> None:
    page = watched.open()
    content = list(a_video(digits).read_bytes())
    page.evaluate(
        """bytes => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "mine.mp4", { type: "video/mp4" }));
            const drop = new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true });
            document.body.dispatchEvent(drop);
        }""",
        content,
    )
    expect(page.locator("#query")).to_contain_text("Your clip")


def test_the_switch_keeps_the_query(watched: Watched, digits: Path) -> None:
    page = watched.open()
    upload(page, a_video(digits))
    expect(page.locator("#query")).to_contain_text("Your clip")
    by_motion = keys_of(page)
    page.get_by_role("radio", name="look like it").check()
    wait_for_answer(page, "They look like it, however they move")
    assert keys_of(page) != by_motion
    expect(page.locator("#query")).to_contain_text("Your clip")
    page.get_by_role("radio", name="move like it").check()
    wait_for_answer(page, "They move like it")
    assert keys_of(page) == by_motion


def test_the_blend_goes_from_one_space_to_the_other(watched: Watched) -> None:
    page = watched.open("/?by=appearance")
    by_appearance = keys_of(page)
    slider = page.get_by_label("Blend")
    slider.fill("0")
    wait_for_answer(page, "0% motion, 100% looks")
    assert keys_of(page) == by_appearance
    assert page.get_by_label("both").is_checked()
    slider.fill("1")
    wait_for_answer(page, "100% motion, 0% looks")
    blended = keys_of(page)
    page.get_by_role("radio", name="move like it").check()
    wait_for_answer(page, "They move like it")
    assert keys_of(page) == blended


def test_a_label_and_sql_filter_together(watched: Watched) -> None:
    page = watched.open()
    page.get_by_role("combobox", name="wall_hit").select_option(index=1)
    chosen = page.get_by_role("combobox", name="wall_hit").input_value().strip('"')
    hits = page.locator("#hits .labels")
    expect(hits.filter(has_text=f"wall_hit {chosen}")).to_have_count(12)
    expect(hits).to_have_count(12)
    page.get_by_label("SQL").fill("false")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#hits")).to_contain_text("No clip passes the filters")
    page.reload()
    expect(page.locator("#hits")).to_contain_text("No clip passes the filters")
    assert page.get_by_label("SQL").input_value() == "false"
    assert page.get_by_role("combobox", name="wall_hit").input_value().strip('"') == chosen


def test_a_bad_filter_shows_the_reason(watched: Watched) -> None:
    watched.allowed.add(422)
    page = watched.open()
    before = keys_of(page)
    page.get_by_label("SQL").fill("speed > 3")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert").first).to_contain_text("unknown column 'speed'")
    assert keys_of(page) == before
    page.get_by_label("SQL").fill("")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#problem")).to_be_hidden()
    page.goto(f"{watched.origin}/?where=speed+%3E+3")
    expect(page.locator("#problem")).to_contain_text("unknown column 'speed'")


def test_an_unreadable_upload_shows_the_reason(watched: Watched, tmp_path: Path) -> None:
    watched.allowed |= {400, 413, 415, 422}
    page = watched.open()
    before = keys_of(page)
    letter = tmp_path / "letter.mp4"
    letter.write_text("Dear Sir or Madam,\n" * 100)
    upload(page, letter)
    expect(page.locator("#problem")).to_be_visible()
    said = page.locator("#problem").inner_text()
    direct = page.request.post(
        f"{watched.origin}/search",
        multipart={"file": {"name": "a.mp4", "mimeType": "video/mp4", "buffer": letter.read_bytes()}},
    )
    assert direct.json()["detail"] == said
    assert keys_of(page) == before
    # The same file again is another try, not silence.
    page.evaluate("document.getElementById('problem').textContent = ''")
    upload(page, letter)
    expect(page.locator("#problem")).to_have_text(said)


def test_from_hit_to_hit_and_back(watched: Watched, digits: Path) -> None:
    page = watched.open()
    first = keys_of(page)
    upload(page, a_video(digits))
    expect(page.locator("#query")).to_contain_text("Your clip")
    uploaded = keys_of(page)
    page.get_by_role("radio", name="look like it").check()
    wait_for_answer(page, "They look like it")
    wanted = keys_of(page)[2]
    page.locator("#hits .shot").nth(2).click()
    expect(page.locator("#query")).to_contain_text(wanted)
    assert f"key={wanted}" in page.url
    assert "by=appearance" in page.url
    page.go_back()
    expect(page.locator("#query")).to_contain_text("Your clip")
    wait_for_answer(page, "They look like it")
    page.go_back()
    wait_for_answer(page, "They move like it")
    assert keys_of(page) == uploaded
    assert page.get_by_role("radio", name="move like it").is_checked()
    page.go_back()
    expect(page.locator("#query")).not_to_contain_text("Your clip")
    assert keys_of(page) == first
    page.go_forward()
    expect(page.locator("#query")).to_contain_text("Your clip")


def test_an_address_is_a_question(watched: Watched) -> None:
    page = watched.open()
    page.locator("#hits .shot").nth(1).click()
    page.wait_for_url("**key=**")
    expect(page.locator("#query .note").first).to_be_visible()
    shown, address = keys_of(page), page.url
    page.goto("about:blank")
    page.goto(address)
    assert keys_of(page) == shown


def test_several_clips_ask_together(watched: Watched) -> None:
    page = watched.open()
    page.get_by_role("button", name="Ask with hit 2, too").click()
    expect(page.locator("#query .asked")).to_have_count(2)
    assert page.url.count("key=") == 2
    page.get_by_role("button", name="Leave out").first.click()
    expect(page.locator("#query .asked")).to_have_count(1)


def test_a_clip_is_picked_from_the_library(watched: Watched) -> None:
    page = watched.open()
    page.get_by_role("button", name="Pick from the library").click()
    shelf = page.locator("#library")
    expect(shelf).to_contain_text("40 of 40 clips")
    pick = shelf.locator(".pick").nth(5)
    pick.hover()
    expect(pick.locator("video")).to_be_visible()
    key = pick.get_attribute("href")
    pick.click()
    expect(shelf).to_be_hidden()
    page.wait_for_url(f"**{key}")


@pytest.mark.parametrize("named_first", [True, False])
def test_a_part_of_an_upload_is_answered_by_spans(watched: Watched, videos: Path, named_first: bool) -> None:
    page = watched.open()
    page.get_by_text("Only a part of it").click()
    # 28 frames of a 25th of a second.
    if not named_first:
        upload(page, videos / "v2.mp4")
        expect(page.locator(".spans li")).to_have_count(0)
    page.get_by_label("from, s").fill("0.2")
    page.get_by_label("to, s").fill("1")
    if named_first:
        upload(page, videos / "v2.mp4")
    else:
        page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".spans li").first).to_contain_text("s of yours is like")
    assert len(keys_of(page)) == 12
    # What is asked anew from the vectors knows no times of the file.
    page.get_by_role("radio", name="look like it").check()
    wait_for_answer(page, "They look like it")
    expect(page.locator(".spans li").first).to_be_visible()


def test_a_part_that_is_named_before_the_whole_was_answered_asks_too(watched: Watched, videos: Path) -> None:
    page = watched.open()
    held: list[Route] = []
    page.route("**/page/answer", lambda route: held.append(route), times=1)
    page.get_by_text("Only a part of it").click()
    with page.expect_request("**/page/answer"):
        page.locator("input[type=file]").set_input_files(videos / "v2.mp4")
    page.get_by_label("from, s").fill("0.2")
    page.get_by_label("to, s").fill("1")
    page.get_by_role("button", name="Search", exact=True).click()
    held[0].continue_()
    expect(page.locator(".spans li").first).to_contain_text("s of yours is like")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(visit: Opener, service: str, scheme: str) -> None:
    watched = visit(service, color_scheme=scheme)
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/traversal"):
        watched.open(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_less_motion_is_respected(visit: Opener, service: str) -> None:
    page = visit(service, reduced_motion="reduce").open()
    page.wait_for_function("[...document.querySelectorAll('#answer video.clip')].every(clip => clip.readyState > 1)")
    clips = page.locator("#answer video.clip")
    assert clips.evaluate_all("clips => clips.every(clip => clip.paused)")
    page.locator("#hits .shot").nth(1).hover()
    page.wait_for_function("!document.querySelectorAll('#hits video.clip')[1].paused")
    assert clips.evaluate_all("clips => clips.filter(clip => !clip.paused).length") <= 2
    page.mouse.move(5, 5)
    page.wait_for_function("[...document.querySelectorAll('#answer video.clip')].every(clip => clip.paused)")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("[...document.querySelectorAll('#answer video.clip')].some(clip => !clip.paused)")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
