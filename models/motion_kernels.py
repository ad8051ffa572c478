"""The next frame as one whose pixels have moved: a few motions a frame, and which pixel follows which.

CDNA (Finn, Goodfellow & Levine 2016, "Unsupervised learning for physical interaction through video prediction",
section 3.2 and 3.3): K normalised kernels m_k each move the whole frame, and masks say for every pixel which of these
movements it follows, or from which of three other pictures it is taken:

    x_t = sum_k M_k * (m_k convolved with x_{t-1}) + M_still * x_{t-1} + M_first * x_first + M_drawn * drawn

The masks sum to 1 at each pixel, x_first is the last context frame (what lies behind that which moved), and ``drawn``
is a picture of the network's own. Where it differs from the paper: kernels are softmaxes, and of any size (CDNA's 5 x 5
reach two pixels, too few for digits that move four); and the still frame has a mask of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OTHERS = 3
"""Pictures beside the moved ones: the frame itself, the last context frame, and a drawn one."""


class MotionKernels(nn.Module):
    """A vector and features of every pixel, and the next frame from them and the one before.

    Args:
        vector_dim: length of the vector that the kernels are made from.
        features: channels of the features that the masks and the drawn picture are made from.
        channels: colour channels of a frame.
        kernels: K, how many motions a frame has.
        reach: pixels that a kernel can move, in x and in y; it has 2 reach + 1 places a side.
    """

    def __init__(self, vector_dim: int, features: int, channels: int, kernels: int, reach: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.side = 2 * reach + 1
        self.to_kernels = nn.Linear(vector_dim, kernels * self.side**2)
        self.to_masks = nn.Conv2d(features, kernels + OTHERS, 3, padding=1)
        self.to_drawn = nn.Conv2d(features, channels, 3, padding=1)
        with torch.no_grad():
            # Kernels that mostly stay, and differ from one another: else all would learn the same.
            self.to_kernels.weight.mul_(0.1)
            bias = 0.5 * torch.randn(kernels, self.side, self.side)
            bias[:, reach, reach] += 2
            self.to_kernels.bias.copy_(bias.flatten())

    def forward(self, vector: Tensor, features: Tensor, frame: Tensor, first: Tensor) -> Tensor:
        """x_t (B, C, H, W) in [0, 1].

        In the weights' precision also under autocast: what is drawn is fed back, and errors add up.

        Args:
            vector: (B, vector_dim).
            features: (B, features, H, W).
            frame: x_{t-1}, (B, C, H, W).
            first: x_first, (B, C, H, W).
        """
        with torch.autocast(features.device.type, enabled=False):
            dtype = self.to_masks.weight.dtype
            features = features.to(dtype)
            kernels = self.to_kernels(vector.to(dtype)).view(len(vector), self.kernels, -1).softmax(dim=-1)
            moved = move(frame, kernels.view(len(vector), self.kernels, self.side, self.side))
            drawn = torch.sigmoid(self.to_drawn(features))
            masks = self.to_masks(features).softmax(dim=1)[:, :, None]
            pictures = torch.cat([moved, torch.stack([frame, first, drawn], dim=1)], dim=1)
            return (masks * pictures).sum(dim=1)


def move(frames: Tensor, kernels: Tensor) -> Tensor:
    """Every frame convolved with its own kernels: (B, C, H, W), (B, K, R, R) -> (B, K, C, H, W); zeros outside.

    A kernel that is 1 in row r + dy and column r + dx, R = 2 r + 1, and 0 elsewhere gives x[y + dy, x + dx].
    """
    batch, count, side = kernels.shape[:3]
    # One group a clip; the channels, which all move alike, take the place of the batch.
    flat = kernels.reshape(batch * count, 1, side, side)
    moved = F.conv2d(frames.transpose(0, 1), flat, padding=side // 2, groups=batch)
    return moved.view(-1, batch, count, *frames.shape[2:]).permute(1, 2, 0, 3, 4)
