"""The video encoder of thesis chapter 7 trained in another way: the baselines of its table 7.1.

The features that are compared are P of `kineme.models.video_encoder`, 32 numbers on Moving MNIST and 512 elsewhere, as
in the thesis, whatever they were trained for:

- classification: a linear layer from P to the classes of a label, cross-entropy.
- reconstruction: a decoder from P alone to all frames, squared error.
- displacement (not in the thesis; what labels of the motion itself can do): a linear layer from P to the displacements
  of keypoints between frames, L1.

The statics branch of the encoder is never trained here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kineme.models.layers import normalise
from kineme.models.video_encoder import VideoEncoder

Objective = Literal["classification", "reconstruction", "displacement"]
MAX_INTERCHANGEABLE = 4
"""Most keypoints whose assignments are all tried: 24."""


@dataclass(frozen=True)
class VideoBaselineConfig:
    """Sizes of the video encoder, and what its head gives.

    Attributes:
        frame_size: side of a frame, pixels; a multiple of 8.
        clip_frames: frames T of a clip.
        width: channels of the encoder's first stage; 64 is r3d_18.
        latent_channels: channels of S.
        dynamics_dim: length of P.
        objective: which head.
        classes: of the label (classification), at least 2.
        keypoints: K a frame (displacement), at least 1.
    """

    frame_size: int
    clip_frames: int
    width: int
    latent_channels: int
    dynamics_dim: int
    objective: Objective
    classes: int = 0
    keypoints: int = 0


class VideoBaseline(nn.Module):
    """Video encoder and head. Frames (B, T, 3, H, W) in [0, 1] become what the objective asks for.

    classification: logits (B, classes). reconstruction: frames (B, T, 3, H, W), unbounded. displacement: (B, T-1, K, 2)
    pixels.

    Attributes:
        pooled_dim: length of the second vector of `encode`.
    """

    def __init__(self, config: VideoBaselineConfig) -> None:
        super().__init__()
        self.config = c = config
        self.pooled_dim = 4 * c.width
        self.video_encoder = VideoEncoder(c.frame_size, c.clip_frames, c.width, c.latent_channels, c.dynamics_dim)
        self.head: nn.Module
        if c.objective == "classification":
            self.head = nn.Linear(c.dynamics_dim, c.classes)
        elif c.objective == "displacement":
            shape = (c.clip_frames - 1, c.keypoints, 2)
            self.head = nn.Sequential(nn.Linear(c.dynamics_dim, 2 * shape[0] * shape[1]), nn.Unflatten(1, shape))
        else:
            self.head = ClipDecoder(c.frame_size, c.clip_frames, c.width, c.dynamics_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """The head's answer to P."""
        answer: Tensor = self.head(self.video_encoder(frames)[1])
        return answer

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """P (B, dynamics_dim), and the features of the third stage averaged over time and place (B, pooled_dim).

        Those are the last that S and P have in common, and so the last of the statics branch that were trained.
        """
        seen: list[Tensor] = []
        hook = self.video_encoder.third.register_forward_hook(lambda module, given, features: seen.append(features))
        try:
            dynamics = self.video_encoder(frames)[1]
        finally:
            hook.remove()
        return dynamics, seen[0].mean(dim=(2, 3, 4))


class ClipDecoder(nn.Module):
    """P (B, dynamics_dim) -> frames (B, T, channels, H, W), unbounded: the video encoder backwards, and no larger.

    A fully connected layer to a clip of an eighth of the length and a sixteenth of the side at 8 * width channels, then
    four transposed 3D convolutions that double the side, the first three the length, too, and halve the channels. What
    is more than T frames or H pixels is cut off. The thesis says no more than "standard autoencoder". The output is
    linear, as the frame decoder's.
    """

    def __init__(self, frame_size: int, clip_frames: int, width: int, dynamics_dim: int, channels: int = 3) -> None:
        super().__init__()
        self.frame_size, self.clip_frames = frame_size, clip_frames
        side, length = -(-frame_size // 16), -(-clip_frames // 8)
        widths = [8 * width, 4 * width, 2 * width, width]
        self.start = nn.Sequential(
            nn.Linear(dynamics_dim, widths[0] * length * side**2), nn.Unflatten(1, (widths[0], length, side, side))
        )
        doubling: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            doubling += [
                nn.ConvTranspose3d(before, after, kernel_size=4, stride=2, padding=1, bias=False),
                normalise(after),
                nn.ReLU(inplace=True),
            ]
        self.doubling = nn.Sequential(*doubling)
        self.to_frames = nn.ConvTranspose3d(width, channels, kernel_size=(3, 4, 4), stride=(1, 2, 2), padding=1)

    def forward(self, dynamics: Tensor) -> Tensor:
        """Decode."""
        frames: Tensor = self.to_frames(self.doubling(self.start(dynamics)))
        return frames.movedim(1, 2)[:, : self.clip_frames, :, : self.frame_size, : self.frame_size]


def displacement_loss(predicted: Tensor, keypoints: Tensor, *, interchangeable: bool = True) -> Tensor:
    """Distance of predicted to true displacements, as table 7.1 measures it: a scalar, the mean over the clips.

    L1 over the two coordinates, summed over the steps, averaged over the keypoints. Interchangeable keypoints have no
    order: of all assignments of predicted to true ones, the best for the whole clip counts.

    Args:
        predicted: (B, T-1, K, 2), pixels.
        keypoints: (B, T, K, 2) true places, pixels.
        interchangeable: whether an assignment is sought.

    Raises:
        ValueError: more interchangeable keypoints than can be tried in all orders.
    """
    count = keypoints.shape[2]
    true = keypoints.diff(dim=1)
    if not interchangeable:
        return (predicted - true).abs().sum(dim=(1, 3)).mean()
    if count > MAX_INTERCHANGEABLE:
        raise ValueError(f"{count} interchangeable keypoints: at most {MAX_INTERCHANGEABLE} can be tried in all orders")
    # (B, predicted, true)
    costs = (predicted[:, :, :, None] - true[:, :, None]).abs().sum(dim=(1, 4))
    rows = torch.arange(count, device=costs.device)
    orders = torch.tensor(list(itertools.permutations(range(count))), device=costs.device)
    return costs[:, rows, orders].mean(dim=2).amin(dim=1).mean()
