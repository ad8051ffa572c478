"""How far drawn frames are from true ones, frame by frame: (B, T, C, H, W) in [0, 1], twice -> (B, T)."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

MOST_PSNR = 100.0
"""Two equal frames have no finite PSNR; they count as this."""


def psnr(drawn: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of whole frames, dB: the squared error is averaged over pixels and channels."""
    return _psnr(drawn.flatten(2), truth.flatten(2))


def psnr_channelwise(drawn: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each channel, dB, averaged over the channels."""
    return _psnr(drawn.flatten(3), truth.flatten(3)).mean(-1)


def _psnr(drawn: Tensor, truth: Tensor) -> Tensor:
    """Over the last dimension."""
    last = drawn.ndim - 1
    values: Tensor = peak_signal_noise_ratio(drawn.float(), truth.float(), data_range=1.0, dim=last, reduction="none")
    return values.clamp(max=MOST_PSNR)
