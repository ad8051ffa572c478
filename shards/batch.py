"""Clips as the loaders hand them out: one, and a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kineme.shards.errors import DataError
from kineme.shards.sample import ClipRecord, Frames


@dataclass(frozen=True)
class Clip:
    """One training clip: frames (T, H, W, 3) uint8, and actions (T, A) and keypoints (T, K, 2) float32 if stored."""

    frames: Frames
    record: ClipRecord
    actions: NDArray[np.float32] | None
    keypoints: NDArray[np.float32] | None


@dataclass(frozen=True)
class ClipBatch:
    """A batch of clips with what is known of each.

    Attributes:
        frames: (B, T, C, H, W) uint8 RGB, 0 to 255. The memory order is that of the stored frames, (B, T, H, W, C):
            ``frames.flatten(0, 1)`` costs nothing and is channels_last, ``view`` over C, H, W fails.
        records: the stored clip's record for each of the B clips. A window cut out of a longer clip keeps the record of
            the whole: its span and frame count are those of the stored clip.
        actions: (B, T, A) float32, or None where the shards hold none.
        keypoints: (B, T, K, 2) float32 in pixels of the stored frame, x before y, or None where the shards hold none.
    """

    frames: Tensor
    records: list[ClipRecord]
    actions: Tensor | None = None
    keypoints: Tensor | None = None

    def __len__(self) -> int:
        return len(self.records)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Self:
        """The same batch with its tensors on ``device``; from pinned memory the copy does not block."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory (DataLoader calls this)."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(
            self,
            frames=change(self.frames),
            actions=None if self.actions is None else change(self.actions),
            keypoints=None if self.keypoints is None else change(self.keypoints),
        )


def collate(clips: Sequence[Clip]) -> ClipBatch:
    """Stack clips of one size.

    Raises:
        DataError: some clips have actions or keypoints and others have none, or their shapes differ.
    """
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    return ClipBatch(
        frames=frames.permute(0, 1, 4, 2, 3),
        records=[clip.record for clip in clips],
        actions=_stack("actions", [clip.actions for clip in clips]),
        keypoints=_stack("keypoints", [clip.keypoints for clip in clips]),
    )


def as_it_is(item: Any) -> Any:
    """Collates nothing: for what is put together where it is read. torch would turn its arrays into tensors."""
    return item


def _stack(name: str, arrays: Sequence[NDArray[np.float32] | None]) -> Tensor | None:
    shapes = {None if array is None else array.shape for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            f"clips of one batch have {name} of different shapes, {sorted(map(str, shapes))}: every clip of a shards "
            "folder needs the same; ingest such sources into folders of their own"
        )
    return None if shapes == {None} else torch.from_numpy(np.stack([array for array in arrays if array is not None]))
