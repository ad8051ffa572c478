"""The page's HTML, the map and the traversal over HTTP; what a browser makes of them is tested in tests/browser."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from service_parts import Client, problem_of

from kineme.retrieval.service.library_map import MOST_POINTS


def shown_keys(html: str) -> list[str]:
    return re.findall(r'data-key="([^"]+)"', html)


def test_the_page_answers_what_stands_in_its_address(client: Client) -> None:
    key = client.keys[3]
    found = client.post("/search", json={"key": key, "by": "appearance", "k": 12, "where": "split = 'test'"}).json()
    page = client.get("/", params={"key": key, "by": "appearance", "where": "split = 'test'"})
    assert page.headers["content-type"].startswith("text/html")
    assert shown_keys(page.text) == [hit["key"] for hit in found["hits"]]
    assert "They look like it, however they move" in page.text
    assert 'value="split = &#39;test&#39;"' in page.text


def test_the_page_begins_with_the_first_clip(client: Client) -> None:
    assert f'name="key" value="{client.keys[0]}"' in client.get("/").text


def test_a_label_is_a_filter(client: Client) -> None:
    page = client.get("/", params={"is.wall_hit": "false", "k": 24})
    expected = client.post("/search", json={"key": client.keys[0], "k": 24, "where": "not wall_hit"}).json()["hits"]
    assert shown_keys(page.text) == [hit["key"] for hit in expected]
    assert '<option value="false" selected>' in page.text


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"where": "speed > 3"}, 422, "unknown column &#39;speed&#39;"),
        ({"key": "<script>alert(1)</script>"}, 404, "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ({"is.nobody": "1"}, 422, "the index has no such label"),
        ({"by": "smell"}, 422, "by: "),
        ({"weight": "heavy"}, 422, "weight: "),
        ({"k": "many"}, 422, "k: "),
    ],
)
def test_a_bad_address_is_a_page_that_says_why(client: Client, asked: dict[str, str], status: int, said: str) -> None:
    page = client.get("/", params=asked)
    assert page.status_code == status
    assert said in page.text
    assert "Drop a clip here" in page.text
    assert "<script>alert" not in page.text


def test_an_answer_pushes_its_address(client: Client) -> None:
    fields = {
        "key": client.keys[1],
        "by": "both",
        "weight": "0.25",
        "where": "fps > 1",
        "is.wall_hit": "true",
        "k": "24",
    }
    part = client.post("/page/answer", data=fields)
    address = part.headers["hx-push-url"]
    assert {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()} == fields
    assert shown_keys(client.get(address).text) == shown_keys(part.text)
    assert "They move and look like it: 25% motion, 75% looks" in part.text


def test_what_the_page_cannot_answer_is_a_problem(client: Client) -> None:
    assert "nothing to search by" in problem_of(client.post("/page/answer", data={"by": "motion"}), 422)
    assert "no clip of this index" in problem_of(client.post("/page/swap", data={"looks": "nobody"}), 404)
    assert "drop it again" in problem_of(client.post("/page/next", data={"seed": "1"}), 422)
    problem_of(client.get("/page/library", params={"after": "9" * 5000}), 422)


def test_the_shelf_shows_what_passes_the_filters(client: Client) -> None:
    shelf = client.get("/page/library", params={"where": "split = 'test'"}).text
    assert "20 of 40 clips" in shelf
    assert shelf.count('class="pick"') == 20
    assert client.get("/page/library", params={"after": 39}).text.count('class="pick"') == 1
    assert f"/traversal?key={client.keys[0]}" in client.get("/page/library", params={"page": "traversal"}).text


@pytest.mark.parametrize("by", ["motion", "appearance"])
def test_the_map_has_a_place_for_every_clip(client: Client, by: str) -> None:
    shown = client.get("/map", params={"by": by, "label": "wall_hit"}).json()
    assert [key for key, *_ in shown["points"]] == client.keys
    assert all(-1 <= x <= 1 and -1 <= y <= 1 for _, x, y, _ in shown["points"])
    assert shown["clips"] == 40 <= MOST_POINTS
    index = client.desk.library.index
    for key, _, _, number in shown["points"]:
        assert shown["values"][number] == str(index.clip(index.row_of(key)).labels["wall_hit"]).lower()
    assert client.get("/map", params={"by": by, "label": "wall_hit"}).json() == shown


def test_a_map_of_something_else_is_refused(client: Client) -> None:
    problem_of(client.get("/map", params={"by": "smell"}), 422)
    assert "label 'nobody': the index has" in problem_of(client.get("/map", params={"label": "nobody"}), 422)


def test_a_clip_is_redrawn_as_its_code_is_moved(client: Client) -> None:
    found = client.get("/traversal/dims").json()
    assert found["clips"] == 40
    assert {dim["part"] for dim in found["dims"]} == {"motion", "appearance"}
    still = client.post("/traversal/frame", json={"key": client.keys[0]}).json()
    name = found["dims"][0]["name"]
    moved = client.post("/traversal/frame", json={"key": client.keys[0], "moves": {name: 2.5}}).json()
    assert still["strip"].startswith("data:image/png;base64,")
    assert still["frames"] == moved["frames"]
    assert still["strip"] != moved["strip"]


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"key": "nobody"}, 404, "no clip of this index"),
        ({"key": "KEY", "moves": {"z 99": 1}}, 422, "dimension 'z 99': one of"),
        ({"key": "KEY", "moves": {"z 1": 99}}, 422, "less than or equal to 10"),
        ({"key": "KEY", "moves": {"z 1": None}}, 422, "moves.z 1"),
        ({"key": "KEY", "file": "x"}, 422, "file"),
        ({}, 422, "key"),
    ],
)
def test_what_cannot_be_redrawn_is_a_problem(client: Client, asked: dict[str, object], status: int, said: str) -> None:
    if asked.get("key") == "KEY":
        asked = {**asked, "key": client.keys[0]}
    assert said in problem_of(client.post("/traversal/frame", json=asked), status)


def test_a_redrawing_has_a_bound(client: Client) -> None:
    headers = {"content-type": "application/json"}
    problem_of(client.post("/traversal/frame", content=b" " * (9 << 20), headers=headers), 413)


def test_the_traversal_page_names_its_clip(client: Client) -> None:
    assert f'data-key="{client.keys[0]}"' in client.get("/traversal").text
    assert f'data-key="{client.keys[7]}"' in client.get("/traversal", params={"key": client.keys[7]}).text
    refused = client.get("/traversal", params={"key": "nobody"})
    assert refused.status_code == 404
    assert "no clip of this index" in refused.text


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/page/answer", {"where": 1}),
        ("/page/next", {"key": {"a": 1}}),
        ("/page/swap", {"looks": 1, "motion": 2}),
        ("/page/swap", {"looks": {"a": 1}}),
    ],
)
def test_a_body_that_no_form_sends_is_refused(client: Client, path: str, fields: dict[str, object]) -> None:
    answer = client.post(path, json=fields)
    assert answer.status_code == 422
    assert "the page's forms send text" in answer.json()["detail"]
