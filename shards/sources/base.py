"""What a data set must offer to be ingested: a list of its videos, and for each a way to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.media import Footage
from kineme.shards.sample import Label

NOT_SPLIT = "train"
"""The split of videos whose source knows none."""


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


def require_folder(root: Path) -> None:
    """Raise DataError unless ``root`` is a folder."""
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {kind}; give the folder that holds the videos")
