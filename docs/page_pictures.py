"""The pictures of the service's pages in docs/pictures, from a running service that has a run and a predictor:

    kineme serve indexes/sprites --run runs/sprites --predictor runs/sprites-next
    python docs/page_pictures.py http://127.0.0.1:8000 --key KEY --other KEY

Needs what make test-browser installs.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

OUT = Path(__file__).parent / "pictures"
WIDE = {"width": 1280, "height": 1010}
PHONE = {"width": 390, "height": 844}
# All clips at one moment of theirs: in a still picture it is seen that they move alike.
_HOLD = """phase => {
    const play = document.getElementById("play");
    if (play.textContent === "Pause") play.click();
    return Promise.all([...document.querySelectorAll("video.clip")].map(clip => new Promise(done => {
        clip.addEventListener("seeked", done, { once: true });
        clip.currentTime = phase * clip.duration;
    })));
}"""
_LOADED = "[...document.querySelectorAll('video.clip')].every(clip => clip.readyState > 1)"


def hold(page: Page, phase: float) -> None:
    """Stop all clips at the same part of their length."""
    page.wait_for_function(_LOADED)
    page.evaluate(_HOLD, phase)
    page.wait_for_timeout(300)


def take_answers(page: Page, url: str, key: str, phase: float, out: Path) -> None:
    """One question, by motion and by appearance."""
    for by in ("motion", "appearance"):
        page.goto(f"{url}/?key={key}&by={by}")
        hold(page, phase)
        page.screenshot(path=out / f"page-{by}.png")


def take_panels(page: Page, url: str, key: str, other: str, phase: float, out: Path) -> None:
    """Futures of ``key``, its looks with the motion of ``other``, and the map."""
    page.goto(f"{url}/?key={other}")
    page.locator("#swap").get_by_role("button", name="take the query's").nth(1).click()
    page.locator("#swap video").first.wait_for()
    page.get_by_role("button", name="Pick from the library").click()
    # Within the page, for another address would empty the swap.
    page.locator(f".pick[href*='{key}']").evaluate("pick => pick.click()")
    page.locator("#query .note", has_text=key).wait_for()
    page.locator("#swap").get_by_role("button", name="take the query's").first.click()
    page.locator("#swap video").nth(2).wait_for()
    page.get_by_role("button", name="Draw what comes next").click()
    page.get_by_role("button", name="Sample again").click()
    page.locator(".future").nth(1).wait_for()
    page.locator("#map").scroll_into_view_if_needed()
    page.locator("#map-said", has_text="clips").wait_for(timeout=120_000)
    page.get_by_label("Colour by").select_option(index=1)
    page.locator("#map-key li").first.wait_for()
    page.locator("#map-canvas").focus()
    page.keyboard.press("ArrowRight")
    hold(page, phase)
    page.wait_for_timeout(500)
    # Where the panels are on the page, with a margin around them.
    clip = page.evaluate(
        """() => {
            const boxes = [...document.querySelectorAll(".panel")].map(panel => panel.getBoundingClientRect());
            const [first, last] = [boxes[0], boxes.at(-1)];
            const height = last.bottom - first.y + 22;
            return { x: first.x - 24, y: first.y + scrollY + 2, width: first.width + 48, height };
        }"""
    )
    page.screenshot(path=out / "page-panels.png", full_page=True, clip=clip)


def take_traversal(page: Page, url: str, key: str, out: Path) -> None:
    """Some numbers of a code moved."""
    page.goto(f"{url}/traversal?key={key}")
    page.locator("#said", has_text="as it was").wait_for(timeout=120_000)
    sliders = page.locator("#sliders input")
    sliders.nth(0).fill("1.5")
    sliders.nth(sliders.count() - 6).fill("-2")
    page.locator("#said", has_text="-2.0").wait_for()
    page.locator("#original").evaluate("clip => { clip.pause(); clip.currentTime = 0.6 * clip.duration; }")
    page.wait_for_timeout(500)
    page.screenshot(path=out / "page-traversal.png")


def take_phone(browser: Browser, url: str, key: str, phase: float, out: Path) -> None:
    """The answer on a phone, in the dark."""
    page = browser.new_page(viewport=PHONE, color_scheme="dark", device_scale_factor=2)
    page.goto(f"{url}/?key={key}")
    hold(page, phase)
    page.locator("#answer").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('answer').scrollIntoView()")
    page.screenshot(path=out / "page-phone.png")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--key", required=True, help="the clip that asks, and whose looks are swapped")
    parser.add_argument("--other", required=True, help="the clip whose motion they get")
    parser.add_argument("--phase", type=float, default=0.66, help="the moment shown of every clip, from 0 to 1")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    url = given.url.rstrip("/")
    with sync_playwright() as playwright:
        # Root cannot use Chromium's sandbox.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport=WIDE, color_scheme="light")
        take_answers(page, url, given.key, given.phase, given.out)
        take_panels(page, url, given.key, given.other, given.phase, given.out)
        take_traversal(page, url, given.key, given.out)
        take_phone(browser, url, given.key, given.phase, given.out)
        browser.close()


if __name__ == "__main__":
    main()
