"""Openers of what lies in files: a video file, a folder of numbered images; and of what cannot be reached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.media import (
    IMAGE_FOLDER_FPS,
    Footage,
    UnreadableError,
    read_images,
    read_with_decord,
    read_with_pyav,
)
from kineme.shards.sources.base import Stamp, Tracks

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Sidecars:
    """NumPy files beside a video: keypoints (F, K, 2) in source pixels, and actions (F, A)."""

    keypoints: Path | None = None
    actions: Path | None = None

    def paths(self) -> list[Path]:
        """Those that there are."""
        return [path for path in (self.keypoints, self.actions) if path is not None]

    def load(self) -> Tracks:
        """Raises DataError if one is no such array, OSError if it cannot be read."""
        return Tracks(_load_track(self.keypoints, 3), _load_track(self.actions, 2))


NO_SIDECARS = Sidecars()


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A file that FFmpeg reads."""

    path: Path
    sidecars: Sidecars = NO_SIDECARS

    def stamp(self) -> Stamp:
        """Of the file."""
        return stamp_of([self.path], self.sidecars.paths())

    def sha256(self) -> str:
        """Of the file."""
        if self.path.exists() and not self.path.is_file():
            raise UnreadableError("not a regular file")
        return hash_files([self.path])

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Decord, then PyAV."""
        return (lambda: read_with_decord(self.path), lambda: read_with_pyav(self.path))

    def tracks(self) -> Tracks:
        """From the files beside it."""
        return self.sidecars.load()


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder of numbered images: one video of ``fps`` frames a second."""

    paths: tuple[Path, ...]
    sidecars: Sidecars = NO_SIDECARS
    fps: float = IMAGE_FOLDER_FPS

    def stamp(self) -> Stamp:
        """Of all images together."""
        return stamp_of(self.paths, self.sidecars.paths())

    def sha256(self) -> str:
        """Of all images one after the other."""
        return hash_files(self.paths)

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Pillow."""
        return (lambda: read_images(self.paths, self.fps),)

    def tracks(self) -> Tracks:
        """From the files beside the folder."""
        return self.sidecars.load()


@dataclass(frozen=True, slots=True)
class Missing:
    """A video that is known of and cannot be reached, so that it is reported like any other that cannot be used."""

    reason: str

    def stamp(self) -> Stamp:
        """Nothing is there."""
        return Stamp(0, 0)

    def sha256(self) -> str:
        """Raises UnreadableError: the reason."""
        raise UnreadableError(self.reason)

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """None."""
        return ()

    def tracks(self) -> Tracks:
        """None."""
        return Tracks()


def stamp_of(sources: Iterable[Path], others: Iterable[Path] = ()) -> Stamp:
    """Bytes of some files together, and the latest time that they or ``others`` were modified."""
    size = latest = 0
    for path in sources:
        found = _stamp(path)
        size, latest = size + found.bytes, max(latest, found.modified_ns)
    return Stamp(size, max([latest, *(_stamp(path).modified_ns for path in others)]))


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return Stamp(0, 0)
    return Stamp(status.st_size, status.st_mtime_ns)


def hash_files(paths: Sequence[Path]) -> str:
    """The sha256 of files one after the other. Raises OSError, or UnreadableError if they hold no byte."""
    digest = hashlib.sha256()
    total = 0
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                total += len(chunk)
    if not total:
        raise UnreadableError("empty: 0 bytes")
    return digest.hexdigest()


def _load_track(path: Path | None, dimensions: int) -> NDArray[np.float32] | None:
    """Keypoints (F, K, 2) or actions (F, A). Raises DataError for anything else."""
    if path is None:
        return None
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path.name} is not a NumPy array file ({error})") from error
    wanted = "(F, K, 2)" if dimensions == 3 else "(F, A)"
    if array.ndim != dimensions or (dimensions == 3 and array.shape[2] != 2) or array.dtype.kind not in "fiu":
        raise DataError(f"{path.name} is {array.shape} {array.dtype}; numbers of shape {wanted} are needed")
    return np.asarray(array, np.float32)
