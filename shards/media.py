"""Reading one video: PyAV reads its index, decord its pixels, PyAV those too where decord cannot.

decord 0.6.0 is fast but not careful: it repeats neighbours for frames it cannot decode, hides what FFmpeg conceals, and
its times are wrong for MPEG streams. So its pixels are trusted only if it gave every frame of the index and FFmpeg
complained of nothing; otherwise the video is read again by PyAV, which says which frames are damaged.
Its calls may never return: call :func:`read_with_decord` in a process that can be killed.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kineme.shards.sample import Frames
from kineme.shards.sampling import TimedFrame

IMAGE_FOLDER_FPS = 25.0
"""Numbered images carry no rate; this one is assumed where none is wanted."""

# Streams of these codecs hold packets that show nothing, so packets cannot be counted as frames.
_HIDDEN_FRAMES = {"vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9"}
# These only point at other files, which a folder walk would not have chosen.
_PLAYLISTS = {"hls", "dash", "concat", "tty"}
_RECOVERED = 1e-9  # decord: raise at the first frame it would replace by a neighbour (0 would mean no limit)


class UnreadableError(ValueError):
    """A reader cannot give this video; the message is the reason, for rejects.parquet."""


@dataclass(frozen=True)
class Claims:
    """What a file says of its video before a frame is decoded: pixels of a frame, and seconds of all of them."""

    pixels: int
    seconds: float


@dataclass(frozen=True)
class Footage:
    """A video being read: its rate in frames per second, its frames in the order they are shown, and its claims."""

    fps: float
    frames: Iterator[TimedFrame]
    claims: Claims | None = None


@dataclass(frozen=True)
class _Index:
    """What a file says of its chosen video stream, without decoding."""

    fps: float
    starts_s: tuple[float, ...]
    codec: str
    pixels: int

    def footage(self, frames: Iterator[TimedFrame]) -> Footage:
        """The frames with all that is known of them."""
        return Footage(self.fps, frames, Claims(self.pixels, max(self.starts_s, default=0.0) + 1 / self.fps))


def read_with_decord(path: Path) -> Footage:
    """Frames by decord, upright, each (H, W, 3) uint8; of several video streams the one FFmpeg calls best.

    Raises:
        UnreadableError: here or while iterating: decord cannot open it, or its frames are not to be trusted.
    """
    index = _read_index(path)
    if index.codec in _HIDDEN_FRAMES or not index.starts_s:
        raise UnreadableError(f"decord is not used for {index.codec}")
    return index.footage(_decord_frames(path, index))


def _decord_frames(path: Path, index: _Index) -> Iterator[TimedFrame]:
    import decord

    with _stderr_to_file() as complaints:
        try:
            reader = decord.VideoReader(str(path), num_threads=1, fault_tol=_RECOVERED)
            if len(reader) != len(index.starts_s):
                raise UnreadableError(f"decord counts {len(reader)} frames, the index {len(index.starts_s)}")
            for start_s in index.starts_s:
                image = reader.next().asnumpy()
                if image.shape[2] != 3:  # narrow frames of some widths: it takes the padding for channels
                    raise UnreadableError(f"decord returned {image.shape[2]} channels")
                _check_silent(complaints)  # now: who wants the first frames alone asks for no more
                yield TimedFrame(start_s, image)
        except (
            *(decord.DECORDError, decord.DECORDLimitReachedError),
            *(RuntimeError, AssertionError, UnicodeError, StopIteration),
        ) as error:
            raise UnreadableError(f"decord: {_last_line(error)}") from error
        _check_silent(complaints)


def _check_silent(complaints: BinaryIO) -> None:
    if complaints.seek(0, os.SEEK_END):
        raise UnreadableError("decord hid damage that FFmpeg reported")


def read_with_pyav(path: Path) -> Footage:
    """Frames by PyAV, upright, each (H, W, 3) uint8; of several video streams the one FFmpeg calls best.

    Raises:
        UnreadableError: here or while iterating: no video FFmpeg can read, damaged, or cut short.
    """
    index = _read_index(path)
    return index.footage(_pyav_frames(path, index))


def _pyav_frames(path: Path, index: _Index) -> Iterator[TimedFrame]:
    number = 0
    first_s: float | None = None
    try:
        with open_media(path) as container:
            stream = container.streams.best("video")
            assert isinstance(stream, av.VideoStream)  # _read_index has seen it
            stream.codec_context.thread_count = 1
            for number, frame in enumerate(_decoded(container, stream)):
                if frame.is_corrupt:
                    raise UnreadableError(f"damaged: frame {number} of {len(index.starts_s)} cannot be decoded")
                time_s = number / index.fps if frame.time is None else frame.time
                first_s = time_s if first_s is None else first_s
                image = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                yield TimedFrame(round(time_s - first_s, 6), np.ascontiguousarray(image))
    except av.FFmpegError as error:
        raise UnreadableError(
            f"damaged: frame {number + 1} of {len(index.starts_s)} cannot be decoded ({_reason(error)})"
        ) from error


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        yield from (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame))


def open_media(path: Path) -> av.container.InputContainer:
    """A local file, opened by PyAV; nothing it points at is. Raises av.FFmpegError."""
    # Titles in other encodings than UTF-8 are no reason to refuse a video.
    return av.open(path, options={"protocol_whitelist": "file"}, metadata_errors="replace")


def _read_index(path: Path) -> _Index:
    """Read the packets' times without decoding them.

    Raises:
        UnreadableError: no container or video stream FFmpeg can read, or one that was cut short.
    """
    try:
        with open_media(path) as container:
            if container.format.name in _PLAYLISTS:
                raise UnreadableError(f"not a video but a playlist ({container.format.name})")
            stream = container.streams.best("video")
            if stream is None or not isinstance(stream, av.VideoStream):
                raise UnreadableError("no video stream (sound only)" if container.streams else "no video stream")
            codec = getattr(stream.codec_context, "name", None)  # there is no context without a decoder
            if codec is None:
                raise UnreadableError("no decoder for its video stream")
            starts: list[float | None] = []
            packets, last_s = 0, 0.0
            for packet in container.demux():
                if packet.size == 0:
                    continue
                time = packet.pts if packet.pts is not None else packet.dts
                start_s = float(time * packet.time_base) if time is not None and packet.time_base is not None else None
                if start_s is not None and packet.time_base is not None:
                    last_s = max(last_s, start_s + float((packet.duration or 0) * packet.time_base))
                if packet.stream_index == stream.index:
                    packets += 1
                    if not packet.is_discard:
                        starts.append(start_s)
            _check_whole(container, stream.frames, packets, last_s)
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            return _Index(*_times(starts, rate), codec=codec, pixels=stream.width * stream.height)
    except av.FFmpegError as error:
        raise UnreadableError(f"not a video FFmpeg can read ({_reason(error)})") from error


def _check_whole(container: av.container.InputContainer, claimed: int, packets: int, last_s: float) -> None:
    """Compare what the header claims with what the file holds: FFmpeg reads a file cut short without a word."""
    if packets < claimed:
        raise UnreadableError(f"cut short: the header claims {claimed} frames, the file holds {packets}")
    if "matroska" in container.format.name and container.duration:
        claimed_s = container.duration / av.time_base
        if last_s < claimed_s - max(0.5, 0.02 * claimed_s):
            raise UnreadableError(f"cut short: the header claims {claimed_s:.2f} s, the file holds {last_s:.2f} s")


def _times(starts: Sequence[float | None], rate: float) -> tuple[float, tuple[float, ...]]:
    """Rate in frames per second, and when each frame starts, in seconds after the first.

    The stream's own rate is believed if the times agree within a tenth (containers round times, and guess rates).
    """
    known = sorted(start for start in starts if start is not None)
    span = known[-1] - known[0] if known else 0.0
    measured = (len(known) - 1) / span if span > 0 else 0.0
    if not rate or (measured and not 0.9 < rate / measured < 1.1):
        rate = round(measured, 3) or IMAGE_FOLDER_FPS
    if len(known) < len(starts):
        return rate, tuple(number / rate for number in range(len(starts)))
    return rate, tuple(round(start - known[0], 6) for start in known)


def read_images(paths: Sequence[Path], fps: float = IMAGE_FOLDER_FPS) -> Footage:
    """Numbered images as one video of ``fps`` frames a second, each (H, W, 3) uint8; transparency is dropped.

    Raises:
        UnreadableError: while iterating: an image that cannot be read, or one of another size than the first.
    """
    return Footage(fps, _image_frames(paths, fps))


def _image_frames(paths: Sequence[Path], fps: float) -> Iterator[TimedFrame]:
    shape: tuple[int, ...] | None = None
    for number, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                pixels = _to_rgb(ImageOps.exif_transpose(image))
        # Pillow reports broken files by several types, SyntaxError for PNG among them.
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UnreadableError(f"image {path.name} cannot be read ({_last_line(error)})") from error
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise UnreadableError(
                f"image {path.name} is {pixels.shape[1]}x{pixels.shape[0]} px, the first one {shape[1]}x{shape[0]}"
            )
        yield TimedFrame(number / fps, pixels)


def _to_rgb(image: Image.Image) -> Frames:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip them
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    return np.array(image.convert("RGB"))


@contextmanager
def _stderr_to_file() -> Iterator[BinaryIO]:
    """Send this process's stderr to a file meanwhile: decord's FFmpeg says there, and only there, what it conceals."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield file
            finally:
                os.dup2(kept, 2)
    finally:
        os.close(kept)


def _reason(error: av.FFmpegError) -> str:
    return error.strerror or type(error).__name__


def _last_line(error: BaseException) -> str:
    """The telling part of an error as one line; decord puts C++ file names and stack traces around it."""
    lines = [line for line in str(error).splitlines() if line.strip() and "Stack trace" not in line]
    return re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", lines[0])[:200] if lines else type(error).__name__
