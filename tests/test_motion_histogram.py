"""Histograms of optical flow: against plain loops, on squares whose motion is known, and from shards to a query."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import FRAMES
from typer.testing import CliRunner

from kineme.pipeline.commands import indexing, search
from kineme.pipeline.encoders import load_encoder
from kineme.pipeline.encoders.motion_histogram import (
    MotionHistogramEncoder,
    MotionHistogramRecipe,
    flow,
    histograms_of_flow,
    motion_histograms,
    write_recipe,
)
from kineme.pipeline.errors import RunError
from kineme.retrieval.evaluation import Question, precisions_at_k
from kineme.retrieval.index import Index, open_index
from kineme.shards.engine_local import LocalEngine
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings, ingest
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import FetchOptions
from kineme.shards.sources.registry import find_source

SIZE = 64
RIGHT, DOWN = 0, 2
app = typer.Typer()
app.command()(indexing.index)
app.command()(search.query)


def moving_square(
    velocity: tuple[int, int], *, start: tuple[int, int] = (22, 22), seed: int = 0, frames: int = 5
) -> np.ndarray:
    """A textured square of 16 pixels on black, whose corner starts at x, y: (T, 64, 64, 3) uint8."""
    texture = np.random.default_rng(seed).integers(60, 256, (4, 4, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    clip = np.zeros((frames, SIZE, SIZE, 3), np.uint8)
    for t in range(frames):
        x, y = start[0] + t * velocity[0], start[1] + t * velocity[1]
        clip[t, y : y + 16, x : x + 16] = texture
    return clip


def histograms(clip: np.ndarray, **changed: float) -> np.ndarray:
    """(T-1, cells, directions + 1), the roots undone."""
    recipe = MotionHistogramRecipe(**changed)
    return motion_histograms(clip[None], recipe).reshape(len(clip) - 1, -1, recipe.directions + 1) ** 2


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


def slow_histograms(field: np.ndarray, bins: int, cells: int, still_below: float) -> np.ndarray:
    steps, height, width, _ = field.shape
    out = np.zeros((steps, cells * cells, bins + 1))
    for t in range(steps):
        sizes = [0] * cells * cells
        for row in range(height):
            for column in range(width):
                cell = (row * cells // height) * cells + column * cells // width
                sizes[cell] += 1
                x, y = (float(v) for v in field[t, row, column])
                magnitude = math.hypot(x, y)
                if magnitude < still_below:
                    out[t, cell, bins] += 1
                    continue
                for direction in range(bins):
                    angle = abs(math.remainder(math.atan2(y, x) - 2 * math.pi * direction / bins, 2 * math.pi))
                    out[t, cell, direction] += magnitude * max(0.0, 1 - angle * bins / (2 * math.pi))
        for cell, size in enumerate(sizes):
            out[t, cell] /= size
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 13),
    st.integers(1, 4),
    st.sampled_from([0.1, 0.4, 2.0]),
    st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)),
)
def test_histograms_against_plain_loops(
    seed: int, bins: int, cells: int, still_below: float, shape: tuple[int, int, int]
) -> None:
    # Whole numbers among them: directions that lie just on a bin, and no motion at all.
    rng = np.random.default_rng(seed)
    field = np.where(rng.random((*shape, 1)) < 0.5, rng.normal(size=(*shape, 2)), rng.integers(-2, 3, (*shape, 2)))
    field = field.astype(np.float32)
    recipe = MotionHistogramRecipe(directions=bins, cells=cells, still_below=still_below)
    found = histograms_of_flow(field, recipe)
    np.testing.assert_allclose(found, slow_histograms(field, bins, cells, still_below), atol=1e-6)


def test_flow_is_the_displacement_in_pixels() -> None:
    clip = moving_square((3, -2))
    field = flow(clip)
    assert field.shape == (4, SIZE, SIZE, 2)
    assert field.dtype == np.float32
    for t in range(4):
        x, y = 22 + 3 * t, 22 - 2 * t
        np.testing.assert_allclose(field[t, y + 2 : y + 14, x + 2 : x + 14].mean(axis=(0, 1)), [3, -2], atol=0.1)
    assert np.abs(field[:, :4]).max() < 0.01


@pytest.mark.parametrize("number", range(8))
def test_each_direction_has_its_bin(number: int) -> None:
    """From the right, clockwise as seen."""
    x, y = [(3, 0), (2, 2), (0, 3), (-2, 2), (-3, 0), (-2, -2), (0, -3), (2, -2)][number]
    moving = histograms(moving_square((x, y)))[:, 0, :8].sum(axis=0)
    assert moving.argmax() == number
    assert moving[number] > 0.8 * moving.sum()


def test_where_it_moves_is_not_told_and_how_it_moves_is() -> None:
    right = histograms(moving_square((3, 0)))
    elsewhere = histograms(moving_square((3, 0), start=(14, 34)))
    np.testing.assert_allclose(elsewhere, right, atol=1e-3)
    down = histograms(moving_square((0, 3)))
    np.testing.assert_allclose(down[..., DOWN], right[..., RIGHT], atol=1e-3)
    assert cosine(np.sqrt(right), np.sqrt(elsewhere)) > 0.999
    assert cosine(np.sqrt(right), np.sqrt(down)) < 0.8


def test_who_moves_matters_less_than_how() -> None:
    clips = {(v, seed): np.sqrt(histograms(moving_square(v, seed=seed))) for v in [(3, 0), (2, 2)] for seed in range(5)}
    same = [cosine(a, b) for (v, i), a in clips.items() for (w, j), b in clips.items() if v == w and i < j]
    other = [cosine(a, b) for (v, _), a in clips.items() for (w, _), b in clips.items() if v != w]
    assert min(same) > max(other) + 0.1
    assert min(same) > 0.99


def test_the_amount_of_motion_is_kept() -> None:
    """Also by the cosine: beside the bin of still pixels."""
    slow, fast, none = (histograms(moving_square(v)) for v in [(1, 0), (4, 0), (0, 0)])
    assert fast[..., :8].sum() > 2 * slow[..., :8].sum()
    assert cosine(np.sqrt(slow), np.sqrt(fast)) < 0.95
    np.testing.assert_array_equal(none, np.eye(9)[8] * np.ones((4, 1, 1)))


def test_cells_say_where() -> None:
    left, right = (histograms(moving_square((0, 2), start=(x, 8)), cells=2) for x in (4, 44))
    assert left.shape == (4, 4, 9)
    assert left[:, [0, 2], DOWN].sum() > 100 * left[:, [1, 3], DOWN].sum()
    np.testing.assert_allclose(left[:, [0, 2]], right[:, [1, 3]], rtol=0.2, atol=0.02)


def test_vectors_have_the_sizes_and_the_sources_that_are_named(tmp_path: Path) -> None:
    write_recipe(tmp_path, ["clip_frames=5", "cells=2", "directions=6"])
    encoder = load_encoder(tmp_path, torch.device("cpu"))
    assert isinstance(encoder, MotionHistogramEncoder)
    clips = np.stack([moving_square((2, 1), seed=seed) for seed in range(3)])
    motion, appearance = encoder.encode(clips)
    assert motion.shape == (3, encoder.motion_dim) == (3, 4 * 4 * 7)
    assert appearance.shape == (3, encoder.appearance_dim) == (3, 256)
    assert motion.dtype == appearance.dtype == np.float32
    np.testing.assert_array_equal(motion, motion_histograms(clips, MotionHistogramRecipe(cells=2, directions=6)))
    # Shown twice as large, they are resized to what they were.
    for vectors, larger in zip((motion, appearance), encoder.encode(clips.repeat(2, 2).repeat(2, 3)), strict=True):
        np.testing.assert_allclose(larger, vectors, atol=1e-6)


def test_appearance_against_plain_loops() -> None:
    clip = np.random.default_rng(4).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    encoder = MotionHistogramEncoder(MotionHistogramRecipe(clip_frames=3, frame_size=16))
    thumbnail, counts = np.zeros((8, 8, 3)), np.zeros((4, 4, 4))
    for t in range(3):
        for row in range(16):
            for column in range(16):
                pixel = clip[t, row, column]
                thumbnail[row // 2, column // 2] += pixel
                counts[tuple(pixel // 64)] += 1
    expected = [thumbnail.ravel() / np.linalg.norm(thumbnail), np.sqrt(counts.ravel() / counts.sum())]
    np.testing.assert_allclose(encoder.encode(clip[None])[1][0], np.concatenate(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("direction=4", "unknown key direction (did you mean directions?)"),
        ("directions=1", "directions is 1: input should be greater than or equal to 2"),
        ("clip_frames", "expected key=value"),
        ("kind=sequential-vae", "kind is 'sequential-vae'"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as refusal:
        write_recipe(tmp_path, [setting])
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/ and shards/ of 150 moving digits, enough to share their pairs of directions; and index/ of them all."""
    root = tmp_path_factory.mktemp("many digits")
    source = find_source("moving-digits")
    source.fetch(root / "videos", FetchOptions(clips=150, frames=FRAMES, train_fraction=0.5))
    ingest(source, root / "videos", root / "shards", IngestSettings(sampling=Sampling(FRAMES)), LocalEngine(1))
    result = run(
        *("index", "--encoder", "motion-histogram", "--data", root / "shards", "--out", root / "index"),
        *("--set", f"clip_frames={FRAMES}"),
    )
    assert f"150 clips indexed (motion {9 * (FRAMES - 1)}, appearance 256 dimensions)" in result.stdout
    return root


@pytest.fixture(scope="module")
def index(many: Path) -> Index:
    return open_index(many / "index")


def test_the_index_holds_the_encoder_it_was_made_with(index: Index) -> None:
    assert index.info.encoder == "motion-histogram"
    assert [path.name for path in index.encoder_folder.rglob("*")] == ["recipe.yaml"]
    assert load_encoder(index.encoder_folder).clip_frames == FRAMES


@pytest.mark.parametrize("by", ["motion", "appearance"])
def test_a_video_asks_what_its_clip_asks(index: Index, many: Path, by: str) -> None:
    own = index.keys[7]
    video = many / "videos" / index.clip(7).source
    by_file, by_key = (
        {hit["key"]: hit["score"] for hit in json.loads(run("query", index.folder, clip, "--by", by, "--json").stdout)}
        for clip in (video, own)
    )
    assert by_file.pop(own) == pytest.approx(1, abs=1e-5)
    for key, score in by_file.items():
        assert by_key[key] == pytest.approx(score, abs=1e-5)


def test_by_motion_beats_chance(index: Index) -> None:
    clips = [index.clip(row).labels for row in range(index.count)]
    asked = {name: Question([labels[name] for labels in clips]) for name in ("directions", "digits")}
    found = precisions_at_k(index.space("motion"), asked, k=10)
    assert found["directions"].value > 4 * found["directions"].chance
    assert found["digits"].value < 2 * found["digits"].chance


def test_shards_that_are_too_short_are_one_line(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lower clip_frames") as refusal:
        run("index", "--encoder", "motion-histogram", "--data", digits / "shards", "--out", tmp_path / "index")
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given_encoder", "expected"),
    [
        ([], "neither RUN nor --encoder"),
        (["RUN", "--encoder", "motion-histogram"], "both RUN and --encoder"),
        (["RUN", "--set", "cells=2"], "a run keeps those it was trained with"),
    ],
)
def test_either_a_run_or_an_encoder(given_encoder: list[str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=expected) as refusal:
        run("index", *given_encoder, "--data", tmp_path, "--out", tmp_path / "index")
    assert "\n" not in str(refusal.value)
