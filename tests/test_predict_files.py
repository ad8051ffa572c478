"""``kineme predict``: the files that it writes, whole, and in memory that does not grow."""

from __future__ import annotations

import dataclasses
import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from command_line import call
from PIL import Image
from predictions import CPU, films
from video_files import write_video

from kineme.pipeline.clips import read_clip
from kineme.pipeline.pictures import film_strips
from kineme.pipeline.prediction import predict
from kineme.pipeline.prediction_pictures import side_by_side, spread_of, spread_strips, write_prediction
from kineme.pipeline.run import Run, load_run


@pytest.fixture(scope="module")
def predictor(predictor_run: Path) -> Run:
    return load_run(predictor_run, CPU)


@pytest.fixture(scope="module")
def clip(digits: Path) -> Path:
    return min((digits / "videos" / "test").glob("*.mp4"))


def test_a_longer_stream_needs_no_more_memory(predictor: Run, clip: Path, tmp_path: Path) -> None:
    prediction = predict(predictor, clip, horizon=200, stream=True)
    held = []

    def measured(frames: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        for number, frame in enumerate(frames):
            if number in (30, 200):
                gc.collect()
                tensors = sum(type(kept) is torch.Tensor for kept in gc.get_objects())
                held.append((tensors, tracemalloc.get_traced_memory()[0]))
            yield frame

    tracemalloc.start()
    write_prediction(dataclasses.replace(prediction, frames=measured(prediction.frames)), tmp_path / "out.mp4")
    tracemalloc.stop()
    (tensors_early, bytes_early), (tensors_late, bytes_late) = held
    # The pixels of a tensor are torch's, so that tensors are counted; those of an array are counted by its bytes.
    assert tensors_late == tensors_early
    assert bytes_late - bytes_early < 20 * 32 * 32 * 3


def shown(path: Path) -> np.ndarray:
    with av.open(path) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def test_films_stand_side_by_side(predictor: Run, clip: Path, tmp_path: Path) -> None:
    write_prediction(predict(predictor, clip, samples=3), tmp_path / "out.mp4")
    write_prediction(predict(predictor, clip, samples=3, stream=True), tmp_path / "streamed.mp4")
    frames = shown(tmp_path / "out.mp4")
    np.testing.assert_array_equal(frames, shown(tmp_path / "streamed.mp4"))
    # Two rows and columns of 32 pixels with a gap of two, four times as large.
    assert frames.shape == (6, 264, 264, 3)
    drawn = films(predict(predictor, clip, samples=3)).movedim(2, -1).numpy() * 255
    for number, (top, left) in enumerate([(0, 0), (0, 136), (136, 0)]):
        cell = frames[:, top : top + 128, left : left + 128].reshape(6, 32, 4, 32, 4, 3).mean((2, 4))
        assert np.abs(cell - drawn[number]).mean() < 4
    assert np.abs(frames[:, 140:, 140:].astype(int) - 128).max() < 8


@pytest.mark.parametrize(("count", "shape"), [(1, (4, 4)), (2, (4, 10)), (4, (10, 10)), (5, (10, 16))])
def test_a_grid_has_as_many_places_as_it_needs(count: int, shape: tuple[int, int]) -> None:
    frames = np.stack([np.full((4, 4, 3), number, np.uint8) for number in range(count)])
    grid = side_by_side(frames)
    assert grid.shape == (*shape, 3)
    assert sorted(set(grid.ravel().tolist()) - {128}) == list(range(count))


def test_a_strip_says_what_is_given_and_what_is_true(predictor: Run, clip: Path, tmp_path: Path) -> None:
    def written(**settings: object) -> np.ndarray:
        write_prediction(predict(predictor, clip, **settings), tmp_path / "out.png")  # type: ignore[arg-type]
        with Image.open(tmp_path / "out.png") as picture:
            return np.asarray(picture)

    def as_uint8(drawn: torch.Tensor) -> np.ndarray:
        return (drawn * 255).round().movedim(2, -1).byte().numpy()

    truth = read_clip(clip, clip_frames=6, frame_size=32).frames
    single, three = (as_uint8(films(predict(predictor, clip, samples=samples))) for samples in (1, 3))
    expected = film_strips([truth, single[0]], ["truth", "prediction\nthe first 2 frames are given"])
    np.testing.assert_array_equal(written(), np.asarray(expected))
    captions = [f"prediction {n} of 3\nseed {n - 1}, the first 2 frames are given" for n in (1, 2, 3)]
    expected = film_strips([truth, *three], ["truth", *captions])
    np.testing.assert_array_equal(written(samples=3), np.asarray(expected))
    long = as_uint8(films(predict(predictor, clip, context=1, horizon=9)))
    captions = ["truth\nthe clip ends after 8 frames", "prediction\nthe first frame is given"]
    expected = film_strips([read_clip(clip, clip_frames=8, frame_size=32).frames, *long], captions, 10)
    np.testing.assert_array_equal(written(context=1, horizon=9), np.asarray(expected))


def test_spread_against_the_sum_of_its_definition() -> None:
    frames = torch.rand(4, 3, 5, 6)
    for y in range(5):
        for x in range(6):
            variances = []
            for colour in range(3):
                values = frames[:, colour, y, x].tolist()
                mean = sum(values) / 4
                variances.append(sum((value - mean) ** 2 for value in values) / 3)
            assert spread_of(frames)[y, x].item() == pytest.approx((sum(variances) / 3) ** 0.5)


def test_the_heat_map_is_brightest_where_the_spread_is_largest(predictor: Run, clip: Path) -> None:
    prediction = predict(predictor, clip, samples=5, horizon=2)
    spreads = np.zeros((2, 32, 32), np.float32)
    spreads[1, 16:, 8:] = 0.3125
    means = np.full((2, 32, 32, 3), 77, np.uint8)
    picture = spread_strips(means, spreads, prediction)
    heat = np.zeros((2, 32, 32, 3), np.uint8)
    # The ends of matplotlib's inferno.
    heat[:] = (0, 0, 3)
    heat[1, 16:, 8:] = (252, 254, 164)
    captions = [
        "mean of 5 predictions\nframes 3 to 4, all drawn",
        "spread\nstandard deviation over the predictions: 0 (black) to 0.31 of full range (yellow)",
    ]
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(film_strips([means, heat], captions)))
    # No spread at all divides nothing by zero.
    heat[:] = (0, 0, 3)
    captions[1] = captions[1].replace("0.31", "0")
    dark = spread_strips(means, np.zeros_like(spreads), prediction)
    np.testing.assert_array_equal(np.asarray(dark), np.asarray(film_strips([means, heat], captions)))


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
def test_the_spread_is_drawn_beside_any_file(suffix: str, predictor: Run, clip: Path, tmp_path: Path) -> None:
    prediction = predict(predictor, clip, samples=2)
    drawn = films(predict(predictor, clip, samples=2))[:, 2:]
    write_prediction(prediction, tmp_path / f"out{suffix}", tmp_path / "new" / "spread.png")
    assert (tmp_path / f"out{suffix}").stat().st_size > 500
    with Image.open(tmp_path / "new" / "spread.png") as picture:
        means = (drawn.mean(0) * 255).round().movedim(1, -1).byte().numpy()
        expected = spread_strips(means, drawn.var(0).mean(1).sqrt().numpy(), prediction)
        # Rounding of a half may go either way.
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(expected)).max() <= 1


def test_an_interrupted_stream_leaves_nothing(predictor: Run, clip: Path, tmp_path: Path) -> None:
    def interrupted(frames: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        for number, frame in enumerate(frames):
            if number == 20:
                raise KeyboardInterrupt
            yield frame

    prediction = predict(predictor, clip, horizon=5000, stream=True)
    with pytest.raises(KeyboardInterrupt):
        write_prediction(dataclasses.replace(prediction, frames=interrupted(prediction.frames)), tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_did(
    predictor_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", 20, size=(48, 64), fps=50)
    lengths = ("--context", 3, "--horizon", 4)
    assert call(monkeypatch, "predict", predictor_run, "clip.mp4", *lengths, "--out", "next.mp4", "--stream") == 0
    said, errors = capsys.readouterr()
    assert said == "next.mp4: 3 frames given and 4 drawn\n"
    assert errors.splitlines() == [
        "clip.mp4: 64x48 pixels, its middle square resized to 32x32",
        "clip.mp4: 50 frames a second, sampled at 25, the rate the run was trained at",
    ]
    assert len(shown(tmp_path / "next.mp4")) == 7
    several = ("--samples", 3, "--spread", "spread.png", "--seed", 5)
    assert call(monkeypatch, "predict", predictor_run, "clip.mp4", *several, "--out", "next.png") == 0
    said, _ = capsys.readouterr()
    assert said == "next.png: 2 frames given and 4 drawn, 3 times\nspread.png: how far they lie apart\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "next.mp4", "next.png", "spread.png"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--out", "x.webm"], "x.webm: the suffix decides what is written; use one of .mp4, .gif, .png"),
        (["--out", "x.png", "--stream"], "x.png: --stream writes .mp4 alone"),
        (["--out", "x.gif", "--stream"], "x.gif: --stream writes .mp4 alone"),
        (["--out", "x.mp4", "--horizon", "1001"], "--horizon 1001: more than 1000 frames are drawn with --stream only"),
        (["--out", "x.png", "--spread", "s.png"], "--spread s.png: of one future there is no spread"),
        (["--out", "x.png", "--spread", "s.mp4", "--samples", "2"], "--spread s.mp4: the spread is drawn as a picture"),
        (["--out", "x.png", "--spread", "x.png", "--samples", "2"], "--spread x.png: is the file of --out, too"),
        (["--out", "x.mp4", "--spread", "s.png", "--samples", "2", "--stream"], "--spread s.png: shows all frames"),
        (["--out", "x.png", "--context", "8"], "the clips of the training have 6 frames"),
        (["--out", "x.mp4", "--horizon", "0"], "--horizon 0: at least 1 is needed"),
        (["--out", "x.mp4", "--context", "0"], "--context 0: at least 1 is needed"),
        (["--out", "x.mp4", "--samples", "0"], "--samples 0: at least 1 is needed"),
        (["--out", "x.mp4", "--seed", "-1"], "--seed -1: a number from 0 to 4294967295 is needed"),
        (["--out", "x.mp4", "--context", "9", "--horizon", "1"], "has 8 frames at 25 a second, fewer than --context 9"),
    ],
)
def test_what_the_command_refuses_is_one_line(
    arguments: list[str],
    expected: str,
    predictor_run: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "predict", predictor_run, clip, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kineme: ")
    assert expected in line
    assert not list(tmp_path.iterdir())


def test_images_of_a_folder_are_not_written_over(
    predictor_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{number}.png")
    assert call(monkeypatch, "predict", predictor_run, tmp_path, "--out", tmp_path / "4.png") == 2
    assert f"4.png: lies among the images of the clip, {tmp_path}" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("option", ["--out", "--spread"])
def test_the_clip_is_not_written_over(
    option: str,
    predictor_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "clip.mp4")
    before = (tmp_path / "clip.mp4").read_bytes()
    monkeypatch.chdir(tmp_path)
    files = {"--out": "x.png", "--spread": "y.png", option: "../" + tmp_path.name + "/clip.mp4"}
    arguments = [word for pair in files.items() for word in pair]
    assert call(monkeypatch, "predict", predictor_run, "clip.mp4", "--samples", 2, *arguments) == 2
    assert "is the clip itself, which would be lost" in capsys.readouterr().err
    assert (tmp_path / "clip.mp4").read_bytes() == before
