"""Clips that a user names and frames that runs draw: read, predicted, swapped, written and read again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from made_up_clips import make_frames
from PIL import Image
from tiny_runs import FRAMES, PREDICTOR, make_recipe
from video_files import write_video

from kineme.pipeline.clips import read_clip, write_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.generation import predict, swap
from kineme.pipeline.recipe import Recipe, dump_recipe
from kineme.pipeline.run import Run, load_run, save_weights
from kineme.pipeline.tasks import make_task
from kineme.shards.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def predictor(predictor_run: Path) -> Run:
    return load_run(predictor_run, CPU)


@pytest.fixture(scope="module")
def encoder(encoder_run: Path) -> Run:
    return load_run(encoder_run, CPU)


@pytest.fixture(scope="module")
def videos(digits: Path) -> list[Path]:
    return sorted((digits / "videos" / "test").glob("*.mp4"))[:2]


def test_a_video_is_read_exactly_and_cut_to_its_first_frames(tmp_path: Path) -> None:
    frames = write_video(tmp_path / "a video.mp4", 20, size=(32, 32), fps=25)
    clip = read_clip(tmp_path / "a video.mp4", clip_frames=6, frame_size=32)
    np.testing.assert_array_equal(clip.frames, np.stack(frames[:6]))
    # Three whole ones, and a last that is moved back to end with the video.
    assert (clip.fps, clip.clips) == (25, 4)
    slower = read_clip(tmp_path / "a video.mp4", clip_frames=6, frame_size=16, fps=12.5)
    assert slower.frames.shape == (6, 16, 16, 3)
    assert (slower.fps, slower.clips) == (12.5, 2)


def test_a_folder_of_images_is_read_by_number(tmp_path: Path) -> None:
    frames = make_frames(3, count=12, size=32)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame {number}.png")
    clip = read_clip(tmp_path, clip_frames=12, frame_size=32)
    np.testing.assert_array_equal(clip.frames, frames)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", 5)
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty").mkdir()
    for name in ("absent.mp4", "short.mp4", "text.mp4", "empty"):
        with pytest.raises(DataError) as error:
            read_clip(tmp_path / name, clip_frames=6, frame_size=32)
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(error.value)


def test_an_mp4_is_written_enlarged_and_exact_enough_to_read(tmp_path: Path) -> None:
    frames = make_frames(1, count=8, size=32)
    write_clip(frames, 10, tmp_path / "new folder" / "clip.mp4")
    with av.open(tmp_path / "new folder" / "clip.mp4") as video:
        assert video.streams.video[0].average_rate == 10
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    assert read.shape == (8, 256, 256, 3)
    error = read.astype(float) - frames.repeat(8, axis=1).repeat(8, axis=2)
    assert np.abs(error).mean() < 4


def test_a_gif_is_written_with_its_rate(tmp_path: Path) -> None:
    frames = make_frames(1, count=8, size=32)
    write_clip(frames, 10, tmp_path / "clip.gif")
    with Image.open(tmp_path / "clip.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (8, (256, 256), 100)
        gif.seek(7)
        shown = np.asarray(gif.convert("RGB"))[::8, ::8]
    assert np.abs(shown.astype(int) - frames[7]).mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == ["clip.gif"]


def test_a_png_is_a_film_strip(tmp_path: Path) -> None:
    write_clip(make_frames(1, count=8, size=32), 10, tmp_path / "clip.PNG")
    with Image.open(tmp_path / "clip.PNG") as strip:
        assert strip.width > 4 * strip.height


def test_any_other_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"use one of \.mp4, \.gif, \.png"):
        write_clip(make_frames(1), 10, tmp_path / "clip.webm")
    assert not list(tmp_path.iterdir())


def test_a_prediction_keeps_its_context_and_repeats_by_its_seed(predictor: Run, videos: list[Path]) -> None:
    frames, fps = predict(predictor, videos[0], context=3, horizon=4)
    assert frames.shape == (7, 32, 32, 3)
    assert fps == 25
    seen = read_clip(videos[0], clip_frames=3, frame_size=32).frames
    np.testing.assert_array_equal(frames[:3], seen)
    again, _ = predict(predictor, videos[0], context=3, horizon=4)
    other, _ = predict(predictor, videos[0], context=3, horizon=4, seed=1)
    np.testing.assert_array_equal(frames, again)
    np.testing.assert_array_equal(frames[:3], other[:3])
    assert not np.array_equal(frames, other)


def test_videos_are_sampled_as_the_training_clips_were(encoder: Run, predictor: Run, videos: list[Path]) -> None:
    """Of 8 frames at 25 a second there are 4 at 12.5."""
    assert (encoder.recipe.data.fps, predictor.recipe.data.fps) == (25, 25)
    slow = dataclasses.replace(predictor, recipe=with_data(predictor.recipe, fps=25, frame_step=2))
    frames, fps = predict(slow, videos[0], context=3, horizon=2)
    assert fps == 12.5
    np.testing.assert_array_equal(frames[:3], read_clip(videos[0], clip_frames=6, frame_size=32).frames[::2])
    slow = dataclasses.replace(encoder, recipe=with_data(encoder.recipe, fps=12.5))
    with pytest.raises(DataError, match="4 sampled frames are fewer than the 8"):
        swap(slow, statics=videos[0], dynamics=videos[1])


def with_data(recipe: Recipe, **settings: object) -> Recipe:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=settings)})


def test_predictions_that_cannot_be_drawn(predictor: Run, encoder: Run, videos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--context 0: at least 1"):
        predict(predictor, videos[0], context=0, horizon=4)
    with pytest.raises(RunError, match="--horizon 0: at least 1"):
        predict(predictor, videos[0], context=2, horizon=0)
    with pytest.raises(RunError, match="a sequential-vae run predicts no frames"):
        predict(encoder, videos[0], context=2, horizon=2)
    with pytest.raises(DataError, match=videos[0].name):
        predict(predictor, videos[0], context=FRAMES + 1, horizon=2)
    np.save(tmp_path / "actions.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(RunError, match="was trained without actions"):
        predict(predictor, videos[0], context=2, horizon=2, actions=tmp_path / "actions.npy")


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A predictor that wants two numbers a frame; its weights are fresh, for no built-in data has actions."""
    folder = tmp_path_factory.mktemp("conditioned")
    recipe = make_recipe(PREDICTOR, folder, "model.condition_dim=2")
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "recipe.yaml").write_text(dump_recipe(recipe))
    torch.manual_seed(0)
    save_weights(folder / "run", recipe, make_task(recipe))
    return load_run(folder / "run", CPU)


def test_actions_change_the_prediction(conditioned: Run, videos: list[Path], tmp_path: Path) -> None:
    drawn = []
    for value in (0, 5):
        # One frame more than needed: the rest is not used. Whole numbers are as good as others.
        np.save(tmp_path / f"{value}.npy", np.full((7, 2), value))
        drawn.append(predict(conditioned, videos[0], context=2, horizon=4, actions=tmp_path / f"{value}.npy")[0])
    np.testing.assert_array_equal(drawn[0][:2], drawn[1][:2])
    assert not np.array_equal(drawn[0], drawn[1])


def test_actions_that_do_not_fit(conditioned: Run, videos: list[Path], tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((5, 2)))
    np.save(tmp_path / "wide.npy", np.zeros((6, 3)))
    np.save(tmp_path / "flat.npy", np.zeros(12))
    np.save(tmp_path / "words.npy", np.full((6, 2), "left"))
    np.savez(tmp_path / "several.npy.npz", np.zeros((6, 2)))
    (tmp_path / "text.npy").write_text("0 0\n" * 6)
    (tmp_path / "empty.npy").touch()
    cases = {
        "absent.npy": "there is no such file",
        "short.npy": r"actions of shape \(5, 2\), but 6 frames need \(6, 2\)",
        "wide.npy": r"actions of shape \(6, 3\), but 6 frames need \(6, 2\)",
        "flat.npy": r"actions of shape \(12,\)",
        "words.npy": "not one array of numbers",
        "several.npy.npz": "not one array of numbers",
        "text.npy": "not a NumPy array of numbers",
        "empty.npy": "not a NumPy array of numbers",
    }
    for name, message in cases.items():
        with pytest.raises(RunError, match=message):
            predict(conditioned, videos[0], context=2, horizon=4, actions=tmp_path / name)
    with pytest.raises(RunError, match=r"--actions is missing: .* 2 numbers a frame"):
        predict(conditioned, videos[0], context=2, horizon=4)


def test_a_swap_takes_content_of_one_and_motion_of_the_other(encoder: Run, videos: list[Path]) -> None:
    strips, fps = swap(encoder, statics=videos[0], dynamics=videos[1])
    assert list(strips) == ["statics", "dynamics", "result"]
    assert all(strip.shape == (FRAMES, 32, 32, 3) and strip.dtype == np.uint8 for strip in strips.values())
    assert fps == 25
    for name, video in zip(("statics", "dynamics"), videos, strict=True):
        np.testing.assert_array_equal(strips[name], read_clip(video, clip_frames=FRAMES, frame_size=32).frames)
    # Against the model, asked without the function under test.
    clips = torch.stack([torch.from_numpy(strips[name]).movedim(-1, 1) for name in ("statics", "dynamics")]) / 255
    with torch.no_grad():
        f, z = encoder.task.model.encode(clips)
        decoded = encoder.task.model.decode(f.mean[:1], z.mean[1:])
    expected = (decoded[0] * 255).round().movedim(1, -1).numpy()
    assert np.abs(strips["result"] - expected).max() <= 1


def test_a_predictor_has_no_statics(predictor: Run, videos: list[Path]) -> None:
    with pytest.raises(RunError, match="a frame-predictor run has no statics to swap"):
        swap(predictor, statics=videos[0], dynamics=videos[1])
