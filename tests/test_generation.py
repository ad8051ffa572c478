"""Clips that a user names: read, swapped, written and read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from made_up_clips import make_frames
from PIL import Image
from tiny_runs import FRAMES
from video_files import write_video

from kineme.pipeline.clips import read_beginning, read_clip, write_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.generation import swap
from kineme.pipeline.run import Run, load_run
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


def test_the_beginning_of_a_video_is_as_long_as_it_can_be(tmp_path: Path) -> None:
    frames = write_video(tmp_path / "a.mp4", 20, size=(32, 48), fps=25)
    beginning = read_beginning(tmp_path / "a.mp4", most_frames=6, frame_size=32)
    np.testing.assert_array_equal(beginning.frames, np.stack(frames[:6])[:, :, 8:40])
    assert (beginning.fps, beginning.source_fps, beginning.source_size) == (25, 25, (32, 48))
    whole = read_beginning(tmp_path / "a.mp4", most_frames=30, frame_size=32, fps=12.5)
    np.testing.assert_array_equal(whole.frames, np.stack(frames[::2])[:, :, 8:40])
    assert (whole.fps, whole.source_fps) == (12.5, 25)


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
    with pytest.raises(DataError, match="empty: a folder without numbered images; give a folder of such, or a video"):
        read_clip(tmp_path / "empty", clip_frames=6, frame_size=32)


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


def test_what_is_half_written_leaves_nothing(tmp_path: Path) -> None:
    """An error or Ctrl-C between two frames: a file that was there stays, and nothing else."""

    def broken(error: type[BaseException]) -> Iterator[np.ndarray]:
        yield from make_frames(1, count=3)
        raise error

    (tmp_path / "old.mp4").write_text("the old one")
    for name in ("old.mp4", "new.mp4", "new.gif", "new.png"):
        for error in (RuntimeError, KeyboardInterrupt):
            with pytest.raises(error):
                write_clip(broken(error), 10, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_text() == "the old one"


def test_videos_are_sampled_as_the_training_clips_were(encoder: Run, videos: list[Path]) -> None:
    """Of 8 frames at 25 a second there are 4 at 12.5."""
    assert encoder.recipe.data.fps == 25
    data = encoder.recipe.data.model_copy(update={"fps": 12.5})
    slow = dataclasses.replace(encoder, recipe=encoder.recipe.model_copy(update={"data": data}))
    with pytest.raises(DataError, match="4 sampled frames are fewer than the 8"):
        swap(slow, statics=videos[0], dynamics=videos[1])


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
