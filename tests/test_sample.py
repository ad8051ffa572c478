"""``kineme sample``: every picture of section 5.3, against the model asked by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call
from PIL import Image
from tiny_runs import FRAMES, TEST_CLIPS

from kineme.pipeline.encoders.sequential_vae import SequentialVAEEncoder
from kineme.pipeline.errors import RunError
from kineme.pipeline.generation import sequential_vae_of
from kineme.pipeline.protocols.chosen_clips import chosen_batches
from kineme.pipeline.run import Run, load_run
from kineme.pipeline.sampling_pictures import (
    SHOWS,
    ReadClips,
    Strips,
    interpolation,
    random_content,
    random_films,
    random_motion,
    read_clips,
    sample_strips,
    swaps,
)
from kineme.shards.batch import ClipBatch
from kineme.shards.errors import DataError
from kineme.shards.sample import Frames

CPU = torch.device("cpu")
SIZE = 32
WHITE = 255


@pytest.fixture(scope="module")
def run(encoder_run: Path) -> Run:
    """The tiny run, its decoder made sensitive: two epochs leave all its films the same grey."""
    run = load_run(encoder_run, CPU)
    with torch.no_grad():
        for weight in sequential_vae_of(run).decoder.parameters():
            if weight.ndim > 1:
                weight.mul_(4)
    return run


@pytest.fixture(scope="module")
def batch(run: Run, digits: Path) -> ClipBatch:
    (batch,) = chosen_batches(digits / "shards", SequentialVAEEncoder(run), "test", 3)
    return batch


@pytest.fixture(scope="module")
def clips(run: Run, batch: ClipBatch) -> ReadClips:
    """Three clips, with f and z that differ by more than those that so short a training reads."""
    noise = torch.Generator().manual_seed(0)
    f, z = torch.randn(3, 5, generator=noise), torch.randn(3, FRAMES, 3, generator=noise)
    return dataclasses.replace(read_clips(run, batch), f=f, z=z)


@torch.no_grad()
def decoded(run: Run, f: torch.Tensor, z: torch.Tensor) -> Frames:
    """One film by the model itself: f (f_dim,), z (T, z_dim)."""
    film = run.task.model.decode(f[None], z[None])[0]
    return (film * 255).round().movedim(1, -1).numpy()


def assert_film(shown: Frames, expected: Frames) -> None:
    assert shown.dtype == np.uint8
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= 1


def seeded(seed: int, draw: Callable[..., Strips], *arguments: object) -> Strips:
    torch.manual_seed(seed)
    return draw(*arguments)


def test_clips_are_read_as_posterior_means(run: Run, batch: ClipBatch) -> None:
    clips = read_clips(run, batch)
    # Stored at 64 pixels and read at 32: each is the mean of four.
    frames = batch.frames.double().unflatten(4, (SIZE, 2)).unflatten(3, (SIZE, 2)).mean(dim=(4, 6))
    assert_film(clips.films, frames.round().movedim(2, -1).numpy())
    with torch.no_grad():
        f, z = run.task.model.encode((frames / 255).float())
    torch.testing.assert_close(clips.f, f.mean)
    torch.testing.assert_close(clips.z, z.mean)
    for text, record in zip(clips.texts, batch.records, strict=True):
        assert f"speeds\N{NO-BREAK SPACE}{record.labels['speeds']}" in text


def test_a_row_of_swaps_has_the_content_of_its_clip_and_a_column_the_motion(run: Run, clips: ReadClips) -> None:
    rows = swaps(sequential_vae_of(run), clips)
    assert [caption.split("\n")[0] for caption in rows] == [
        "motion of the clips",
        *(f"content of clip {number}" for number in (1, 2, 3)),
    ]
    # Of 8 frames five are shown in each of three cells, behind one frame at the left.
    times, narrow, wide = [0, 2, 4, 5, 7], 1, 10
    cell = 5 * SIZE + 4 * narrow
    lefts = [SIZE + wide + number * (cell + wide) for number in range(3)]
    films = [{left: cut(row, left, 5) for left in lefts} for row in rows.values()]
    assert all(row.shape == (1, SIZE, lefts[-1] + cell, 3) for row in rows.values())
    for column, left in enumerate(lefts):
        np.testing.assert_array_equal(films[0][left], clips.films[column][times])
        for number in range(3):
            assert_film(films[1 + number][left], decoded(run, clips.f[number], clips.z[column])[times])
    head, *below = rows.values()
    assert (head[:, :, :SIZE] == WHITE).all()
    for number, row in enumerate(below):
        np.testing.assert_array_equal(row[0, :, :SIZE], clips.films[number][0])
    # By more than the rounding that the comparison allows, so that a swap of rows and columns is seen.
    for row, left in ((2, lefts[0]), (1, lefts[1])):
        assert np.abs(films[1][lefts[0]].astype(int) - films[row][left]).max() > 8


def cut(row: Frames, left: int, count: int) -> Frames:
    starts = [left + number * (SIZE + 1) for number in range(count)]
    return np.stack([row[0, :, start : start + SIZE] for start in starts])


def test_drawn_content_keeps_the_motion_of_the_clip_above(run: Run, clips: ReadClips) -> None:
    named = seeded(4, random_content, sequential_vae_of(run), clips, 2)
    assert list(named)[:3] == [clips.caption(0), "f drawn 1\nz of clip 1", "f drawn 2\nz of clip 1"]
    strips = list(named.values())
    torch.manual_seed(4)
    f = torch.randn(2, 5)
    assert len(strips) == 3 * 3
    for number in range(3):
        above, *below = strips[3 * number : 3 * number + 3]
        np.testing.assert_array_equal(above, clips.films[number])
        for drawn, film in enumerate(below):
            assert_film(film, decoded(run, f[drawn], clips.z[number]))


def test_drawn_motion_keeps_the_content_of_the_clip_above(run: Run, clips: ReadClips) -> None:
    strips = list(seeded(4, random_motion, sequential_vae_of(run), clips, 2).values())
    torch.manual_seed(4)
    with torch.no_grad():
        z = run.task.model.sample_motion(2, FRAMES)
    assert len(strips) == 3 * 3
    for number in range(3):
        above, *below = strips[3 * number : 3 * number + 3]
        np.testing.assert_array_equal(above, clips.films[number])
        for drawn, film in enumerate(below):
            assert_film(film, decoded(run, clips.f[number], z[drawn]))


def test_drawn_films_take_nothing_from_the_clips(run: Run, batch: ClipBatch, clips: ReadClips) -> None:
    strips = list(seeded(4, random_films, sequential_vae_of(run), clips, 2).values())
    np.testing.assert_array_equal(strips[:3], clips.films)
    torch.manual_seed(4)
    f = torch.randn(2, 5)
    with torch.no_grad():
        z = run.task.model.sample_motion(2, FRAMES)
    for drawn, film in enumerate(strips[3:]):
        assert_film(film, decoded(run, f[drawn], z[drawn]))
    assert len(strips) == 5


def test_an_interpolation_changes_one_of_the_two_at_a_time(run: Run, clips: ReadClips) -> None:
    strips = interpolation(sequential_vae_of(run), clips, 1)
    assert len(strips) == 3 + 2 * (3 + 3)
    f, z = clips.f, clips.z
    expected = {
        "f 0% of clip 3\nz of clip 2": (f[1], z[1]),
        "f 50% of clip 3\nz of clip 2": ((f[1] + f[2]) / 2, z[1]),
        "f 100% of clip 3\nz of clip 2": (f[2], z[1]),
        "z 0% of clip 3\nf of clip 2": (f[1], z[1]),
        "z 50% of clip 3\nf of clip 2": (f[1], (z[1] + z[2]) / 2),
        "z 100% of clip 3\nf of clip 2": (f[1], z[2]),
    }
    for caption, latents in expected.items():
        assert_film(strips[caption], decoded(run, *latents))


def test_a_line_of_very_many_films_loses_none(run: Run, clips: ReadClips) -> None:
    assert len(interpolation(sequential_vae_of(run), clips, 120)) == 3 + 2 * 2 * 122


@pytest.mark.parametrize("show", SHOWS)
def test_the_seed_decides_clips_and_draws(show: str, run: Run, digits: Path) -> None:
    first, again, other = (sample_strips(run, digits / "shards", show, draws=2, seed=seed) for seed in (1, 1, 2))
    assert list(first) == list(again)
    for caption, film in first.items():
        np.testing.assert_array_equal(film, again[caption])
    assert not all(np.array_equal(a, b) for a, b in zip(first.values(), other.values(), strict=True))


def test_another_seed_draws_others_from_the_same_clips(run: Run, clips: ReadClips) -> None:
    for draw, drawn in ((random_content, 1), (random_motion, 1), (random_films, 3)):
        a, b = (list(seeded(seed, draw, sequential_vae_of(run), clips, 1).values()) for seed in (1, 2))
        np.testing.assert_array_equal(a[0], b[0])
        assert not np.array_equal(a[drawn], b[drawn])


def test_clips_can_be_picked_by_a_label(run: Run, digits: Path) -> None:
    strips = sample_strips(run, digits / "shards", "random", clips=2, draws=1, split="wall_hit=true")
    assert sum("wall_hit\N{NO-BREAK SPACE}True" in caption for caption in strips) == 2
    with pytest.raises(DataError, match="no clips of split 'valid'"):
        sample_strips(run, digits / "shards", "random", split="valid")


def test_numbers_that_cannot_be_drawn(run: Run, digits: Path) -> None:
    shards = digits / "shards"
    with pytest.raises(RunError, match="--draws 0: at least 1 is needed for random"):
        sample_strips(run, shards, "random", draws=0)
    with pytest.raises(RunError, match="--clips 1: at least 2 is needed for interpolation"):
        sample_strips(run, shards, "interpolation", clips=1)
    with pytest.raises(RunError, match="--seed -1: at least 0"):
        sample_strips(run, shards, "swaps", seed=-1)
    wanted = TEST_CLIPS + 1
    with pytest.raises(RunError, match=f"{TEST_CLIPS} clips of split test, fewer than the {wanted} asked for"):
        sample_strips(run, shards, "swaps", clips=wanted)


ROWS = {"swaps": 5, "random-content": 8, "random-motion": 8, "random": 5, "interpolation": 12}


@pytest.mark.parametrize("show", SHOWS)
def test_the_command_writes_one_row_a_strip(
    show: str, encoder_run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new folder" / "picture.png"
    assert call(monkeypatch, "sample", encoder_run, "--data", digits / "shards", "--show", show, "--out", out) == 0
    with Image.open(out) as picture:
        assert picture.height == 2 * 16 + ROWS[show] * (96 + 14) - 14


def test_errors_are_one_line_before_anything_is_written(
    encoder_run: Path,
    predictor_run: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    png, text = tmp_path / "a.png", tmp_path / "a.txt"
    for run, show, out, more, expected in (
        (encoder_run, "swap", png, (), f"--show swap: there is no such picture; use one of {', '.join(SHOWS)}"),
        (encoder_run, "swaps", text, (), "suffix '.txt' is no picture's"),
        (encoder_run, "swaps", png, ("--clips", "99"), "fewer than the 99 asked for"),
        (encoder_run, "random", png, ("--draws", "0"), "--draws 0: at least 1"),
        (predictor_run, "swaps", png, (), "a frame-predictor run has no f and z to draw"),
    ):
        assert call(monkeypatch, "sample", run, "--data", digits / "shards", "--show", show, "--out", out, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("kineme: ")
        assert expected in line
    assert not list(tmp_path.iterdir())


def test_help_names_every_picture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "sample", "--help") == 0
    # Typer breaks lines at hyphens, too.
    shown = "".join(capsys.readouterr().out.split())
    names = list(SHOWS)
    assert f"{','.join(names[:-1])}or{names[-1]}" in shown
