"""POST /search: by key, by several, by vectors, by file and by a part of one; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_up_clips import make_frames
from service_parts import Client, problem_of, send

from kineme.pipeline import serving
from kineme.retrieval.blending import mean_vector, search_both
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.filters import MetadataFilter
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.search import Hit, search
from kineme.shards.codec import encode_clip


@pytest.fixture(scope="module")
def index(digits_index: Path) -> Index:
    return open_index(digits_index)


def ask(client: Client, **question: Any) -> dict[str, Any]:
    response = client.post("/search", json=question)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def same(answer: dict[str, Any], hits: list[Hit]) -> None:
    assert [(hit["rank"], hit["key"]) for hit in answer["hits"]] == [(hit.rank, hit.key) for hit in hits]
    np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], [hit.score for hit in hits], atol=1e-6)


@pytest.mark.parametrize("by", ["motion", "appearance"])
def test_a_key_asks_what_the_index_answers(client: Client, index: Index, by: Any) -> None:
    key = index.keys[3]
    answer = ask(client, key=key, by=by, k=7)
    same(answer, search(index, index.vector(key, by), by=by, k=7, exclude=[key]))
    hit = answer["hits"][0]
    stored = index.clip(index.row_of(hit["key"]))
    assert (hit["source"], hit["start_s"], hit["end_s"]) == (stored.source, stored.start_s, stored.end_s)
    assert hit["labels"] == stored.labels
    assert client.get(hit["video"]).headers["content-type"] == "video/mp4"
    assert client.get(hit["strip"]).headers["content-type"] == "image/png"
    query = answer["query"]
    assert (query["name"], query["keys"], query["windows"]) == (key, [key], 1)
    np.testing.assert_allclose(query["vectors"][by], index.vector(key, by))
    assert answer["spans"] == []


def test_a_filter_is_kept_to(client: Client, index: Index) -> None:
    key = index.keys[0]
    where = "speeds = '2-3' and height >= 64"
    answer = ask(client, key=key, where=where, k=100)
    same(answer, search(index, index.vector(key, "motion"), by="motion", k=100, where=where, exclude=[key]))
    assert {hit["labels"]["speeds"] for hit in answer["hits"]} == {"2-3"}


def test_several_ask_by_their_mean_and_are_no_hits(client: Client, index: Index) -> None:
    keys = index.keys[:3]
    mean = mean_vector(np.stack([index.vector(key, "motion") for key in keys]), "cosine")
    same(ask(client, keys=keys), search(index, mean, by="motion", exclude=keys))


def test_this_motion_that_appearance(client: Client, index: Index) -> None:
    one, other = index.keys[:2]
    answer = ask(client, key=one, looks=other, weight=0.7)
    assert answer["by"] == "both"
    motion, appearance = index.vector(one, "motion"), index.vector(other, "appearance")
    same(answer, search_both(index, motion, appearance, weight=0.7, exclude=[one, other]))


def test_the_vectors_of_an_answer_ask_again(client: Client, index: Index) -> None:
    query = ask(client, key=index.keys[5])["query"]
    same(
        ask(client, vectors=query["vectors"], by="appearance"),
        search(index, index.vector(index.keys[5], "appearance"), by="appearance"),
    )
    form = {"vectors": json.dumps(query["vectors"]), "by": "motion", "where": ""}
    response = client.post("/search", data=form)
    same(response.json(), search(index, index.vector(index.keys[5], "motion"), by="motion"))


def test_a_file_of_the_library_has_the_vectors_of_its_clip(client: Client, index: Index, digits: Path) -> None:
    clip = index.clip(0)
    answer = send(client, (digits / "videos" / clip.source).read_bytes(), k=3).json()
    assert answer["hits"][0]["key"] == clip.key
    for space in ("motion", "appearance"):
        np.testing.assert_allclose(answer["query"]["vectors"][space], index.vector(clip.key, space), atol=1e-5)
    assert answer["query"]["video"].startswith("data:video/mp4;base64,")
    assert (answer["query"]["start_s"], answer["query"]["end_s"], answer["query"]["note"]) == (0, 0.32, None)


def long_film() -> bytes:
    """44 frames at the index's rate, 25: five clips of 8, and a half."""
    return encode_clip(np.concatenate([make_frames(number, count=11, size=64) for number in range(4)]), 25.0)[0]


def test_of_a_long_file_the_first_clip_asks_and_it_says_so(client: Client) -> None:
    answer = send(client, long_film()).json()
    assert answer["query"]["note"].startswith("the file holds 5 such clips, and the first asks")
    assert (answer["query"]["start_s"], answer["query"]["end_s"]) == (0, 0.32)
    assert answer["spans"] == []


def test_a_part_of_a_file_asks_clip_by_clip(client: Client) -> None:
    answer = send(client, long_film(), start_s=0.32, end_s=1.28, k=4).json()
    query = answer["query"]
    # 24 frames: windows of 8 that begin at 0, 4, 8, 12 and 16.
    assert (query["windows"], len(query["vectors"]["motion"])) == (5, 5)
    assert (query["start_s"], query["end_s"]) == (0.32, 1.28)
    assert 1 <= len(answer["spans"]) <= 4
    for span in answer["spans"]:
        assert 0.32 <= span["query_start_s"] < span["query_end_s"] <= 1.28
        assert span["keys"]
    # The clip that is nearest to any window is both the first hit and in the first span.
    assert answer["hits"][0]["key"] in answer["spans"][0]["keys"]
    assert answer["hits"][0]["score"] == pytest.approx(answer["spans"][0]["score"])
    again = client.post("/search", json={"vectors": query["vectors"], "by": "both", "k": 4}).json()
    assert again["query"]["windows"] == 5
    assert again["spans"][0]["query_start_s"] is None


@pytest.mark.parametrize(
    ("question", "status", "reason"),
    [
        ({}, 422, "nothing to search by"),
        ({"key": "nope"}, 404, "'nope' is no clip"),
        ({"key": "../../etc/passwd"}, 404, "is no clip"),
        ({"key": "KEY", "looks": "nope"}, 404, "'nope' is no clip"),
        ({"key": "KEY", "vectors": {"motion": [1.0]}}, 422, "vectors and keys are given"),
        ({"key": "KEY", "k": 0}, 422, "k: "),
        ({"key": "KEY", "k": 10**30}, 422, "k: "),
        ({"key": "KEY", "k": 1001}, 422, "at most 1000"),
        ({"key": "KEY", "weight": 1.5}, 422, "weight: "),
        ({"key": "KEY", "by": "colour"}, 422, "by: "),
        ({"key": "KEY", "wher": "true"}, 422, "wher: "),
        ({"key": "KEY", "start_s": 1}, 422, "none is given"),
        ({"key": ["KEY"] * 99 + ["nope"]}, 404, "is no clip"),
        ({"key": ["KEY"] * 101}, 422, "key: "),
        ({"keys": ["KEY"] * 101}, 422, "keys: "),
        ({"key": {"a": 1}}, 422, "key"),
        ({"vectors": {"motion": [1.0, 2.0]}}, 422, "24 dimensions"),
        ({"vectors": {"motion": []}}, 422, "one of motion or appearance"),
        ({"vectors": {"appearance": [1, 2, 3, 4, 5]}}, 422, "has no motion vector"),
        ({"vectors": {"motion": [[1.0] * 24, [1.0] * 23]}}, 422, "different lengths"),
        ({"vectors": {"motion": [[1.0] * 24], "appearance": [[1.0] * 5] * 2}}, 422, "as many windows"),
        ({"vectors": {"motion": [1e39] * 24}}, 422, "NaN or infinity"),
        ({"vectors": {"motion": [[1.0] * 24] * 129}}, 422, "at most 128"),
        ({"key": "KEY", "where": "speeds = '2-3'; drop table clips"}, 422, "filter"),
        ({"key": "KEY", "where": "1=1) union select 1 --"}, 422, "filter"),
        ({"key": "KEY", "where": "(select count(*) from read_csv('/etc/passwd')) > 0"}, 422, "filter"),
        ({"key": "KEY", "where": "getenv('HOME') = 'x'"}, 422, "not allowed"),
        ({"key": "KEY", "where": "speed = 1"}, 422, "did you mean speeds"),
        ({"key": "KEY", "where": "regexp_matches(key, '(.?){1000}')"}, 422, "counted repetition"),
        ({"key": "KEY", "where": "regexp_matches(key, '(.?){' || '1000}')"}, 422, "counted repetition"),
        ({"key": "KEY", "where": "key ~ '" + "x*" * 200 + "'"}, 422, "longer than 300"),
        ({"key": "KEY", "where": f"regexp_matches(key, '{'x' * 200}' || '{'y' * 200}')"}, 422, "longer than 300"),
    ],
)
def test_what_cannot_be_asked_is_told(
    client: Client, question: dict[str, Any], status: int, reason: str, index: Index
) -> None:
    text = json.dumps(question).replace("KEY", index.keys[0])
    response = client.post("/search", content=text, headers={"content-type": "application/json"})
    detail = problem_of(response, status)
    assert reason in detail
    assert str(index.folder) not in detail


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"key": ', "application/json", 400),
        (b'{"vectors": {"motion": [NaN]}}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[1]", "application/json", 422),
        (b"", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "multipart/form-data", 400),
        (b"{}", "multipart/form-data; boundary=x", 400),
        (b"key=%ff%fe", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=1"] * 200), "application/x-www-form-urlencoded", 400),
        (b'{"key": "' + b"x" * (8 << 20) + b'"}', "application/json", 413),
    ],
)
def test_bodies_that_cannot_be_read(client: Client, content: bytes, kind: str, status: int) -> None:
    problem_of(client.post("/search", content=content, headers={"content-type": kind}), status)


def test_the_framework_answers_with_problems_too(client: Client) -> None:
    problem_of(client.get("/nothing/here"), 404)
    problem_of(client.put("/search"), 405)


def test_a_filter_that_takes_too_long_is_given_up() -> None:
    rows = pa.table({"source": [f"walk/daria/some/long/path/person{number}_take.mp4" for number in range(20_000)]})
    metadata = MetadataFilter(rows, most_s=0.2)
    with pytest.raises(RetrievalError, match=r"takes longer than 0\.2 s"):
        metadata.rows("regexp_matches(source, '" + r"[^\pL]?\pN?" * 18 + "z')")
    assert metadata.rows("source like '%person7!_%' escape '!'").tolist() == [7]


@pytest.mark.parametrize("start_s", [20.5, 1e300])
def test_a_part_beyond_the_end_is_told(client: Client, start_s: float) -> None:
    assert "it ends after 1.76 s" in problem_of(send(client, long_film(), start_s=start_s), 422)


def test_of_a_long_part_the_first_clips_ask_and_it_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_WINDOWS", 3)
    query = send(client, long_film(), start_s=0).json()["query"]
    assert (query["windows"], query["start_s"], query["end_s"]) == (3, 0, 0.64)
    assert query["note"] == "no more than 3 clips ask together: those up to 0.64 s"
    assert send(client, long_film(), start_s=0, end_s=0.64).json()["query"]["note"] is None
