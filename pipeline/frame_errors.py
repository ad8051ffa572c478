"""How far drawn frames are from true ones, frame by frame: (B, T, C, H, W) in [0, 1], twice -> (B, T) float32."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

MOST_PSNR = 100.0
"""Two equal frames have no finite PSNR; they count as this."""


def psnr(drawn: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of whole frames, dB: the squared error is averaged over pixels and channels."""
    return _psnr(drawn.flatten(2), truth.flatten(2))


def psnr_channelwise(drawn: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each channel, dB, averaged over the channels."""
    return _psnr(drawn.flatten(3), truth.flatten(3)).mean(-1)


def ssim(drawn: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each channel, averaged over pixels and channels; at most 1.

    Means and variances are those of a Gaussian window of 11 x 11 pixels, sigma 1.5, as in the paper; frames are
    reflected at their borders. Most of the Moving MNIST literature takes scikit-image's default instead, a uniform
    window of 7 x 7 and no borders: its figures differ slightly from these.
    """
    # One step of time after the other: torchmetrics needs ten times the memory of what it compares.
    return torch.stack([_ssim(*frames) for frames in zip(drawn.unbind(1), truth.unbind(1), strict=True)], dim=1)


def mse(drawn: Tensor, truth: Tensor) -> Tensor:
    """Squared error summed over the pixels of a frame, averaged over channels: the convention of Moving MNIST.

    A grey video that is stored as three equal channels so has the error of its one channel. The sum grows with the
    number of pixels: figures compare at one frame size alone.
    """
    return (drawn.float() - truth.float()).square().mean(2).sum((-2, -1))


def mae(drawn: Tensor, truth: Tensor) -> Tensor:
    """Absolute error summed over the pixels of a frame, averaged over channels; as `mse`."""
    return (drawn.float() - truth.float()).abs().mean(2).sum((-2, -1))


def _psnr(drawn: Tensor, truth: Tensor) -> Tensor:
    """Over the last dimension."""
    last = drawn.ndim - 1
    values: Tensor = peak_signal_noise_ratio(drawn.float(), truth.float(), data_range=1.0, dim=last, reduction="none")
    return values.clamp(max=MOST_PSNR)


def _ssim(drawn: Tensor, truth: Tensor) -> Tensor:
    """(B, C, H, W), twice -> (B,)."""
    # With the channels last, the window passes over a CPU's frames in half of the time.
    a, b = (frames.float().contiguous(memory_format=torch.channels_last) for frames in (drawn, truth))
    values: Tensor = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return values
