"""What a data set must offer to be ingested: a list of its videos, and for each a way to read it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError, read_images, read_with_decord, read_with_pyav
from kineme.shards.sample import Label

NOT_SPLIT = "train"
"""The split of videos whose source knows none."""

_CHUNK = 1 << 20


class Opener(Protocol):
    """Reads one video. It is sent to another process, so it is picklable and small: paths and numbers, no pixels."""

    def size(self) -> int:
        """Bytes of the source, for telling whether it changed; cheap."""
        ...

    def sha256(self) -> str:
        """Hex digest of the source's bytes. Raises UnreadableError or OSError."""
        ...

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Ways to read it, the preferred first; each may raise UnreadableError, also while its frames are iterated."""
        ...


@dataclass(frozen=True)
class SourceItem:
    """One video of a data set.

    Attributes:
        source: its name, a path relative to the ingested root, with slashes.
        opener: reads it.
        labels: what is known of it.
        split: "train", "test", ...
        keypoints: NumPy file, (F, K, 2) in source pixels, x before y, F the source's frames.
        actions: NumPy file, (F, A).
    """

    source: str
    opener: Opener
    labels: Mapping[str, Label] = field(default_factory=dict)
    split: str = NOT_SPLIT
    keypoints: Path | None = None
    actions: Path | None = None


@dataclass(frozen=True)
class FetchOptions:
    """What ``kineme fetch`` was told; a source uses what concerns it."""

    clips: int = 2500
    seed: int = 0
    frames: int = 16
    train_fraction: float = 0.8
    mnist: Path | None = None


class Source(Protocol):
    """A data set: one file in ``sources/`` and one line in ``sources/registry.py``."""

    @property
    def name(self) -> str:
        """As in ``--dataset NAME``."""
        ...

    @property
    def description(self) -> str:
        """What it shows, one line."""
        ...

    @property
    def licence(self) -> str:
        """Of the data."""
        ...

    @property
    def origin(self) -> str:
        """Where its files come from, and where they must lie under the root."""
        ...

    @property
    def clip_frames(self) -> int:
        """Frames of a clip unless the user says otherwise."""
        ...

    def present(self, root: Path) -> bool:
        """Whether ``root`` looks like this data set."""
        ...

    def items(self, root: Path) -> list[SourceItem]:
        """Every video under ``root`` in a fixed order, none decoded. Raises DataError if ``root`` is not it."""
        ...

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Put the original files at ``to``; returns what was done, one line. Raises DataError where that cannot be."""
        ...


@dataclass(frozen=True)
class VideoFile:
    """A file that FFmpeg reads."""

    path: Path

    def size(self) -> int:
        """Bytes; 0 if it cannot be asked."""
        return _size(self.path)

    def sha256(self) -> str:
        """Of the file."""
        if self.path.exists() and not self.path.is_file():
            raise UnreadableError("not a regular file")
        return _hash_files([self.path])

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Decord, then PyAV."""
        return (lambda: read_with_decord(self.path), lambda: read_with_pyav(self.path))


@dataclass(frozen=True)
class ImageFolder:
    """A folder of numbered images: one video."""

    paths: tuple[Path, ...]

    def size(self) -> int:
        """Bytes of all images together."""
        return sum(_size(path) for path in self.paths)

    def sha256(self) -> str:
        """Of all images one after the other."""
        return _hash_files(self.paths)

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Pillow."""
        return (lambda: read_images(self.paths),)


@dataclass(frozen=True)
class Missing:
    """A video that is known of and cannot be reached, so that it is reported like any other that cannot be used."""

    reason: str

    def size(self) -> int:
        """Nothing is there."""
        return 0

    def sha256(self) -> str:
        """Raises UnreadableError: the reason."""
        raise UnreadableError(self.reason)

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """None."""
        return ()


def require_folder(root: Path) -> None:
    """Raise DataError unless ``root`` is a folder."""
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {kind}; give the folder that holds the videos")


def _hash_files(paths: Sequence[Path]) -> str:
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
