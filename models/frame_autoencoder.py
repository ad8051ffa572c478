"""Frame encoder and decoder of thesis 7.4.3 and 7.A.1: four basic residual blocks, and their mirror.

The thesis gives the shapes (64 pixels to 8 places) and the number of blocks. It leaves open the widths before the last
block (here a quarter and a half of it), the strides (2, 2, 2, 1, or 2, 2, 1, 1 for as many places of smaller frames),
the norm and the output. The norm is GroupNorm, which treats a frame alike in training, when frozen and in evaluation.
The output is linear: behind a sigmoid, frames that are mostly black held early training at all black.
"""

from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from kineme.models.layers import normalise

Reduction = Literal[4, 8]
"""Side of a frame over the side of its features."""

_MULTIPLE = 8


def check_frame_size(frame_size: int) -> None:
    """Raise ValueError unless ``frame_size`` (pixels) can be halved three times."""
    if frame_size < 2 * _MULTIPLE or frame_size % _MULTIPLE:
        nearest = max(2, round(frame_size / _MULTIPLE)) * _MULTIPLE
        raise ValueError(f"frame_size is {frame_size}: it must be a multiple of {_MULTIPLE}, such as {nearest}")


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution that drops what it strides over first.

    Given fewer channels than it blocks (8 with AVX2), oneDNN's own strided one writes past its buffer in the weights'
    gradient, from frames laid out as channels_last: wrong gradients or a crash (uxlfoundation/oneDNN#6035).
    """

    def forward(self, features: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(features[..., ::rows, ::columns], self.weight, self.bias)


def residual_block(in_channels: int, out_channels: int, stride: int = 1) -> BasicBlock:
    """A basic residual block (He et al. 2016) with GroupNorm; the shortcut is a 1x1 convolution where shapes differ."""
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            _Pointwise(in_channels, out_channels, kernel_size=1, stride=stride, bias=False), normalise(out_channels)
        )
    return BasicBlock(in_channels, out_channels, stride, shortcut, norm_layer=normalise)


def _widths(features: int) -> list[int]:
    if features < 4:
        raise ValueError(f"latent_channels is {features}: at least 4 are needed, as the first block has a quarter")
    return [features // 4, features // 2, features, features]


class FrameEncoder(nn.Sequential):
    """(N, channels, H, W) in [0, 1] -> (N, features, H / reduction, W / reduction)."""

    def __init__(self, features: int, channels: int = 3, reduction: Reduction = 8) -> None:
        widths = _widths(features)
        strides = (2, 2, reduction // 4, 1)
        super().__init__(
            *(
                residual_block(before, after, stride)
                for before, after, stride in zip([channels, *widths[:-1]], widths, strides, strict=True)
            )
        )


class FrameDecoder(nn.Sequential):
    """The features back to (N, channels, H, W), unbounded: residual blocks and transposed convolutions."""

    def __init__(self, features: int, channels: int = 3, reduction: Reduction = 8) -> None:
        widths = _widths(features)[::-1]
        layers: list[nn.Module] = [residual_block(widths[0], widths[0])]
        for (before, after), stride in zip(itertools.pairwise(widths), (reduction // 4, 2, 2), strict=True):
            layers += [*([_double(before)] if stride == 2 else []), residual_block(before, after)]
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
