"""The pages by keyboard alone: everything is reached, in the order of the page, and seen to be reached."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from watched_page import Watched

FOCUSED = """() => {
    const at = document.activeElement;
    const label = at.labels?.[0]?.innerText ?? at.getAttribute("aria-label") ?? at.innerText;
    const shown = [at, at.nextElementSibling, at.parentElement].some(
        (near) => near && getComputedStyle(near).outlineStyle !== "none");
    return { label: label.trim().split("\\n")[0], shown };
}"""


def walk(page: Page, steps: int) -> list[str]:
    """Labels of what the tab key comes to, each of which must be seen to have the focus."""
    labels = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        assert found["shown"], found
        labels.append(found["label"])
    return labels


def test_from_the_question_to_a_hit_without_a_pointer(watched: Watched) -> None:
    page = watched.open()
    labels = walk(page, 9)
    assert labels[0] == "Skip to the results"
    assert labels[1:4] == ["kineme", "Search", "Latent traversal"]
    assert labels[4].startswith("Drop a clip here")
    assert labels[5:] == ["Only a part of it", "Pick from the library", "move like it", "Blend"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#hits-title")).to_contain_text("They look like it")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#hits-title")).to_contain_text("55% motion")

    page.locator("#play").focus()
    (label,) = walk(page, 1)
    assert label.startswith("Search by hit 1")
    key = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("Enter")
    expect(page.locator("#query")).to_contain_text(key)
    expect(page.locator("#answer")).to_be_focused()


def test_the_library_opens_and_closes_by_keyboard(watched: Watched) -> None:
    page = watched.open()
    page.get_by_role("button", name="Pick from the library").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Pick from the library")
    expect(dialog).to_contain_text("40 of 40")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate(FOCUSED)["label"] == "Pick from the library"


def test_answers_are_announced(watched: Watched) -> None:
    page = watched.open()
    status = page.locator("#status")
    assert status.get_attribute("aria-live") == "polite"
    page.get_by_role("radio", name="look like it").check()
    expect(status).to_contain_text("by appearance")


def test_the_skip_link_leads_to_the_results(watched: Watched) -> None:
    page = watched.open()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('answer').contains(document.activeElement)")
