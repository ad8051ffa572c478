"""An index that is replaced while the service answers from it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from service_parts import Client, problem_of, send, serving, video_bytes

from kineme.pipeline.indexing import add_videos, flow_run, index_run
from kineme.pipeline.serving import RunStudio
from kineme.retrieval.growing import add_clips, compact, remove_clips
from kineme.retrieval.index import open_index
from kineme.retrieval.vectors import SPACES, ClipVectors


@pytest.fixture
def folder(digits_index: Path, tmp_path: Path) -> Path:
    """An index that may be changed."""
    return Path(shutil.copytree(digits_index, tmp_path / "index"))


@pytest.fixture
def changing(folder: Path, studio: RunStudio) -> Iterator[Client]:
    with serving(folder, studio) as client:
        yield client


def health_when(client: Client, **wanted: Any) -> dict[str, Any]:
    """What /healthz says once it says ``wanted``."""
    for _ in range(600):
        health: dict[str, Any] = client.get("/healthz").json()
        if wanted.items() <= health.items():
            return health
        time.sleep(0.1)
    pytest.fail(f"not {wanted} after a minute: {health}")


def test_what_is_added_and_removed_is_answered_from_then_on(changing: Client, folder: Path, tmp_path: Path) -> None:
    gone, stays = changing.keys[:2]
    opened = changing.desk.library.current()
    video = tmp_path / "new.mp4"
    video.write_bytes(video_bytes(tmp_path, 8))
    add_videos(folder, [video])
    remove_clips(folder, [gone])
    assert health_when(changing, generation=3)["clips"] == 40
    problem_of(changing.get(f"/clips/{gone}"), 404)
    answer = send(changing, video.read_bytes(), k=1).json()
    assert answer["hits"][0]["source"].endswith("new.mp4")
    assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert changing.get(answer["hits"][0]["video"]).status_code == 200
    assert "kineme_index_generation 3.0" in changing.get("/metrics").text
    # Whoever still works with the old one sees what it had, though its files are gone.
    compact(folder)
    assert opened.index.film(gone)
    assert opened.index.clip(opened.index.row_of(stays)).key == stays


def test_a_clip_without_pictures_is_told(changing: Client, folder: Path) -> None:
    index, key = open_index(folder), "bare-000000"
    vectors = {space: index.vector(index.keys[0], space)[None] for space in SPACES}
    add_clips(folder, ClipVectors([key], **vectors), [replace(index.clip(0), key=key)], [])
    health_when(changing, generation=2)
    for part in ("video", "strip.png"):
        told = problem_of(changing.get(f"/clips/{key}/{part}"), 404)
        assert "without pictures" in told
        assert str(folder) not in told


def test_an_index_by_another_encoder_takes_its_place(changing: Client, folder: Path, digits: Path) -> None:
    before = changing.get("/stats").json()["dims"]
    settings = ["clip_frames=8", "frame_size=32", "cells=2"]
    with flow_run(settings) as run:
        index_run(run, digits / "shards", folder, overwrite=True)
    while (stats := changing.get("/stats").json())["encoder"] != "motion-histogram":
        time.sleep(0.1)
    assert stats["dims"] != before
    source = digits / "videos" / changing.get(f"/clips/{changing.keys[0]}").json()["source"]
    query = send(changing, source.read_bytes()).json()["query"]
    assert len(query["vectors"]["motion"]) == stats["dims"]["motion"]


def test_if_the_new_one_cannot_be_opened_the_old_one_stays(changing: Client, folder: Path) -> None:
    good = (folder / "index.json").read_text()
    (folder / "index.json").write_text('{"kind": "kineme index", "schema": 99}')
    health = health_when(changing, status="stale")
    assert (health["clips"], health["generation"]) == (40, 1)
    assert "schema 99" in health["trouble"]
    assert str(folder) not in health["trouble"]
    assert changing.post("/search", json={"key": changing.keys[0]}).status_code == 200
    (folder / "index.json").unlink()
    time.sleep(0.2)
    assert changing.get("/healthz").json()["status"] == "stale"
    (folder / "index.json").write_text(good)
    assert "trouble" not in health_when(changing, status="ok")
    shutil.rmtree(folder)
    assert changing.post("/search", json={"key": changing.keys[0]}).status_code == 200


def test_under_load_no_request_fails_while_it_is_replaced(changing: Client, folder: Path) -> None:
    keys = changing.keys[20:]
    stop = threading.Event()
    statuses: list[list[int]] = [[] for _ in range(8)]

    def ask(number: int) -> None:
        with Client(base_url=changing.base_url, timeout=60) as own:
            while not stop.is_set():
                key = keys[len(statuses[number]) % len(keys)]
                statuses[number].append(own.post("/search", json={"key": key, "where": "height = 64"}).status_code)
                statuses[number].append(own.get(f"/clips/{key}/video").status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(statuses))]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            remove_clips(folder, [changing.keys[0]])
            compact(folder)
            health_when(changing, generation=3 + 2 * number)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for each in statuses for status in each} == {200}
    assert changing.get("/healthz").json()["clips"] == 30
