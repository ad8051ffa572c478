"""The latent traversal in a real browser: the sliders redraw the clip."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from watched_page import Watched


def picture(page: Page) -> str:
    """What the canvas shows, at the first frame."""
    page.locator("#original").evaluate("clip => { clip.pause(); clip.currentTime = 0; }")
    page.wait_for_function("document.getElementById('original').currentTime === 0")
    page.wait_for_timeout(100)
    return page.locator("#redrawn").evaluate("canvas => canvas.toDataURL()")


def wait_for_sliders(page: Page) -> None:
    expect(page.locator("#said")).to_have_text("as it was")


def test_a_slider_redraws_the_clip(watched: Watched) -> None:
    page = watched.open("/traversal")
    wait_for_sliders(page)
    # 3 of z and 5 of f are all that the tiny run has.
    expect(page.locator("#sliders input")).to_have_count(8)
    before = picture(page)
    slider = page.locator("#sliders input").first
    name = slider.get_attribute("name")
    slider.fill("3")
    expect(page.locator("#said")).to_have_text(f"{name} +3.0")
    after = picture(page)
    assert after != before
    page.get_by_role("button", name="As it was").click()
    expect(page.locator("#said")).to_have_text("as it was")
    assert picture(page) == before


def test_every_slider_does_something(watched: Watched) -> None:
    page = watched.open("/traversal")
    wait_for_sliders(page)
    pictures = {page.locator("#frames").get_attribute("src")}
    sliders = page.locator("#sliders input")
    for number in range(sliders.count()):
        sliders.nth(number).fill("3")
        expect(page.locator("#said")).to_contain_text(f"{sliders.nth(number).get_attribute('name')} +3.0")
        pictures.add(page.locator("#frames").get_attribute("src"))
    assert len(pictures) == sliders.count() + 1


def test_arrow_keys_move_a_slider(watched: Watched) -> None:
    page = watched.open("/traversal")
    wait_for_sliders(page)
    slider = page.locator("#sliders input").nth(1)
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#said")).to_have_text(f"{slider.get_attribute('name')} +0.5")


def test_another_clip(watched: Watched) -> None:
    page = watched.open("/traversal")
    wait_for_sliders(page)
    page.get_by_role("button", name="Another clip").click()
    page.locator("#library .pick").nth(3).click()
    page.wait_for_url("**/traversal?key=**")
    wait_for_sliders(page)
    assert page.locator("#main").get_attribute("data-key") in page.url
