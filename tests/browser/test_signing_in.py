"""A service with a token: signing in, and a session that ends while the page is open."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect
from watched_page import TOKEN, Opener, Watched


def signed_in(visit: Opener, origin: str) -> Watched:
    watched = visit(origin)
    watched.allowed.add(401)
    page = watched.open()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#hits-title")).to_be_visible()
    # What is seen comes before the scripts that act on it.
    page.wait_for_load_state()
    return watched


def end_session(page: Page, origin: str) -> None:
    """As if it were tomorrow: the cookie that the browser has is one that expired."""
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    expired = f"{int(time.time()) - 60}.{cookie['value'].partition('.')[2]}"
    page.context.add_cookies(
        [{"name": cookie["name"], "value": expired, "domain": urlsplit(origin).hostname, "path": "/"}]
    )


def test_strangers_see_the_form_alone(visit: Opener, bare_service: str) -> None:
    watched = visit(bare_service)
    watched.allowed.add(401)
    page = watched.open()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.locator("video").count() == 0
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("not the token that the service was started with")).to_be_visible()


def test_a_session_that_ends_loses_nothing(visit: Opener, bare_service: str, digits: Path) -> None:
    watched = signed_in(visit, bare_service)
    page = watched.page
    page.get_by_label("SQL").fill("split = 'test'")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**where=**")
    before = page.locator("#hits .shot").evaluate_all("links => links.map(link => link.dataset.key)")
    end_session(page, bare_service)

    page.get_by_role("radio", name="look like it").check()
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    assert page.locator("#hits .shot").evaluate_all("links => links.map(link => link.dataset.key)") == before
    dialog.get_by_label("Token").fill("wrong")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_text("not the token")).to_be_visible()
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    # What was asked for is done, with the filter that stood there.
    expect(page.locator("#hits-title")).to_contain_text("They look like it")
    assert page.get_by_label("SQL").input_value() == "split = 'test'"
    assert "where=" in page.url


def test_an_upload_is_sent_again_after_signing_in(visit: Opener, bare_service: str, digits: Path) -> None:
    watched = signed_in(visit, bare_service)
    page = watched.page
    end_session(page, bare_service)
    page.locator("#upload input[type=file]").set_input_files(sorted((digits / "videos").rglob("*.mp4"))[0])
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Sign in").click()
    expect(page.locator("#query")).to_contain_text("Your clip")


def test_a_large_upload_is_sent_again_after_signing_in(
    visit: Opener, bare_service: str, digits: Path, tmp_path: Path
) -> None:
    watched = signed_in(visit, bare_service)
    page = watched.page
    end_session(page, bare_service)
    # What follows the last box of an mp4 is not read.
    large = tmp_path / "large.mp4"
    large.write_bytes(sorted((digits / "videos").rglob("*.mp4"))[0].read_bytes() + bytes(30 << 20))
    page.locator("#upload input[type=file]").set_input_files(large)
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Sign in").click()
    expect(page.locator("#query")).to_contain_text("Your clip", timeout=20_000)


def test_the_map_waits_for_the_token(visit: Opener, bare_service: str) -> None:
    watched = signed_in(visit, bare_service)
    page = watched.page
    page.locator("#map").scroll_into_view_if_needed()
    expect(page.locator("#map-said")).to_contain_text("40 clips")
    end_session(page, bare_service)
    page.get_by_label("Colour by").select_option(label="wall_hit")
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Sign in").click()
    expect(page.locator("#map-key li")).to_have_count(2)
