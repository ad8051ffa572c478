"""Windows over a part of a video: which frames they take, and that the decoder stops where the part does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import decord
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import write_video

from kineme.pipeline.clips import read_clip, read_windows
from kineme.shards.errors import DataError
from kineme.shards.sampling import Sampling, TimedFrame, Windows, cut_windows

FPS = 10


def frames_of(count: int) -> Iterator[TimedFrame]:
    return (TimedFrame(number / FPS, np.zeros((1, 1, 3), np.uint8)) for number in range(count))


def cut(count: int, clip_frames: int, windows: Windows) -> list[list[int]]:
    sampled = Sampling().sample(frames_of(count), FPS)
    return [
        [frame.number for frame in clip] for clip in cut_windows(sampled, clip_frames, lambda image: image, windows)
    ]


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 9), st.integers(0, 40), st.integers(1, 60) | st.none())
def test_windows_begin_a_stride_after_one_another_and_lose_no_frame(
    count: int, clip_frames: int, stride: int, start: int, length: int | None
) -> None:
    end = None if length is None else start + length
    windows = Windows(stride, start / FPS, None if end is None else end / FPS)
    part = list(range(start, count if end is None else min(end, count)))
    if len(part) < clip_frames:
        with pytest.raises(DataError, match="give a longer span" if part else "no frame begins at"):
            cut(count, clip_frames, windows)
        return
    starts = list(range(0, len(part) - clip_frames + 1, stride))
    if starts[-1] + clip_frames < len(part):
        starts.append(len(part) - clip_frames)
    assert cut(count, clip_frames, windows) == [part[start : start + clip_frames] for start in starts]


def test_what_comes_after_the_part_is_not_read() -> None:
    coming = frames_of(1000)
    sampled = Sampling(fps=5).sample(coming, FPS)
    clips = list(cut_windows(sampled, 2, lambda image: image, Windows(1, 1.0, 2.0)))
    assert [[frame.start_s for frame in clip] for clip in clips] == [[1.0, 1.2], [1.2, 1.4], [1.4, 1.6], [1.6, 1.8]]
    assert next(coming).start_s < 3


@pytest.mark.parametrize(
    ("stride", "start_s", "end_s"), [(0, 0, None), (1, -1, None), (1, 2, 2), (1, 3, 2), (1, float("nan"), 2)]
)
def test_impossible_parts_are_refused(stride: int, start_s: float, end_s: float | None) -> None:
    with pytest.raises(DataError, match="is needed"):
        Windows(stride, start_s, end_s)


def test_windows_of_a_file_are_exact_and_come_in_batches(tmp_path: Path) -> None:
    """At half of the video's rate: every second frame, from 0.8 to 4 s; the last window ends with the part."""
    frames = write_video(tmp_path / "a.mp4", 60, size=(32, 32), fps=FPS)
    windows = Windows(3, 0.8, 4.0)
    batches = list(read_windows(tmp_path / "a.mp4", windows, clip_frames=6, frame_size=32, fps=5, batch_size=3))
    assert [len(batch.frames) for batch in batches] == [3, 2]
    assert {batch.fps for batch in batches} == {5}
    starts = [0, 3, 6, 9, 10]
    expected = [np.stack(frames[8:40:2][start : start + 6]) for start in starts]
    np.testing.assert_array_equal(np.concatenate([batch.frames for batch in batches]), np.stack(expected))
    np.testing.assert_allclose(np.concatenate([b.starts_s for b in batches]), [0.8 + start / 5 for start in starts])
    np.testing.assert_allclose(np.concatenate([b.ends_s for b in batches]), [2.0 + start / 5 for start in starts])


def test_one_window_is_the_clip_an_ingest_would_cut(tmp_path: Path) -> None:
    """Of another size, so that resizing is compared, too."""
    write_video(tmp_path / "a.mp4", 12, size=(48, 64), fps=FPS)
    (batch,) = read_windows(tmp_path / "a.mp4", Windows(6), clip_frames=12, frame_size=32)
    np.testing.assert_array_equal(batch.frames[0], read_clip(tmp_path / "a.mp4", clip_frames=12, frame_size=32).frames)


@pytest.mark.parametrize(
    ("windows", "reason"),
    [
        (Windows(4, 9.0), "it ends after 2 s: no frame begins at 9 s or later"),
        (Windows(4, 1.5), "5 sampled frames from 1.5 to 2 s are fewer than the 8 of a clip; give a longer span"),
        (Windows(4, 0.5, 1.0), "5 sampled frames from 0.5 to 1 s are fewer"),
    ],
)
def test_a_part_without_a_clip_is_one_line(tmp_path: Path, windows: Windows, reason: str) -> None:
    write_video(tmp_path / "a.mp4", 20, fps=FPS)
    with pytest.raises(DataError, match=rf"a\.mp4: {reason}") as refusal:
        list(read_windows(tmp_path / "a.mp4", windows, clip_frames=8, frame_size=32))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("end_s", "damaged"), [(1.0, False), (3.0, True)])
def test_damage_in_the_part_is_found_before_the_end_of_the_video(tmp_path: Path, end_s: float, damaged: bool) -> None:
    """decord makes up what it cannot decode, and its FFmpeg says so while the frames come."""
    path = tmp_path / "a.avi"
    write_video(path, 60, codec="mpeg4", fps=FPS)
    with av.open(path) as container:
        packet = [packet for packet in container.demux() if packet.size][16]
    data = bytearray(path.read_bytes())
    middle = packet.pos + 8 + packet.size // 2
    data[middle : middle + 20] = np.random.default_rng(0).integers(0, 256, 20, np.uint8).tobytes()
    path.write_bytes(data)
    assert len(decord.VideoReader(str(path)).get_batch(range(60)).asnumpy()) == 60
    coming = read_windows(path, Windows(4, 0, end_s), clip_frames=8, frame_size=32)
    if damaged:
        with pytest.raises(DataError, match="damaged: frame 1"):
            list(coming)
    else:
        assert len(next(coming).frames) == 2
