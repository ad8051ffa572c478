"""The next frame as one whose pixels have moved: a few motions a frame, and which pixel follows which.

After CDNA (Finn, Goodfellow & Levine 2016, "Unsupervised learning for physical interaction through video prediction",
section 3.2 and 3.3): K normalised kernels m_k each move the whole frame, and masks say for every pixel which of these
movements it follows, or from which of three other pictures it is taken:

    x_t = sum_k M_k * (m_k convolved with x_{t-1}) + M_still * x_{t-1} + M_given * x_given + M_drawn * drawn

The masks sum to 1 at each pixel, x_given is the last context frame (what lies behind that which moved), and ``drawn``
is a picture of the network's own. Where it differs from the paper:

- A kernel is a Gaussian about the place that a pixel comes from, not a number for each of its places: the network says
  where from and how surely, four numbers. Kernels reach as far as one likes, and a displacement that is known, as where
  there are actions, is told rather than found among 169 places.
- The still frame has a mask of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OTHERS = 3
"""Pictures beside the moved ones: the frame itself, the last context frame, and a drawn one."""
SHARPEST = 0.3
"""Least standard deviation of a kernel, pixels: then a whole displacement is nearly exact, a half one an average."""

FAINTEST = 1e-9
"""Lesser weights in a kernel count as 0."""


class MotionKernels(nn.Module):
    """A vector and features of every pixel, and the next frame from them and the one before.

    Args:
        vector_dim: length of the vector that the kernels are made from.
        features: channels of the features that the masks are made from.
        kernels: K, how many motions a frame has.
        reach: pixels that a kernel can move, in x and in y.
    """

    def __init__(self, vector_dim: int, features: int, kernels: int, reach: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.reach = reach
        self.to_motions = nn.Linear(vector_dim, 4 * kernels)
        self.to_masks = nn.Conv2d(features, kernels + OTHERS, 3, padding=1)
        with torch.no_grad():
            # They differ, or all would learn the same, and are half a pixel wide: wider ones blur step by step.
            self.to_motions.bias.copy_(torch.cat([torch.randn(2 * kernels) / reach, torch.full((2 * kernels,), -1.5)]))

    def forward(self, vector: Tensor, features: Tensor, drawn: Tensor, frame: Tensor, given: Tensor) -> Tensor:
        """x_t (B, C, H, W) in [0, 1].

        In the weights' precision also under autocast: what is drawn is fed back, and errors add up.

        Args:
            vector: (B, vector_dim).
            features: (B, features, H, W).
            drawn: the network's own picture, (B, C, H, W) in [0, 1].
            frame: x_{t-1}, (B, C, H, W).
            given: x_given, (B, C, H, W).
        """
        with torch.autocast(features.device.type, enabled=False):
            dtype = self.to_masks.weight.dtype
            centre, spread = self.to_motions(vector.to(dtype)).view(len(vector), 2, self.kernels, 2).unbind(1)
            moved = move(frame, self.reach * torch.tanh(centre), SHARPEST + F.softplus(spread), self.reach)
            masks: Tensor = self.to_masks(features.to(dtype)).softmax(dim=1)[:, :, None]
            pictures = torch.cat([moved, torch.stack([frame, given, drawn], dim=1)], dim=1)
            return (masks * pictures).sum(dim=1)


def move(frames: Tensor, centres: Tensor, deviations: Tensor, reach: int) -> Tensor:
    """Every frame as each of its Gaussian kernels moves it: (B, C, H, W) -> (B, K, C, H, W); zeros come from outside.

    At a pixel (y, x) stands the mean of the frame at (y + i, x + j), -r <= i, j <= r = ``reach + 2``, weighted by
    exp(-(i - cy)^2 / (2 sy^2) - (j - cx)^2 / (2 sx^2)).

    Args:
        frames: (B, C, H, W).
        centres: (cy, cx) of each kernel, (B, K, 2) pixels.
        deviations: (sy, sx) of each kernel, (B, K, 2) pixels.
        reach: how far the centres lie at most from 0.
    """
    (batch, channels, height, width), count = frames.shape, centres.shape[1]
    radius = reach + 2
    offsets = torch.arange(-radius, radius + 1, device=frames.device, dtype=frames.dtype)
    weights = (-0.5 * ((offsets - centres[..., None]) / deviations[..., None]).square()).softmax(dim=-1)
    # Numbers next to 0 are denormal, and make a CPU several times as slow.
    down, across = F.threshold(weights, FAINTEST, 0.0).unbind(2)
    # Products of matrices: grouped convolutions do the same in several times the time.
    moved = _band(down, height).flatten(1, 2) @ frames.transpose(1, 2).flatten(2)
    moved = moved.view(batch, count, height * channels, width) @ _band(across, width).mT
    return moved.view(batch, count, height, channels, width).transpose(2, 3)


def _band(weights: Tensor, size: int) -> Tensor:
    """(..., 2 r + 1) -> (..., size, size), the matrices that move a column so: [y, y + i] is weights[i + r]."""
    beyond = size - 1 - weights.shape[-1] // 2
    return F.pad(weights, (beyond, beyond)).unfold(-1, size, 1).flip(-2)
