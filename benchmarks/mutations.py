"""Ways in which a file gets damaged, and small whole files of many kinds to damage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

Random = np.random.Generator

_HEADER = 2048  # most containers keep within so many bytes what the rest means
_AT_ONCE = (0.7, 0.2, 0.1)  # how often one, two, three things are done to a file: more rarely leave a video


def mutate(data: bytes, others: Sequence[bytes], random: Random) -> tuple[bytes, str]:
    """A damaged copy of a file, never equal to it, and the names of what was done, joined by +.

    Args:
        data: at least 16 bytes.
        others: files whose parts may be put in.
        random: the same state damages the same way.
    """
    while True:
        damaged = data
        count = random.choice(len(_AT_ONCE), p=_AT_ONCE) + 1
        names = [str(random.choice(list(MUTATIONS))) for _ in range(count)]
        for name in names:
            if len(damaged) >= 16:
                damaged = MUTATIONS[name](damaged, others, random)
        if damaged != data:
            return damaged, "+".join(names)


def _flip_bits(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data)
    for place in random.integers(0, len(data), int(2 ** random.uniform(0, 9))):
        changed[place] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _flip_header_bits(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    head = _flip_bits(data[:_HEADER], others, random)
    return head + data[_HEADER:]


def _flip_tail_bits(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Where mp4 files often have their index."""
    at = max(0, len(data) - _HEADER)
    return data[:at] + _flip_bits(data[at:], others, random)


def _zero_run(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    first, last = _stretch(data, random)
    return data[:first] + bytes(last - first) + data[last:]


def _random_run(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    first, last = _stretch(data, random)
    return data[:first] + random.bytes(last - first) + data[last:]


def _extreme_number(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Sizes, counts and offsets are 32 or 64 bits wide: the largest, the smallest, and such."""
    first = int(random.integers(0, min(len(data), 4 * _HEADER) - 8))
    values = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1", b"\x80\0\0\0", b"\xff" * 8)
    value = values[int(random.integers(len(values)))]
    return data[:first] + value + data[first + len(value) :]


def _truncate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    return data[: int(random.integers(0, len(data)))]


def _behead(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    return data[int(random.integers(1, len(data))) :]


def _delete(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    first, last = _stretch(data, random)
    return data[:first] + data[last:]


def _repeat(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    first, last = _stretch(data, random)
    return data[:last] + data[first:]


def _swap(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Two neighbouring stretches."""
    first, middle, last = sorted(int(place) for place in random.integers(0, len(data) + 1, 3))
    return data[:first] + data[middle:last] + data[first:middle] + data[last:]


def _other_header(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """The beginning of another file on the rest of this one."""
    other = others[int(random.integers(len(others)))]
    length = int(2 ** random.uniform(3, np.log2(min(len(data), len(other)))))
    return other[:length] + data[length:]


def _other_middle(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = others[int(random.integers(len(others)))]
    first, last = _stretch(data, random)
    start = int(random.integers(len(other)))
    return data[:first] + other[start : start + last - first] + data[last:]


def _stretch(data: bytes, random: Random) -> tuple[int, int]:
    """From one byte to all, short ones as often as long ones."""
    length = int(2 ** random.uniform(0, np.log2(len(data))))
    first = int(random.integers(0, len(data) - length + 1))
    return first, first + length


MUTATIONS: Mapping[str, Callable[[bytes, Sequence[bytes], Random], bytes]] = {
    "flip bits": _flip_bits,
    "flip bits of the header": _flip_header_bits,
    "flip bits of the end": _flip_tail_bits,
    "zero a run": _zero_run,
    "randomise a run": _random_run,
    "extreme number": _extreme_number,
    "truncate": _truncate,
    "behead": _behead,
    "delete a run": _delete,
    "repeat a run": _repeat,
    "swap chunks": _swap,
    "another file's header": _other_header,
    "another file's middle": _other_middle,
}


_KINDS: Sequence[tuple[str, str, str, dict[str, str]]] = (
    ("mp4", "libx264", "yuv420p", {}),
    ("m4v", "mpeg4", "yuv420p", {}),
    ("mov", "mjpeg", "yuvj420p", {}),
    ("mkv", "libx264", "yuv444p", {}),
    ("avi", "mpeg4", "yuv420p", {}),
    ("webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime"}),
    ("gif", "gif", "rgb8", {}),
    ("ts", "libx264", "yuv420p", {}),
    ("mpg", "mpeg2video", "yuv420p", {}),
    ("flv", "flv1", "yuv420p", {}),
    ("wmv", "wmv2", "yuv420p", {}),
)


def write_whole_files(folder: Path, frames: int = 12) -> list[Path]:
    """A small video, 64x48, in each of the containers that an ingest looks for."""
    paths = []
    for suffix, codec, pixels, options in _KINDS:
        path = folder / f"made-up.{suffix}"
        _write(path, codec, pixels, options, frames)
        paths.append(path)
    return paths


def _write(path: Path, codec: str, pixels: str, options: dict[str, str], frames: int) -> None:
    rows, columns = np.mgrid[:48, :64]
    with av.open(path, "w") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=25, options=options))
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number in range(frames):
            waves = np.stack([np.sin((rows * part + columns + 3 * number) / 6) for part in (0, 1, 2)], axis=-1)
            frame = av.VideoFrame.from_ndarray((127 + 120 * waves).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
