"""What the service is handed: all that needs a decoder or a network, so that it never imports one.

A `Studio` is used from several threads, but what computes with networks (`Reader.encode`, `Studio.predict`,
`Studio.swap` and a traversal's ``draw``) by one of them at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index
from kineme.retrieval.service.latents import Traversal
from kineme.retrieval.vectors import Frames, Vectors

Refusal = Literal["bytes", "count", "busy", "unreadable", "unfit", "pixels", "seconds", "memory", "slow", "died"]
"""Why an upload is refused, for programs and counters."""


class RefusedVideoError(RetrievalError):
    """A video that cannot be used: one line for whoever sent it, and the reason in a word."""

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message)
        self.refusal: Refusal = refusal


@dataclass(frozen=True)
class Film:
    """Frames (T, H, W, 3) uint8 at ``fps`` frames a second, and what a person should know of them, a line each."""

    frames: Frames
    fps: float
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Excerpt:
    """B clips of one video, ready to be encoded.

    Attributes:
        frames: (B, T, H, W, 3) uint8.
        starts_s, ends_s: (B,) half-open spans in seconds of the video.
        fps: rate of the frames.
        notes: what a person should know of them, a line each.
    """

    frames: Frames
    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    fps: float
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Futures:
    """Drawn futures of a clip.

    Attributes:
        frames: (N, context + horizon, H, W, 3) uint8.
        seeds: of each future.
        context: true frames at the beginning of each.
        fps: rate of the frames.
        notes: what a person should know of them, a line each.
    """

    frames: Frames
    seeds: Sequence[int]
    context: int
    fps: float
    notes: Sequence[str] = ()

    @property
    def horizon(self) -> int:
        """Frames drawn after the context."""
        return int(self.frames.shape[1]) - self.context


class Reader(Protocol):
    """Turns a stranger's video into the two vectors that an index compares."""

    def read(self, video: Path, start_s: float | None = None, end_s: float | None = None) -> Excerpt:
        """Decode a video in a process that can be killed, sampled and sized as the index's clips were.

        Args:
            video: a file.
            start_s, end_s: the part whose clips are wanted, which overlap by half; with neither, the first clip alone.

        Raises:
            RefusedVideoError: it cannot be read, is too short, or is more than is allowed.
        """

    def encode(self, frames: Frames) -> tuple[Vectors, Vectors]:
        """Frames (B, T, H, W, 3) uint8 -> motion (B, Dm) and appearance (B, Da), float32."""


class Studio(Protocol):
    """Decoders and networks."""

    def reader(self, index: Index) -> Reader:
        """What reads videos for an index: its encoder is loaded now.

        Raises:
            RetrievalError: the index holds no encoder that can be loaded.
        """

    def mp4(self, frames: Frames, fps: float) -> bytes:
        """Frames (T, H, W, 3) uint8 as an mp4 that browsers play."""

    def frames(self, film: bytes) -> Frames:
        """The frames (T, H, W, 3) uint8 of a film that an index keeps; no stranger's bytes."""

    @property
    def can_predict(self) -> bool:
        """Whether there is a predictor."""

    def beginning(self, video: Path) -> Film:
        """The first frames of a video, as many as the predictor starts from, at its rate and size.

        Raises:
            RefusedVideoError: as of `Reader.read`.
        """

    def predict(self, beginning: Film, *, samples: int, seed: int, horizon: int | None) -> Futures:
        """Draw what follows.

        Args:
            beginning: of `beginning`.
            samples: futures, from the seeds ``seed``, ``seed`` + 1 and so on.
            seed: the same one draws the same frames.
            horizon: frames to draw; as many as in the training if not given.

        Raises:
            RetrievalError: a number out of the predictor's range.
        """

    @property
    def can_swap(self) -> bool:
        """Whether there is a run with a decoder."""

    def swappable(self, video: Path) -> Film:
        """The first clip of a video as the run with the decoder takes it.

        Raises:
            RefusedVideoError: as of `Reader.read`.
        """

    def swap(self, looks: Film, motion: Film) -> Film:
        """What ``looks`` shows, moving as ``motion`` does; both of `swappable`."""

    @property
    def can_traverse(self) -> bool:
        """Whether there is a run whose latent dimensions can be moved."""

    def traversal(self, index: Index) -> Traversal:
        """The most used latent dimensions of the run, found in clips of an index; slow, so ask once.

        Raises:
            RetrievalError: the index keeps no film of a clip that is long enough.
        """
