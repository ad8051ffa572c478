"""What happens between two frames as a Gaussian of z_t: read from both of them, or foretold from what came before.

    q(z_t | x_{t-1}, x_t)                     convolutions over both frames, as SAVP's encoder (Lee et al. 2018,
                                              "Stochastic adversarial video prediction"), and over their difference
    p(z_t | x_{0:t-1}, z_{1:t-1}, c_{1:t})    a recurrent cell over x_{t-1}, z_{t-1} and c_t; learned as in SVG-LP

Both see a picture as the places of a few points in it, by a spatial softmax (Finn et al. 2016, "Deep spatial
autoencoders for visuomotor learning"; ours is its use here). A network that flattens its feature maps has
not told where an arm is and which way it went after a thousand steps, and by then what draws the frames has learnt to
ignore z; from points z has it in the first hundreds (docs/lab-notes.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kineme.models.distributions import Gaussian
from kineme.models.layers import conv_block

POINTS = 16
SHARPNESS = 5.0
"""Feature maps are multiplied by it before the softmax, which would else begin as the mean of all places."""
NARROW = -4.0
"""Log-variance of the posterior at the start: noise as wide as the prior's would teach that z means nothing."""


class SpatialSoftmax(nn.Module):
    """Where a few points lie: (B, channels, H, W) -> (B, 2 * POINTS), down and right, from -1 to 1 over the frame.

    A point is the mean place under the softmax of a map that is learned with the rest.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The softmax would not see a bias.
        self.to_maps = nn.Conv2d(channels, POINTS, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """In the weights' precision also under autocast: bfloat16 has an eighth of a pixel."""
        with torch.autocast(features.device.type, enabled=False):
            maps = SHARPNESS * self.to_maps(features.to(self.to_maps.weight.dtype))
            shares = maps.flatten(2).softmax(dim=-1).view_as(maps)
            down, right = (torch.linspace(-1, 1, n, device=maps.device, dtype=maps.dtype) for n in maps.shape[2:])
            return torch.cat([shares.sum(dim=3) @ down, shares.sum(dim=2) @ right], dim=1)


class TransitionPosterior(nn.Module):
    """q(z_t | x_{t-1}, x_t) for all pairs of a clip.

    Args:
        channels: colour channels of a frame.
        width: channels of the features.
        latent_dim: length of z_t.
    """

    def __init__(self, channels: int, width: int, latent_dim: int) -> None:
        super().__init__()
        self.to_points = nn.Sequential(
            conv_block(3 * channels, width, kernel=5, stride=2), conv_block(width, width), SpatialSoftmax(width)
        )
        self.to_gaussian = _gaussian_of(2 * POINTS, latent_dim)
        with torch.no_grad():
            list(self.to_gaussian.parameters())[-1][latent_dim:] = NARROW

    def forward(self, frames: Tensor) -> Gaussian:
        """(B, T, C, H, W) in [0, 1] -> (B, T - 1, Z)."""
        before, after = frames[:, :-1], frames[:, 1:]
        pairs = torch.cat([before, after, after - before], dim=2)
        points = self.to_points(pairs.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        with torch.autocast(frames.device.type, enabled=False):
            return Gaussian.from_parameters(self.to_gaussian(points).unflatten(0, pairs.shape[:2]))


class TransitionPrior(nn.Module):
    """p(z_t | x_{0:t-1}, z_{1:t-1}, c_{1:t}), one step.

    Args:
        width: channels of the features of x_{t-1}.
        latent_dim: length of z_t.
        condition_dim: length of c_t.
        hidden: numbers that it remembers.
    """

    def __init__(self, width: int, latent_dim: int, condition_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.to_points = SpatialSoftmax(width)
        self.cell = nn.GRUCell(2 * POINTS + latent_dim + condition_dim, hidden)
        self.to_gaussian = _gaussian_of(hidden, latent_dim)

    def forward(self, features: Tensor, z: Tensor, condition: Tensor, memory: Tensor) -> tuple[Gaussian, Tensor]:
        """Features of x_{t-1} (B, width, H, W), z_{t-1}, c_t and the memory (B, hidden), zeros before the first."""
        with torch.autocast(features.device.type, enabled=False):
            memory = self.cell(torch.cat([self.to_points(features), z, condition], dim=1), memory)
            return Gaussian.from_parameters(self.to_gaussian(memory)), memory


def _gaussian_of(inputs: int, latent_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 128), nn.LeakyReLU(0.2), nn.Linear(128, 2 * latent_dim))
