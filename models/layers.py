"""VGG16 halves for video frames: an encoder that keeps its skips and the decoder that mirrors it.

Shapes follow VGG16 (Simonyan & Zisserman 2015, table 1, column D) and, for the skips and the vector between the halves,
the VGG network of SVG (Denton & Fergus 2018), to which the next-frame CVAE report refers. Two differences: all five
stages are here (SVG replaces the fifth by one 4x4 convolution), and the norm is GroupNorm. Batch statistics over the
(clips x frames) of one call would differ between the parallel pass over true frames, the step-by-step pass over the
model's own, and prediction from running averages; group statistics belong to one frame, so a frame gets the same
features in all three and at any batch size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGE_LAYERS = (2, 2, 3, 3, 3)
STAGE_WIDTHS = (1, 2, 4, 8, 8)
POOLING = 2 ** len(STAGE_LAYERS)


def check_frame_size(frame_size: int) -> None:
    """Raise ValueError unless ``frame_size`` (pixels) can be halved once a stage."""
    if frame_size < POOLING or frame_size % POOLING:
        nearest = max(1, round(frame_size / POOLING)) * POOLING
        raise ValueError(
            f"frame_size is {frame_size}, but {len(STAGE_LAYERS)} poolings need a multiple of {POOLING}: use {nearest}"
        )


def normalise(channels: int) -> nn.GroupNorm:
    """GroupNorm of at most eight groups, none under eight channels: narrow stages must not become instance norm."""
    return nn.GroupNorm(math.gcd(8, channels, max(1, channels // 8)), channels)


def conv_block(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, norm, LeakyReLU(0.2): (B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        normalise(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )


def conv_stage(widths: Sequence[int]) -> nn.Sequential:
    """A chain of ``conv_block`` from each width to the next."""
    return nn.Sequential(*(conv_block(a, b) for a, b in itertools.pairwise(widths)))


class VGGEncoder(nn.Module):
    """A frame to a feature vector, and what each stage saw on the way.

    (B, channels, S, S) -> features (B, feature_dim) in [-1, 1], and five skips (B, width_i, S / 2^i, S / 2^i) taken
    before each max pooling, largest first; width_i is ``width`` times 1, 2, 4, 8, 8.

    Args:
        frame_size: S, pixels; a multiple of 32.
        width: channels of the first stage; 64 is VGG16.
        feature_dim: length of the feature vector.
        channels: colour channels of a frame.
    """

    def __init__(self, frame_size: int, width: int, feature_dim: int, channels: int = 3) -> None:
        super().__init__()
        check_frame_size(frame_size)
        widths = [width * multiple for multiple in STAGE_WIDTHS]
        self.stages = nn.ModuleList(
            conv_stage([before] + [after] * layers)
            for before, after, layers in zip([channels, *widths[:-1]], widths, STAGE_LAYERS, strict=True)
        )
        self.to_features = nn.Conv2d(widths[-1], feature_dim, kernel_size=frame_size // POOLING)

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode (B, C, S, S), values in [0, 1]."""
        skips = []
        hidden = frames
        for stage in self.stages:
            skips.append(stage(hidden))
            hidden = F.max_pool2d(skips[-1], kernel_size=2)
        return torch.tanh(self.to_features(hidden)).flatten(1), skips


class VGGDecoder(nn.Module):
    """The mirror of `VGGEncoder`: features (B, feature_dim) and five skips -> a frame (B, channels, S, S) in (0, 1).

    Each stage doubles the resolution by nearest neighbour, joins the skip of that resolution, and convolves; its last
    layer narrows to the next stage's width. Arguments as for the encoder.
    """

    def __init__(self, frame_size: int, width: int, feature_dim: int, channels: int = 3) -> None:
        super().__init__()
        check_frame_size(frame_size)
        widths = [width * multiple for multiple in reversed(STAGE_WIDTHS)]
        self.from_features = nn.Sequential(
            nn.ConvTranspose2d(feature_dim, widths[0], kernel_size=frame_size // POOLING, bias=False),
            normalise(widths[0]),
            nn.LeakyReLU(0.2, inplace=True),
        )
        # The last layer of the last stage is the convolution to colours, which takes no norm.
        layers = [*reversed(STAGE_LAYERS[1:]), STAGE_LAYERS[0] - 1]
        self.stages = nn.ModuleList(
            conv_stage([2 * here] + [here] * (count - 1) + [after])
            for here, after, count in zip(widths, [*widths[1:], widths[-1]], layers, strict=True)
        )
        self.to_frame = nn.Conv2d(widths[-1], channels, kernel_size=3, padding=1)

    def forward(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Decode (B, feature_dim) with ``skips`` in the encoder's order, largest first."""
        return self.draw(self.pixel_features(features, skips))

    def pixel_features(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """What the frame is drawn from, (B, width, S, S)."""
        hidden: Tensor = self.from_features(features[:, :, None, None])
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = stage(torch.cat([hidden, skip], dim=1))
        return hidden

    def draw(self, pixel_features: Tensor) -> Tensor:
        """The frame, from `pixel_features`."""
        # Autocast's bfloat16 is too coarse for colours: the sigmoid, and the loss after it, take the weights' type.
        return torch.sigmoid(self.to_frame(pixel_features).to(self.to_frame.weight.dtype))
