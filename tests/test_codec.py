"""Clips survive storage bit for bit, and equal clips are equal bytes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import decord
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_factory import make_frames

from kineme.shards.codec import LOSSLESS_MAX_PX, decode_clip, encode_clip, encode_frames
from kineme.shards.errors import DataError

TESTS = Path(__file__).parent
sides = st.integers(1, LOSSLESS_MAX_PX)
rates = st.one_of(st.floats(0.01, 1000), st.sampled_from([30000 / 1001, 24000 / 1001 / 7, 1 / 3, 12.5]))


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(1, 12), height=sides, width=sides, fps=rates, number=st.integers(0, 1000))
def test_small_clips_are_bit_exact(frames: int, height: int, width: int, fps: float, number: int) -> None:
    clip = make_frames(number, frames=frames, height=height, width=width)
    data, codec = encode_clip(clip, fps)
    assert codec == "libx264rgb"
    np.testing.assert_array_equal(decode_clip(data), clip)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 61), (17, 128), (127, 5)])
@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 1 / 3])
def test_decord_reads_the_same_frames_and_rate(height: int, width: int, fps: float) -> None:
    clip = make_frames(1, height=height, width=width)
    reader = decord.VideoReader(io.BytesIO(encode_clip(clip, fps)[0]), num_threads=1)
    np.testing.assert_array_equal(reader.get_batch(range(len(reader))).asnumpy(), clip)
    assert reader.get_avg_fps() == pytest.approx(fps, rel=1e-3)


def test_widths_that_decord_refuses_still_decode() -> None:
    # The reason to read back with PyAV; if decord learns this one day, codec.py may say so.
    clip = make_frames(1, height=48, width=48)
    data, _ = encode_clip(clip, 10)
    reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
    with pytest.raises(decord.DECORDError):
        reader.get_batch(range(len(reader)))
    np.testing.assert_array_equal(decode_clip(data), clip)


def test_frames_that_come_one_by_one_are_the_same_file(tmp_path: Path) -> None:
    clip = make_frames(3, frames=10, height=144, width=180)
    data, codec = encode_clip(clip, 29.97)
    assert encode_frames(iter(clip), 29.97, tmp_path / "clip") == codec
    assert (tmp_path / "clip").read_bytes() == data
    with pytest.raises(DataError, match="no frames"):
        encode_frames(iter(()), 25, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (144, 180)])
def test_equal_clips_are_equal_bytes(size: tuple[int, int]) -> None:
    clip = make_frames(3, frames=10, height=size[0], width=size[1])
    assert encode_clip(clip, 29.97) == encode_clip(clip.copy(), 29.97)
    assert encode_clip(clip, 29.97) != encode_clip(clip[::-1], 29.97)


@pytest.mark.parametrize("size", [(144, 180), (200, 132), (64, 48)])
def test_bytes_do_not_hang_on_what_lay_in_memory(size: tuple[int, int]) -> None:
    # glibc fills memory that is given out with a pattern made of this; other libraries ignore it.
    patterns = ("0", "1", "3", "128")
    programme = (
        "import hashlib; from shard_factory import make_frames; from kineme.shards.codec import encode_clip;"
        f"clip = make_frames(3, frames=10, height={size[0]}, width={size[1]});"
        "print(*{hashlib.sha256(encode_clip(clip, 25)[0]).hexdigest() for _ in range(3)})"
    )
    command = [sys.executable, "-c", programme]
    digests = [
        subprocess.run(
            command, env={**os.environ, "MALLOC_PERTURB_": pattern}, cwd=TESTS, check=True, stdout=subprocess.PIPE
        ).stdout.split()
        for pattern in patterns
    ]
    assert digests == [digests[0]] * len(patterns)
    assert len(digests[0]) == 1


def test_large_clips_keep_their_look_and_count() -> None:
    rows, columns = np.mgrid[0:144, 0:180]
    clip = np.stack([np.stack([rows + t, columns, rows // 2 + 3 * t], axis=-1) for t in range(20)]).astype(np.uint8)
    data, codec = encode_clip(clip, 25)
    decoded = decode_clip(data)
    assert codec == "libx264"
    assert decoded.shape == clip.shape
    assert np.abs(decoded.astype(int) - clip).mean() < 3


def test_large_clips_have_short_groups_of_pictures() -> None:
    data, _ = encode_clip(make_frames(1, frames=20, height=130, width=130), 25)
    reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
    assert np.diff([*reader.get_key_indices(), 20]).max() <= 8


@pytest.mark.parametrize(
    ("shape", "fps", "says"),
    [
        ((2, 131, 200, 3), 25.0, "even"),
        ((2, 200, 131, 3), 25.0, "131x200"),
        ((0, 8, 8, 3), 25.0, "T, H, W"),
        ((2, 8, 8, 4), 25.0, "T, H, W"),
        ((8, 8, 3), 25.0, "T, H, W"),
        ((2, 8, 8, 3), 0.0, "frame rate 0.0"),
        ((2, 8, 8, 3), float("nan"), "frame rate nan"),
        ((2, 8, 8, 3), float("inf"), "frame rate inf"),
    ],
)
def test_what_cannot_be_stored_says_why(shape: tuple[int, ...], fps: float, says: str) -> None:
    with pytest.raises(DataError, match=says):
        encode_clip(np.zeros(shape, np.uint8), fps)


def test_frames_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match="float32"):
        encode_clip(np.zeros((2, 8, 8, 3), np.float32), 25)  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [0, 100, 2000, -300])
def test_damaged_clips_do_not_decode(keep: int) -> None:
    data, _ = encode_clip(make_frames(1), 25)
    with pytest.raises(DataError, match="ingest again"):
        decode_clip(data[:keep])


def test_an_audio_file_is_no_clip() -> None:
    with pytest.raises(DataError, match="does not decode"):
        decode_clip(b"ID3" + bytes(5000))
