"""Clips by address, and what the service says of itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from service_parts import Client, problem_of

from kineme.retrieval.index import Index, open_index
from kineme.shards.codec import decode_clip


@pytest.fixture(scope="module")
def index(digits_index: Path) -> Index:
    return open_index(digits_index)


def test_what_is_known_of_a_clip(client: Client, index: Index) -> None:
    key = index.keys[4]
    stored = index.clip(index.row_of(key))
    content = client.get(f"/clips/{key}").json()
    assert content.pop("video") == f"/clips/{key}/video"
    assert content.pop("strip") == f"/clips/{key}/strip.png"
    assert content == vars(stored)


def test_a_clip_plays_and_its_strip_is_a_picture(client: Client, index: Index) -> None:
    key = index.keys[0]
    assert decode_clip(client.get(f"/clips/{key}/video").content).shape == (8, 64, 64, 3)
    with Image.open(io.BytesIO(client.get(f"/clips/{key}/strip.png").content)) as image:
        assert (image.format, image.size) == ("PNG", (8 * 64, 64))
        strip = np.stack(np.split(np.asarray(image), 8, axis=1))
    np.testing.assert_array_equal(strip, index.previews([key])[key])


def test_ranges(client: Client, index: Index) -> None:
    address = f"/clips/{index.keys[0]}/video"
    whole = client.get(address)
    size, tag = len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, first, last in (
        ("bytes=0-", 0, size - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=10-99", 10, 99),
        ("bytes=100-999999999999", 100, size - 1),
        ("bytes=-5", size - 5, size - 1),
        ("bytes=-999999999", 0, size - 1),
    ):
        part = client.get(address, headers={"range": asked})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert part.content == whole.content[first : last + 1]
        assert part.headers["etag"] == tag
    for asked in (f"bytes={size}-", "bytes=5-4", "bytes=-0", "bytes=999999999999999999-"):
        response = client.get(address, headers={"range": asked})
        problem_of(response, 416)
        assert response.headers["content-range"] == f"bytes */{size}"
    # What is no range of bytes, or several, is answered with all.
    for asked in ("bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes=-", "bytes=" + "9" * 30 + "-", "bytes=\u0661-"):
        response = client.get(address, headers={"range": asked.encode()})
        assert (response.status_code, response.content) == (200, whole.content)
    head = client.head(address)
    assert (head.status_code, head.content, int(head.headers["content-length"])) == (200, b"", size)


def test_what_a_client_has_is_not_sent_again(client: Client, index: Index) -> None:
    address = f"/clips/{index.keys[0]}/video"
    tag = client.get(address).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = client.get(address, headers={"if-none-match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
    assert client.get(address, headers={"if-none-match": '"other"'}).status_code == 200
    changed = client.get(address, headers={"range": "bytes=0-9", "if-range": '"other"'})
    assert changed.status_code == 200
    assert client.get(address, headers={"range": "bytes=0-9", "if-range": tag}).status_code == 206


@pytest.mark.parametrize(
    "key",
    [
        "nope",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "....//....//etc/passwd",
        "x" * 5000,
        "%00",
        "%ff",
        "' or 1=1 --",
        "KEY%00",
        "KEY%2f..%2fKEY",
        "KEY/video/x",
    ],
)
@pytest.mark.parametrize("part", ["", "/video", "/strip.png"])
def test_addresses_that_are_no_clips(client: Client, index: Index, key: str, part: str) -> None:
    problem_of(client.get(f"/clips/{key.replace('KEY', index.keys[0])}{part}"), 404)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/"]
)
def test_nothing_but_static_files_is_static(client: Client, path: str) -> None:
    problem_of(client.get(path), 404)


def test_stats(client: Client, index: Index) -> None:
    stats = client.get("/stats").json()
    assert (stats["clips"], stats["generation"], stats["encoder"]) == (40, 1, "sequential-vae")
    assert stats["dims"] == {"motion": 24, "appearance": 5}
    assert stats["kinds"] == {"motion": "exact", "appearance": "exact"}
    assert stats["can"] == {"predict": True, "swap": True, "traverse": True}
    assert sum(stats["labels"]["speeds"].values()) == 40
    assert set(stats["labels"]["wall_hit"]) == {"True", "False"}
    assert set(stats["columns"]) >= {"key", "height", "speeds"}


def test_metrics_name_routes_and_not_what_clients_write(client: Client, index: Index) -> None:
    client.get(f"/clips/{index.keys[0]}")
    client.get("/clips/unheard-of")
    client.get("/unheard-of")
    text = client.get("/metrics").text
    assert 'kineme_requests_total{route="/clips/{key}",status="200"}' in text
    assert 'kineme_requests_total{route="/clips/{key}",status="404"}' in text
    assert 'kineme_requests_total{route="none",status="404"}' in text
    assert 'kineme_request_seconds_bucket{le="0.5",route="/clips/{key}"}' in text
    assert "kineme_clips 40.0" in text
    assert "unheard-of" not in text


def test_the_description_is_whole(client: Client) -> None:
    document = client.get("/openapi.json").json()
    paths = document["paths"]
    for route, method in (
        ("/search", "post"),
        ("/predict", "post"),
        ("/swap", "post"),
        ("/clips/{key}", "get"),
        ("/clips/{key}/video", "get"),
        ("/clips/{key}/strip.png", "get"),
        ("/stats", "get"),
        ("/healthz", "get"),
        ("/metrics", "get"),
    ):
        assert paths[route][method]["summary"]
    content = paths["/search"]["post"]["requestBody"]["content"]
    assert content["application/json"]["examples"]
    assert content["multipart/form-data"]["schema"]["properties"]["file"]["format"] == "binary"
    references = {value for name, value in _pairs(document) if name == "$ref"}
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert {f"#/components/schemas/{name}" for name in ("Question", "Problem", "SearchAnswer")} <= references


def _pairs(tree: Any) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [*tree.items(), *(pair for value in tree.values() for pair in _pairs(value))]
    return [pair for value in tree for pair in _pairs(value)] if isinstance(tree, list) else []


def test_the_examples_of_the_description_are_understood(client: Client) -> None:
    """But for their clips, which are of another index."""
    document = client.get("/openapi.json").json()
    for route in ("/search", "/predict", "/swap"):
        examples = document["paths"][route]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            response = client.post(route, json=example["value"])
            detail = problem_of(response, response.status_code)
            assert "is no clip of this index" in detail or "have 24 dimensions" in detail
