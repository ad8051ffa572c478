"""What a data set must offer to be ingested: a list of its videos, and for each a way to read it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError, read_images, read_with_decord, read_with_pyav
from kineme.shards.sample import Label

NOT_SPLIT = "train"
"""The split of videos whose source knows none."""

_CHUNK = 1 << 20


class Stamp(NamedTuple):
    """What tells cheaply whether a video changed: bytes of the source, and when its files were last modified."""

    bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Tracks:
    """What is known of every frame of a video beside its pixels; one row a frame of the source.

    Attributes:
        keypoints: (F, K, 2) float32 in source pixels, x before y.
        actions: (F, A) float32.
    """

    keypoints: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None


class Opener(Protocol):
    """Reads one video. It is sent to another process, so it is picklable and small: paths and numbers, no pixels."""

    def stamp(self) -> Stamp:
        """Size and time of the source; zeros for what cannot be asked. Cheap."""
        ...

    def sha256(self) -> str:
        """Hex digest of the source's bytes. Raises UnreadableError or OSError."""
        ...

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Ways to read it, the preferred first; each may raise UnreadableError, also while its frames are iterated."""
        ...

    def tracks(self) -> Tracks:
        """Keypoints and actions. Raises DataError, UnreadableError or OSError."""
        ...


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One video of a data set.

    Attributes:
        source: its name, a path relative to the ingested root, with slashes.
        opener: reads it.
        labels: what is known of it.
        split: "train", "test", ...
    """

    source: str
    opener: Opener
    labels: Mapping[str, Label] = field(default_factory=dict)
    split: str = NOT_SPLIT


@dataclass(frozen=True)
class Defaults:
    """How a data set is ingested unless the user says otherwise.

    Attributes:
        clip_frames: frames of a clip.
        size: side of the stored square frames in pixels.
        frame_step: every so many-th frame is taken.
    """

    clip_frames: int = 16
    size: int = 64
    frame_step: int = 1


@dataclass(frozen=True)
class Watcher:
    """Is told how fetching goes.

    Attributes:
        say: called with lines for the user, the licence first.
        progress: called with a file's name, the bytes of it that are here, and those of all of it if that is known.
    """

    say: Callable[[str], None] = lambda _text: None
    progress: Callable[[str, int, int | None], None] = lambda _name, _done, _total: None


NOBODY = Watcher()


@dataclass(frozen=True)
class FetchOptions:
    """What ``kineme fetch`` was told; a source uses what concerns it. ``frames`` None: as many as its clips have."""

    clips: int = 2500
    seed: int = 0
    frames: int | None = None
    train_fraction: float = 0.8
    mnist: Path | None = None
    watcher: Watcher = NOBODY


class Source(Protocol):
    """A data set: one file in ``sources/`` and one line in ``sources/registry.py``. A frozen dataclass.

    Fields that ``options`` names may be set by the user (``kineme ingest --option NAME=VALUE``); the dataclass checks
    their values in ``__post_init__``.
    """

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
    def defaults(self) -> Defaults:
        """How it is ingested unless the user says otherwise."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether two of its videos may have the same bytes, so that one must look for duplicates."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """What ``--option NAME=VALUE`` may set, and what it does, one line each."""
        ...

    def present(self, root: Path) -> bool:
        """Whether ``root`` looks like this data set."""
        ...

    def items(self, root: Path) -> list[SourceItem]:
        """Every video under ``root`` in a fixed order, none decoded. Raises DataError if ``root`` is not it."""
        ...

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """Files to keep beside the shards, by name; most have none."""
        ...

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Put the original files at ``to``; returns what was done, one line. Raises DataError where that cannot be."""
        ...


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
    """A folder of numbered images: one video."""

    paths: tuple[Path, ...]
    sidecars: Sidecars = NO_SIDECARS

    def stamp(self) -> Stamp:
        """Of all images together."""
        return stamp_of(self.paths, self.sidecars.paths())

    def sha256(self) -> str:
        """Of all images one after the other."""
        return hash_files(self.paths)

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Pillow."""
        return (lambda: read_images(self.paths),)

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


def require_folder(root: Path) -> None:
    """Raise DataError unless ``root`` is a folder."""
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {kind}; give the folder that holds the videos")


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
