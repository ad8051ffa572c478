"""The two vectors of a clip, motion and appearance, and the protocol of what makes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError

Space = Literal["motion", "appearance"]
SPACES: tuple[Space, ...] = ("motion", "appearance")

Frames = NDArray[np.uint8]
"""RGB frames of one clip, (T, H, W, 3) uint8."""
Vectors = NDArray[np.float32]
"""One row a clip, (N, D) float32."""


class ClipEncoder(Protocol):
    """What turns clips into vectors. The networks live elsewhere: search and service only know this.

    ``clip_frames`` is the number of frames T it takes, ``frame_size`` the height and width of a frame in pixels.
    """

    @property
    def motion_dim(self) -> int:
        """Length Dm of a motion vector."""

    @property
    def appearance_dim(self) -> int:
        """Length Da of an appearance vector."""

    @property
    def clip_frames(self) -> int:
        """Frames a clip must have."""

    @property
    def frame_size(self) -> int:
        """Height and width of a frame, in pixels."""

    def encode(self, frames: NDArray[np.uint8]) -> tuple[Vectors, Vectors]:
        """Frames (B, T, H, W, 3) uint8 RGB -> motion (B, Dm) and appearance (B, Da), float32."""


@dataclass(frozen=True)
class ClipVectors:
    """The vectors of N clips: row i of either matrix belongs to ``keys[i]``.

    Args:
        keys: N distinct clip keys.
        motion: (N, Dm) float32, finite.
        appearance: (N, Da) float32, finite.

    Raises:
        RetrievalError: the three disagree in length, a key comes twice, or a value is not a finite float32.
    """

    keys: list[str]
    motion: Vectors
    appearance: Vectors

    def __post_init__(self) -> None:
        if len(set(self.keys)) != len(self.keys):
            twice = Counter(self.keys).most_common(1)[0][0]
            raise RetrievalError(f"clip key {twice!r} comes twice: keys must differ; encode each shard once")
        for space in SPACES:
            _check_matrix(space, self.space(space), len(self.keys))

    def space(self, name: Space) -> Vectors:
        """The (N, D) matrix of one space."""
        return self.motion if name == "motion" else self.appearance


def normalised(vectors: Vectors) -> Vectors:
    """Rows of (N, D) at length 1; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit


def _check_matrix(space: Space, matrix: Vectors, count: int) -> None:
    if matrix.ndim != 2 or matrix.shape[1] == 0 or matrix.dtype != np.float32:
        raise RetrievalError(
            f"{space} vectors are {matrix.dtype} of shape {matrix.shape}: float32 of shape (clips, dimensions) expected"
        )
    if len(matrix) != count:
        raise RetrievalError(
            f"{len(matrix)} {space} vectors for {count} keys: one each expected; encode the clips again"
        )
    bad = int((~np.isfinite(matrix).all(axis=1)).sum())
    if bad:
        raise RetrievalError(
            f"{bad} of {count} {space} vectors hold NaN or infinity: the encoder diverged; train it with a lower rate"
        )
