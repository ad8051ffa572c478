"""From stored frames to what a network reads: scaling and resizing, on the device, after the copy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_model(frames: Tensor, frame_size: int) -> Tensor:
    """uint8 (B, T, C, H, W) -> float32 in [0, 1], (B, T, C, frame_size, frame_size).

    Square frames of another size are resized, averaging over the area where they shrink.
    """
    size = (frame_size, frame_size)
    flat = frames.flatten(0, 1)
    if flat.shape[-2:] != size:
        # Stored frames come with their channels last in memory, where pooling is twice as slow.
        flat = flat.contiguous().float()
        if flat.shape[-1] > frame_size:
            flat = F.interpolate(flat, size, mode="area")
        else:
            flat = F.interpolate(flat, size, mode="bilinear", align_corners=False)
    return (flat.float() / 255).reshape(*frames.shape[:3], *size)


def to_uint8(frames: Tensor) -> Tensor:
    """Float (B, T, C, H, W) in [0, 1] -> uint8 (B, T, H, W, C) on the CPU, ready to be written."""
    return (frames.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(2, -1).cpu()
