"""Some frames of a clip, in no order."""

from __future__ import annotations

import torch
from torch import Tensor


def random_frames(frames: Tensor, count: int | None = None) -> Tensor:
    """``count`` frames of each clip (B, T, ...), drawn at random without repeats, in random order; all if not given."""
    order = torch.rand(frames.shape[:2], device=frames.device).argsort(dim=1)[:, :count]
    return frames[torch.arange(len(frames), device=frames.device)[:, None], order]
