"""The two vectors of a clip, motion and appearance, and the protocol of what makes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.atomic import replacing
from kineme.retrieval.errors import RetrievalError

Space = Literal["motion", "appearance"]
SPACES: tuple[Space, ...] = ("motion", "appearance")

Frames = NDArray[np.uint8]
"""RGB frames of one clip, (T, H, W, 3) uint8."""
Vectors = NDArray[np.float32]
"""One row a clip, (N, D) float32."""

KEYS_FILE = "keys.json"


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
            twice = next(key for key in self.keys if self.keys.count(key) > 1)
            raise RetrievalError(f"clip key {twice!r} comes twice: keys must differ; encode each shard once")
        for space in SPACES:
            _check_matrix(space, self.space(space), len(self.keys))

    def space(self, name: Space) -> Vectors:
        """The (N, D) matrix of one space."""
        return self.motion if name == "motion" else self.appearance

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row number of each key."""
        return {key: row for row, key in enumerate(self.keys)}

    def save(self, folder: Path) -> None:
        """Write motion.npy, appearance.npy and keys.json into ``folder`` (made if absent).

        keys.json is removed first and written last: a folder that has it holds matrices that belong to it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KEYS_FILE).unlink(missing_ok=True)
        for space in SPACES:
            with replacing(folder / f"{space}.npy") as partial, partial.open("wb") as file:
                np.save(file, self.space(space), allow_pickle=False)
        with replacing(folder / KEYS_FILE) as partial:
            partial.write_text(json.dumps(self.keys), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ClipVectors:
        """Read what :meth:`save` wrote; the matrices stay on disk (memory-mapped, read-only) until they are used.

        Raises:
            RetrievalError: a file is missing, cut short, or disagrees with the others.
        """
        for name in (KEYS_FILE, *(f"{space}.npy" for space in SPACES)):
            if not (folder / name).is_file():
                raise RetrievalError(f"{folder}: {name} is missing: not a whole set of vectors; encode the clips again")
        try:
            keys = json.loads((folder / KEYS_FILE).read_text(encoding="utf-8"))
            motion, appearance = (np.load(folder / f"{space}.npy", mmap_mode="r") for space in SPACES)
        except (ValueError, EOFError) as error:
            raise RetrievalError(f"{folder}: vectors unreadable ({error}); encode the clips again") from None
        if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
            raise RetrievalError(f"{folder / KEYS_FILE}: must be a list of keys; encode the clips again")
        return cls(keys, motion, appearance)


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
