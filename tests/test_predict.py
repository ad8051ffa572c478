"""``kineme predict``: what comes next in a clip, drawn by runs of both kinds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from predictions import CPU, films, untrained
from tiny_runs import FRAMES
from video_files import write_video

from kineme.pipeline.clips import read_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.prediction import predict
from kineme.pipeline.run import Run, load_run
from kineme.shards.errors import DataError

KERNELS = """
kind: kernel-predictor
model: {frame_size: 32, width: 4, kernels: 2, reach: 2}
objective: {context: 2}
data: {clip_frames: 6, fps: 25}
"""
KINDS = ["frame-predictor", "kernel-predictor", "kernel-predictor with z"]


@pytest.fixture(scope="module")
def runs(predictor_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return {
        "frame-predictor": load_run(predictor_run, CPU),
        "kernel-predictor": untrained(KERNELS, tmp_path_factory.mktemp("kernels")),
        "kernel-predictor with z": untrained(KERNELS, tmp_path_factory.mktemp("z"), "model.latent_dim=2"),
    }


@pytest.fixture(scope="module")
def predictor(runs: dict[str, Run]) -> Run:
    return runs["frame-predictor"]


@pytest.fixture(scope="module")
def clip(digits: Path) -> Path:
    return min((digits / "videos" / "test").glob("*.mp4"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [1, 2, 5])
def test_any_context_is_read_whatever_was_trained(kind: str, context: int, runs: dict[str, Run], clip: Path) -> None:
    """Against the model, advanced by hand."""
    drawn = films(predict(runs[kind], clip, context=context, horizon=3, seed=4))
    model = runs[kind].task.model
    seen = torch.from_numpy(read_clip(clip, clip_frames=context, frame_size=32).frames).movedim(-1, 1)[None] / 255
    torch.manual_seed(4)
    none = torch.empty(1, context, 0)
    with torch.no_grad():
        state = model.begin(seen, none, torch.randn(1, context - 1, model.noise_dim))
        expected = [seen[0]]
        for _ in range(3):
            frame, state = model.advance(state, none[:, 0], torch.randn(1, model.noise_dim))
            expected.append(frame)
    torch.testing.assert_close(drawn[0], torch.cat(expected))


def test_lengths_come_from_the_training_where_they_are_not_given(predictor: Run, clip: Path) -> None:
    prediction = predict(predictor, clip)
    assert (prediction.context, prediction.horizon, prediction.fps) == (2, 4, 25)
    assert films(prediction).shape == (1, 6, 3, 32, 32)
    assert predict(predictor, clip, context=4).horizon == 2
    with pytest.raises(RunError, match=r"--context 6: the clips of the training have 6 frames.*give --horizon"):
        predict(predictor, clip, context=6)


def test_the_same_seed_draws_the_same_frames_and_streaming_changes_none(predictor: Run, clip: Path) -> None:
    first, again, streamed, other = (
        films(predict(predictor, clip, horizon=6, **settings)) for settings in ({}, {}, {"stream": True}, {"seed": 1})
    )
    assert torch.equal(first, again)
    assert torch.equal(first, streamed)
    assert torch.equal(first[:, :2], other[:, :2])
    assert not torch.equal(first, other)


def test_samples_are_the_futures_of_seeds_that_follow(predictor: Run, clip: Path) -> None:
    prediction = predict(predictor, clip, samples=3, seed=7)
    assert list(prediction.seeds) == [7, 8, 9]
    drawn = films(prediction)
    for film, seed in zip(drawn, prediction.seeds, strict=True):
        assert torch.equal(film, films(predict(predictor, clip, seed=seed))[0])
    assert not torch.equal(drawn[0], drawn[1])


def test_the_truth_is_there_as_far_as_the_clip_goes(predictor: Run, clip: Path) -> None:
    whole = read_clip(clip, clip_frames=FRAMES, frame_size=32).frames
    for horizon in (1, FRAMES - 2, FRAMES + 1):
        np.testing.assert_array_equal(predict(predictor, clip, horizon=horizon).truth, whole[: 2 + horizon])
    assert predict(predictor, clip, context=FRAMES, horizon=1).truth is None
    assert predict(predictor, clip, horizon=FRAMES - 2, stream=True).truth is None


def test_a_clip_is_sampled_as_those_of_the_training(predictor: Run, clip: Path) -> None:
    data = predictor.recipe.data.model_copy(update={"frame_step": 2})
    slow = dataclasses.replace(predictor, recipe=predictor.recipe.model_copy(update={"data": data}))
    prediction = predict(slow, clip, context=3, horizon=1)
    assert prediction.fps == 12.5
    np.testing.assert_array_equal(prediction.truth, read_clip(clip, clip_frames=8, frame_size=32).frames[::2])
    assert f"{clip}: 25 frames a second, sampled at 12.5, the rate the run was trained at" in prediction.notes


def test_what_was_made_of_the_clip_is_said(predictor: Run, tmp_path: Path) -> None:
    cases: list[tuple[tuple[int, int], int, list[str]]] = [
        ((32, 32), 25, []),
        ((32, 32), 50, ["50 frames a second, sampled at 25, the rate the run was trained at"]),
        ((32, 32), 10, ["10 frames a second, fewer than the 25 the run was trained at: frames are repeated"]),
        ((64, 64), 25, ["64x64 pixels, resized to 32x32"]),
        ((48, 64), 25, ["64x48 pixels, its middle square resized to 32x32"]),
        ((32, 64), 30, ["64x32 pixels, its middle square is taken", "30 frames a second, sampled at 25"]),
    ]
    for number, (size, fps, expected) in enumerate(cases):
        path = tmp_path / f"{number}.mp4"
        write_video(path, 20, size=size, fps=fps)
        notes = predict(predictor, path).notes
        assert [note[: len(f"{path}: {start}")] for note, start in zip(notes, expected, strict=True)] == [
            f"{path}: {start}" for start in expected
        ]


def test_each_image_of_a_folder_is_a_frame_whatever_the_rate(predictor: Run, tmp_path: Path) -> None:
    for number in range(8):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number}.png")
    data = predictor.recipe.data.model_copy(update={"fps": 12.5})
    slow = dataclasses.replace(predictor, recipe=predictor.recipe.model_copy(update={"data": data}))
    prediction = predict(slow, tmp_path, context=4, horizon=1)
    assert prediction.fps == 12.5
    assert prediction.notes == []
    assert (films(prediction)[0, :4, 0, 0, 0] * 255).round().tolist() == [0, 1, 2, 3]


def test_predictions_that_cannot_be_drawn(
    predictor: Run, runs: dict[str, Run], encoder_run: Path, clip: Path, tmp_path: Path
) -> None:
    encoder = load_run(encoder_run, CPU)
    np.save(tmp_path / "actions.npy", np.zeros((6, 2), np.float32))
    cases = [
        (predictor, {"context": 0, "horizon": 4}, "--context 0: at least 1"),
        (predictor, {"horizon": 0}, "--horizon 0: at least 1"),
        (predictor, {"samples": 0}, "--samples 0: at least 1"),
        (predictor, {"horizon": 1001}, "--horizon 1001: more than 1000 frames are drawn with --stream only"),
        (predictor, {"actions": tmp_path / "actions.npy"}, "was trained without actions"),
        (runs["kernel-predictor"], {"samples": 2}, "always draws the same future, for it was trained with model.lat"),
        (encoder, {}, "a sequential-vae run predicts no frames"),
    ]
    for run, settings, message in cases:
        with pytest.raises(RunError, match=message):
            predict(run, clip, **settings)
    with pytest.raises(DataError, match=rf"{clip.name}: has 8 frames at 25 a second, fewer than --context 9; lower it"):
        predict(predictor, clip, context=9, horizon=2)
    with pytest.raises(DataError, match=r"absent\.mp4: there is no such video"):
        predict(predictor, clip.with_name("absent.mp4"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_frames_are_numbers(kind: str, runs: dict[str, Run], clip: Path) -> None:
    frames = predict(runs[kind], clip, horizon=1000).frames
    count = 0
    for count, frame in enumerate(frames, 1):  # noqa: B007
        assert frame.isfinite().all()
    assert count == 1002


def test_where_nothing_can_be_compiled(
    predictor: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    prediction = predict(predictor, clip, horizon=2, compiled=True)
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/absent")}),
        pytest.raises(RunError, match=r"--compile is given, but torch cannot compile here: .*/absent.*; leave it out"),
    ):
        films(prediction)
