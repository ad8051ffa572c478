"""Where in which video: long videos in which a known motion occurs in a known span, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import call
from PIL import Image

from kineme.shards.codec import encode_clip
from kineme.shards.records import read_records

FPS = 10
SIZE = 64
CLIP_FRAMES = 8
CLIP_S = CLIP_FRAMES / FPS
STEPS = {"right": (0, 2), "left": (0, -2), "down": (2, 0), "up": (-2, 0)}
"""Pixels a frame: rows, columns."""


def film(path: Path, *scenes: tuple[str, float], seed: int, tint: tuple[float, float, float] = (1, 1, 1)) -> Path:
    """A cloudy pattern that moves as a whole: each scene is a direction and seconds. ``tint`` is how it looks."""
    noise = np.random.default_rng(seed).random((SIZE, SIZE)).astype(np.float32)
    clouds = cv2.GaussianBlur(np.tile(noise, (3, 3)), (0, 0), 2)[SIZE : 2 * SIZE, SIZE : 2 * SIZE]
    clouds = (clouds - clouds.min()) / np.ptp(clouds)
    frames, row, column = [], 0, 0
    for direction, seconds in scenes:
        for _ in range(round(seconds * FPS)):
            row, column = row + STEPS[direction][0], column + STEPS[direction][1]
            shown = np.roll(clouds, (row, column), (0, 1))[..., None] * np.array(tint)
            frames.append((255 * shown).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_clip(np.stack(frames), FPS)[0])
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """index/, of three films, and films/ that ask. "down" occurs in one of them only, from 12 to 16 s."""
    root = tmp_path_factory.mktemp("spans")
    film(root / "library" / "a.mp4", ("right", 12), ("down", 4), ("right", 14), seed=1)
    film(root / "library" / "b.mp4", ("left", 20), ("right", 8), seed=2, tint=(1, 0.2, 0.2))
    film(root / "library" / "c.mp4", ("right", 10), ("left", 10), seed=3, tint=(0.2, 0.2, 1))
    film(root / "films" / "long.mp4", ("up", 5), ("down", 4), ("up", 11), seed=4)
    film(root / "films" / "falls.mp4", ("down", 0.8), seed=5)
    film(root / "films" / "blue.mp4", ("up", 0.8), seed=6, tint=(0.2, 0.2, 1))
    with pytest.MonkeyPatch.context() as patch:
        shards = root / "shards"
        ingest = ["--out", shards, "--size", SIZE, "--clip-frames", CLIP_FRAMES, "--workers", 1]
        assert call(patch, "ingest", root / "library", *ingest) == 0
        flow = ["--encoder", "motion-histogram", "--set", f"clip_frames={CLIP_FRAMES}"]
        assert call(patch, "index", *flow, "--data", shards, "--out", root / "index") == 0
    return root


@pytest.fixture
def ask(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def ask(*arguments: object, code: int = 0) -> tuple[list[dict], str]:
        capsys.readouterr()
        assert call(monkeypatch, "query", root / "index", *arguments, "--json") == code
        said = capsys.readouterr()
        return json.loads(said.out or "[]"), said.err

    return ask


def test_a_part_of_a_long_video_finds_the_part_that_moves_so(root: Path, ask) -> None:
    spans, said = ask(root / "films" / "long.mp4", "--span", "5:9")
    best = spans[0]
    assert list(best) == ["rank", "score", "source", "start_s", "end_s", "keys", "query_start_s", "query_end_s"]
    assert best["source"] == "a.mp4"
    # Clips were cut every 0.8 s from the beginning, so that the first ones of "down" begin at 12 s and end at 16 s.
    assert (best["start_s"], best["end_s"]) == pytest.approx((12, 16))
    assert len(best["keys"]) == 5
    assert 5 <= best["query_start_s"] < best["query_end_s"] <= 9
    assert best["score"] > 0.95 > max((span["score"] for span in spans[1:]), default=0)
    assert "long.mp4: 5 to 9 s ask as 9 clips of 8 frames, resized to 64x64 px, at 10 frames a second" in said


def test_the_rest_of_the_long_video_finds_other_parts(root: Path, ask) -> None:
    spans, _ = ask(root / "films" / "long.mp4", "--span", "9:", "-k", 3)
    assert all(span["score"] < 0.95 for span in spans)
    assert max(span["query_end_s"] for span in spans) <= 20


def test_all_of_a_video_asks(root: Path, ask) -> None:
    """A film of the library, asked with whole, is found whole: every clip is found by the window that is it."""
    spans, said = ask(root / "library" / "a.mp4", "--span", "0:", "--where", "source = 'a.mp4'", "-k", 1)
    assert spans[0]["score"] == pytest.approx(1, abs=1e-5)
    assert "0 to 30 s ask as 74 clips" in said


def test_hits_of_one_clip_are_merged_on_request(root: Path, ask) -> None:
    clip = root / "films" / "falls.mp4"
    hits, _ = ask(clip, "-k", 5)
    assert {hit["source"] for hit in hits} == {"a.mp4"}
    assert all(12 <= hit["start_s"] < hit["end_s"] <= 16.0001 for hit in hits)
    spans, said = ask(clip, "-k", 5, "--merge")
    assert spans[0]["keys"] == [hit["key"] for hit in sorted(hits, key=lambda hit: hit["start_s"])]
    assert (spans[0]["start_s"], spans[0]["end_s"]) == pytest.approx((12, 16))
    assert (spans[0]["query_start_s"], spans[0]["query_end_s"]) == pytest.approx((0, CLIP_S))
    assert "-k 5" not in said, "fewer spans than hits are no shortage"


def test_a_filter_holds_for_spans(root: Path, ask) -> None:
    spans, _ = ask(root / "films" / "long.mp4", "--span", "5:9", "--where", "source <> 'a.mp4'", "-k", 2)
    assert spans
    assert {span["source"] for span in spans} <= {"b.mp4", "c.mp4"}


def test_this_motion_and_that_appearance(root: Path, ask) -> None:
    """Moves down like none that is blue, looks blue like none that moves down: the weight decides."""
    falls, blue = root / "films" / "falls.mp4", root / "films" / "blue.mp4"
    sources = {}
    for weight in (0, 0.5, 1):
        hits, _ = ask(falls, "--looks", blue, "--weight", weight, "-k", 3)
        sources[weight] = {hit["source"] for hit in hits}
    assert sources[0] == {"c.mp4"}
    assert sources[1] == {"a.mp4"}
    moved, _ = ask(falls, "-k", 40)
    only, _ = ask(falls, "--looks", blue, "--weight", 1, "-k", 40)
    assert [hit["key"] for hit in only] == [hit["key"] for hit in moved]


def test_several_clips_ask_together(root: Path, ask) -> None:
    """What moves to the left and what moves to the right: their mean is nearer to either than to what moves down."""
    every, _ = ask(root / "films" / "falls.mp4", "-k", 100)
    keys = {
        scene: next(hit["key"] for hit in every if hit["source"] == "c.mp4" and first <= hit["start_s"] < first + 5)
        for scene, first in (("right", 1), ("left", 12))
    }
    hits, _ = ask(*keys.values(), "-k", 100)
    assert not {hit["key"] for hit in hits} & set(keys.values()), "what asks is no hit"
    assert len(hits) == len(every) - 2
    assert all(12 - CLIP_S < hit["start_s"] < 16 and hit["source"] == "a.mp4" for hit in hits[-5:])
    alone, _ = ask(keys["left"], "-k", 1)
    assert alone[0]["score"] > hits[0]["score"]


def test_the_first_clip_of_a_long_video_is_said_to_be_that(root: Path, ask) -> None:
    _, said = ask(root / "films" / "long.mp4", "-k", 1)
    assert "the query is 8 frames" in said
    assert "this is the first: --span 0: asks with all" in said


def test_spans_as_table_and_picture(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [root / "films" / "long.mp4", "--span", "5:9", "--looks", root / "films" / "blue.mp4", "-k", 2]
    assert call(monkeypatch, "query", root / "index", *arguments, "--sheet", tmp_path / "sheet.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "score", "source", "seconds", "of", "the", "query", "clips"]
    assert len(lines) == 3
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 4 * 96


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["films/long.mp4", "--span", "9:5"], "--span 9:5: START:END or START: in seconds"),
        (["films/long.mp4", "--span", "5"], "--span 5: START:END"),
        (["films/long.mp4", "--span", "nan:"], "--span nan:: START:END"),
        (["films/long.mp4", "--span", "five:9"], "--span five:9: START:END"),
        (["films/long.mp4", "--span", "50:"], "long.mp4: it ends after 20 s: no frame begins at 50 s or later"),
        (["films/long.mp4", "--span", "5:5.4"], "4 sampled frames from 5 to 5.4 s are fewer than the 8 of a clip"),
        (["films/long.mp4", "films/falls.mp4", "--span", "0:"], "over one video, and 2 clips were given"),
        (["KEY", "--span", "0:"], "is a clip of the index; name a video file"),
        (["films/falls.mp4", "--weight", "0.5"], "only --by both and --looks weigh"),
        (["films/falls.mp4", "--looks", "films/blue.mp4", "--by", "motion"], "looks asks by both; leave --by out"),
        (["films/falls.mp4", "--looks", "films/green.mp4"], "neither a video file nor a key"),
        (["films/falls.mp4", "--sheet", "sheet.mp3"], "no picture's"),
    ],
)
def test_what_cannot_be_asked_is_one_line(root: Path, ask, arguments: list[str], reason: str) -> None:
    key = read_records(root / "shards")[0].key
    given = [key if text == "KEY" else root / text if "films/" in text else text for text in arguments]
    _, said = ask(*given, code=2)
    assert reason in said
    assert len([line for line in said.splitlines() if line.startswith("kineme: ")]) == 1
    assert "Traceback" not in said
