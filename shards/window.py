"""Which frames of a stored clip make up a training clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kineme.shards.errors import DataError
from kineme.shards.sample import ClipRecord


@dataclass(frozen=True)
class Window:
    """``clip_frames`` frames, every ``frame_step``-th one, starting at the first or at a random frame.

    Attributes:
        clip_frames: number of frames T of a training clip.
        frame_step: distance between two of them in stored frames.
        seed: seed of the random starts; None takes the first frames always.
    """

    clip_frames: int
    frame_step: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.clip_frames < 1 or self.frame_step < 1:
            raise DataError(
                f"clip_frames {self.clip_frames} and frame_step {self.frame_step} must be 1 or more: change the recipe"
            )
        if self.seed is not None and self.seed < 0:
            raise DataError(f"seed {self.seed} must be 0 or more")

    @property
    def span(self) -> int:
        """Number of stored frames from the first to the last one taken, both included."""
        return (self.clip_frames - 1) * self.frame_step + 1

    def check(self, record: ClipRecord) -> None:
        """Raise a DataError if the stored clip is too short."""
        if record.num_frames < self.span:
            raise DataError(
                f"clip {record.key} of {record.source} has {record.num_frames} frames; {self.clip_frames} frames at "
                f"step {self.frame_step} need {self.span}: lower clip_frames or frame_step in the recipe, or ingest "
                f"with --clip-frames {self.span}"
            )

    def start(self, key: str, num_frames: int, epoch: int) -> int:
        """The first frame to take, by (seed, epoch, key) alone: neither workers nor the order of reading change it."""
        spare = num_frames - self.span
        if self.seed is None or spare <= 0:
            return 0
        entropy = (self.seed, epoch, int.from_bytes(key.encode(), "big"))
        return int(np.random.default_rng(entropy).integers(spare + 1))

    def cut(self, key: str, num_frames: int, epoch: int) -> slice:
        """The frames to take of a stored clip of ``num_frames`` frames."""
        start = self.start(key, num_frames, epoch)
        return slice(start, start + self.span, self.frame_step)
