"""Frame encoder and decoder of thesis 7.4.3 and 7.A.1: four basic residual blocks, and their mirror.

The thesis gives the shapes (a frame to an eighth of its side) and the number of blocks. It leaves open the widths
before the last block (here a quarter and a half of it), the strides (2, 2, 2, 1), the norm and the output. The norm is
GroupNorm, which treats a frame alike in training, when frozen and in evaluation. The output is linear: behind a
sigmoid, frames that are mostly black held early training at all black.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from kineme.models.layers import normalise

REDUCTION = 8
"""Side of a frame over the side of its features."""


def check_frame_size(frame_size: int) -> None:
    """Raise ValueError unless ``frame_size`` (pixels) can be halved three times."""
    if frame_size < 2 * REDUCTION or frame_size % REDUCTION:
        nearest = max(2, round(frame_size / REDUCTION)) * REDUCTION
        raise ValueError(f"frame_size is {frame_size}: it must be a multiple of {REDUCTION}, such as {nearest}")


def residual_block(in_channels: int, out_channels: int, stride: int = 1) -> BasicBlock:
    """A basic residual block (He et al. 2016) with GroupNorm; the shortcut is a 1x1 convolution where shapes differ."""
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False), normalise(out_channels)
        )
    return BasicBlock(in_channels, out_channels, stride, shortcut, norm_layer=normalise)


def _widths(features: int) -> list[int]:
    if features < 4:
        raise ValueError(f"latent_channels is {features}: at least 4 are needed, as the first block has a quarter")
    return [features // 4, features // 2, features, features]


class FrameEncoder(nn.Sequential):
    """(N, channels, H, W) in [0, 1] -> (N, features, H/8, W/8)."""

    def __init__(self, features: int, channels: int = 3) -> None:
        widths = _widths(features)
        super().__init__(
            *(
                residual_block(before, after, stride)
                for before, after, stride in zip([channels, *widths[:-1]], widths, (2, 2, 2, 1), strict=True)
            )
        )


class FrameDecoder(nn.Sequential):
    """(N, features, H/8, W/8) -> (N, channels, H, W), unbounded: residual blocks and transposed convolutions."""

    def __init__(self, features: int, channels: int = 3) -> None:
        widths = _widths(features)[::-1]
        layers: list[nn.Module] = [residual_block(widths[0], widths[0])]
        for before, after in itertools.pairwise(widths):
            layers += [_double(before), residual_block(before, after)]
        super().__init__(*layers, nn.Conv2d(widths[-1], channels, kernel_size=3, padding=1))


def _double(channels: int) -> nn.Sequential:
    """Twice the side, as many channels."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, kernel_size=4, stride=2, padding=1, bias=False),
        normalise(channels),
        nn.ReLU(inplace=True),
    )


def squared_error(reconstruction: Tensor, frames: Tensor) -> Tensor:
    """||x - y||^2: sum over the last three dimensions (channels and pixels), mean over all before them."""
    return (reconstruction - frames).float().square().flatten(-3).sum(-1).mean()
