"""From stored frames to what a network reads: scaling and resizing, on the device, after the copy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_model(frames: Tensor, frame_size: int) -> Tensor:
    """uint8 (B, T, C, H, W) -> float32 in [0, 1], (B, T, C, frame_size, frame_size).

    Square frames of another size are resized, averaging over the area where they shrink.
    """
    scaled = frames.float() / 255
    if scaled.shape[-1] == frame_size and scaled.shape[-2] == frame_size:
        return scaled
    flat = scaled.flatten(0, 1)
    shape = (frame_size, frame_size)
    if flat.shape[-1] > frame_size:
        resized = F.interpolate(flat, shape, mode="area")
    else:
        resized = F.interpolate(flat, shape, mode="bilinear", align_corners=False)
    return resized.reshape(*frames.shape[:3], *shape)


def to_uint8(frames: Tensor) -> Tensor:
    """Float (B, T, C, H, W) in [0, 1] -> uint8 (B, T, H, W, C) on the CPU, ready to be written."""
    return (frames.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(2, -1).cpu()
