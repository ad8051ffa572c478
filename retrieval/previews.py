"""What is seen of a clip without its shards: a small film strip, and a small film that browsers play.

pictures.bin    all strips and films, one after the other
pictures.npy    (N, 4) int64, a row a clip: where its strip begins, bytes of the strip, bytes of the film after it,
                frames in the strip. Four zeros for a clip of which nothing is kept
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.vectors import Frames

MAX_FRAMES = 8
MAX_SIDE = 64
BYTES_FILE = "pictures.bin"
PLACES_FILE = "pictures.npy"
# Drawn frames fit in this as exact PNG; filmed ones do not, and are stored as JPEG.
_EXACT_BYTES = 24_000


class Picture(NamedTuple):
    """What to keep of a clip: its frames (T, H, W, 3) uint8, of which a strip is made, and an mp4, or b"" for none."""

    key: str
    frames: Frames
    film: bytes = b""


class StoredPicture(NamedTuple):
    """A strip as PNG or JPEG bytes, how many frames stand in it side by side, and an mp4, or b"" for none."""

    strip: bytes
    frames: int
    film: bytes


@dataclass(frozen=True)
class Pictures:
    """The pictures of one segment, memory-mapped."""

    path: Path
    places: NDArray[np.int64]
    data: NDArray[np.uint8]

    def stored(self, row: int) -> StoredPicture | None:
        """The picture of a row as bytes; None if nothing is kept of it.

        Raises:
            RetrievalError: the file is shorter than it was.
        """
        start, strip, film, frames = self.places[row].tolist()
        if not strip:
            return None
        data = self.data[start : start + strip + film].tobytes()
        if len(data) != strip + film:
            raise RetrievalError(f"{self.path}: cut short; copy or build the index again")
        return StoredPicture(data[:strip], frames, data[strip:])

    def strip(self, row: int) -> Frames | None:
        """The film strip of a row, (T, H, W, 3) uint8, T <= 8; None if nothing is kept of it.

        Raises:
            RetrievalError: the file is damaged.
        """
        stored = self.stored(row)
        if stored is None:
            return None
        try:
            with Image.open(io.BytesIO(stored.strip)) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            return np.stack(np.split(pixels, stored.frames, axis=1))
        except (OSError, ValueError) as error:
            raise RetrievalError(f"{self.path}: a picture is unreadable ({error}); build the index again") from None


class PictureWriter:
    """Writes pictures.bin and pictures.npy for ``count`` rows into ``folder``; a context manager.

    Rows that get no picture have none. A row may be written once.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._places = np.zeros((count, 4), np.int64)
        self._folder = folder
        self._file = (folder / BYTES_FILE).open("wb")

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        np.save(self._folder / PLACES_FILE, self._places)

    def write(self, row: int, picture: StoredPicture) -> None:
        """Keep the picture of a row."""
        self._places[row] = self._file.tell(), len(picture.strip), len(picture.film), picture.frames
        self._file.write(picture.strip)
        self._file.write(picture.film)

    def write_all(self, rows: Mapping[str, int], pictures: Iterable[Picture]) -> None:
        """Keep a picture for each of ``rows`` (key -> row), in whatever order they come, or for none at all.

        Raises:
            RetrievalError: one is of no such clip, comes twice or is missing.
        """
        written: set[str] = set()
        for picture in pictures:
            if picture.key not in rows or picture.key in written:
                what = "comes twice" if picture.key in written else "is of none of the clips"
                raise RetrievalError(f"picture {picture.key!r} {what}: one of each expected; read the shards again")
            strip = small_strip(picture.frames)
            self.write(rows[picture.key], StoredPicture(_to_bytes(strip), len(strip), picture.film))
            written.add(picture.key)
        if written and len(written) != len(rows):
            raise RetrievalError(
                f"{len(written)} previews for {len(rows)} clips: one of each expected; read the shards again"
            )


def open_pictures(folder: Path) -> Pictures:
    """The pictures of a segment.

    Raises:
        RetrievalError: pictures.npy is unreadable.
    """
    try:
        places = np.load(folder / PLACES_FILE, mmap_mode="r")
        size = (folder / BYTES_FILE).stat().st_size
        # An empty file cannot be mapped.
        data = np.memmap(folder / BYTES_FILE, np.uint8, "r") if size else np.empty(0, np.uint8)
    except (ValueError, EOFError) as error:
        raise RetrievalError(f"{folder / PLACES_FILE}: unreadable ({error}); build the index again") from None
    return Pictures(folder / BYTES_FILE, places, data)


def small_strip(frames: Frames) -> Frames:
    """At most 8 evenly spaced frames, first and last among them, scaled down to at most 64 px on the longer side."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0 or frames.dtype != np.uint8:
        raise RetrievalError(f"frames are {frames.dtype} of shape {frames.shape}: uint8 (T, H, W, 3) expected")
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int)]
    height, width = frames.shape[1:3]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(chosen)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in chosen])


def _to_bytes(strip: Frames) -> bytes:
    image = Image.fromarray(np.concatenate(list(strip), axis=1))
    exact = io.BytesIO()
    image.save(exact, format="PNG")
    if exact.tell() <= _EXACT_BYTES:
        return exact.getvalue()
    close = io.BytesIO()
    image.save(close, format="JPEG", quality=90, subsampling=0)
    return close.getvalue()
