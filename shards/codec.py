"""Clip codec: frames to mp4 bytes and back.

Frames of at most 128 px on the long side are stored bit-exact: libx264rgb, rgb24, qp 0. Larger ones are stored as
ordinary H.264 (yuv420p) at a stated quality with short groups of pictures.

Clips are read back by PyAV rather than decord. Both give the same frames (a test compares them), but decord 0.6.0
refuses RGB clips of some widths (8, 16, 24, 48, 72: it takes the padded row for a pixel format of more channels), may
spin for ever on a damaged stream, and took 1.4 to 1.8 times as long for clips of 8 x 64 x 64.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np
from av.codec.context import Flags
from av.video.stream import VideoStream

from kineme.shards.errors import ANEW, DataError
from kineme.shards.sample import Frames

LOSSLESS_MAX_PX = 128
"""Longest side, in pixels, that is stored bit-exact."""
CRF = 18
"""Quality of larger clips: x264's constant rate factor, 0 (best) to 51."""
GOP = 8
"""Larger clips have a key frame at least every so many frames."""

# fastdecode (CAVLC, no deblocking) makes a file a tenth larger and its decoding twice as fast.
# Without loss a faster preset costs size alone: veryfast takes half of medium's time for 2 to 3% more bytes.
_LOSSLESS = {"preset": "veryfast", "tune": "fastdecode", "qp": "0"}
# x264's macroblock tree reads memory that nobody wrote where a side is no multiple of 16: now and then other bytes.
_LOSSY = {"preset": "medium", "tune": "fastdecode", "crf": str(CRF), "g": str(GOP), "mbtree": "0"}


def encode_clip(frames: Frames, fps: float) -> tuple[bytes, str]:
    """Encode a clip as mp4; equal frames and rate give equal bytes.

    Args:
        frames: (T, H, W, 3) uint8 RGB, T >= 1.
        fps: frames per second, above 0 and at most 1000; the file holds the nearest fraction of denominator <= 65535.

    Returns:
        The mp4 file's bytes and the codec's name: ``"libx264rgb"`` (bit-exact) or ``"libx264"``.

    Raises:
        DataError: frames of another shape or type, a rate out of range, or odd sizes above 128 px.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise DataError(f"a clip is (T, H, W, 3) uint8 with T, H, W >= 1, not {frames.shape} {frames.dtype}")
    buffer = io.BytesIO()
    codec = encode_frames(frames, fps, buffer)
    return buffer.getvalue(), codec


def encode_frames(frames: Iterable[Frames], fps: float, file: Path | BinaryIO) -> str:
    """Encode frames as mp4 while they come: what is held does not grow with them, but for the file's index.

    Args:
        frames: each (H, W, 3) uint8 RGB, all of the size of the first; at least one.
        fps: as of :func:`encode_clip`.
        file: where the mp4 goes, whatever its suffix; a file object must be able to seek.

    Returns:
        The codec's name, as of :func:`encode_clip`.

    Raises:
        DataError: no frames, a rate out of range, or odd sizes above 128 px.
    """
    coming = iter(frames)
    first = next(coming, None)
    if first is None:
        raise DataError("no frames to encode: at least one is needed")
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise DataError(f"frame rate {fps} is not in (0, 1000] frames per second: check the source's rate")
    height, width = first.shape[:2]
    lossless = max(height, width) <= LOSSLESS_MAX_PX
    if not lossless and (height % 2 or width % 2):
        raise DataError(
            f"frames of {width}x{height} px: above {LOSSLESS_MAX_PX} px H.264 needs even sizes; choose an even --size"
        )
    codec = "libx264rgb" if lossless else "libx264"
    rate = max(Fraction(fps).limit_denominator(65535), Fraction(1, 65535))
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = _LOSSLESS if lossless else _LOSSY
        stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=options))
        stream.width, stream.height = width, height
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        # One thread: x264's output depends on the number of threads.
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        for frame in chain([first], coming):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return codec


def decode_clip(data: bytes) -> Frames:
    """Decode the bytes that :func:`encode_clip` made, on one thread.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        DataError: the bytes are no video, or are damaged: another number of frames than the file announces.
    """
    try:
        with av.open(io.BytesIO(data), "r", format="mp4") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            announced = stream.frames
            frames = [_to_rgb(frame) for frame in container.decode(stream) if not frame.is_corrupt]
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"a stored clip does not decode ({error}); the shard is damaged: {ANEW}") from error
    if not frames or len(frames) != announced:
        raise DataError(f"a stored clip gave {len(frames)} of {announced} frames; the shard is damaged: {ANEW}")
    return np.stack(frames)


def _to_rgb(frame: av.VideoFrame) -> Frames:
    # Bit-exact clips decode to planar RGB, which to_ndarray reorders itself: no colour converter to set up.
    array = frame.to_ndarray() if frame.format.name == "gbrp" else frame.to_ndarray(format="rgb24")
    return array.astype(np.uint8, copy=False)
