"""From content f and motion z_t to an image: the decoders of the sequential VAE, all four deconvolutions deep.

`ConcatenatedDecoder` is the paper's. `ModulatedDecoder` is ours: z_t and f lay out the image, and f also scales and
shifts every channel of all deconvolutions but the last (FiLM, Perez et al. 2018), so that what a thing looks like need
not pass through the same bottleneck as where it is. On moving digits it learns to draw the digits in the time in which
the plain decoder still draws blobs; see docs/lab-notes.md.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2


class ConcatenatedDecoder(nn.Module):
    """(z, f) -> fully connected -> 8w channels of 2x2 -> four deconvolutions -> sigmoid: section 5.2, at 64 pixels."""

    def __init__(self, frame_size: int, width: int, f_dim: int, z_dim: int, hidden_dim: int, channels: int) -> None:
        super().__init__()
        start = frame_size // 32
        self.layers = nn.Sequential(
            nn.Linear(z_dim + f_dim, 8 * width * start**2),
            nn.Unflatten(1, (8 * width, start, start)),
            nn.BatchNorm2d(8 * width),
            nn.LeakyReLU(SLOPE),
            *_normalised(_deconvolution(8 * width, 4 * width, 4)),
            *_normalised(_deconvolution(4 * width, 2 * width, 2)),
            *_normalised(_deconvolution(2 * width, width, 2)),
            _deconvolution(width, channels, 2),
            nn.Sigmoid(),
        )

    def forward(self, f: Tensor, z: Tensor) -> Tensor:
        """f (N, f_dim) and z (N, z_dim) -> images (N, C, H, W) in [0, 1]."""
        images: Tensor = self.layers(torch.cat([z, f], dim=-1))
        return images


class ModulatedDecoder(nn.Module):
    """(z, f) -> two fully connected layers -> four deconvolutions, f scales and shifts what three give -> sigmoid."""

    def __init__(self, frame_size: int, width: int, f_dim: int, z_dim: int, hidden_dim: int, channels: int) -> None:
        super().__init__()
        start = frame_size // 32
        widths = [8 * width, 4 * width, 2 * width, width]
        self.layout = nn.Sequential(
            nn.Linear(z_dim + f_dim, hidden_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden_dim, widths[0] * start**2),
            nn.LeakyReLU(SLOPE),
            nn.Unflatten(1, (widths[0], start, start)),
        )
        self.deconvolutions = nn.ModuleList(
            _deconvolution(wide, narrow, 4 if number == 0 else 2)
            for number, (wide, narrow) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(w, affine=False) for w in widths[1:])
        self.modulations = nn.ModuleList(nn.Linear(f_dim, 2 * w) for w in widths[1:])
        self.to_image = _deconvolution(width, channels, 2)

    def forward(self, f: Tensor, z: Tensor) -> Tensor:
        """f (N, f_dim) and z (N, z_dim) -> images (N, C, H, W) in [0, 1]."""
        hidden = self.layout(torch.cat([z, f], dim=-1)).contiguous(memory_format=torch.channels_last)
        for deconvolution, norm, modulation in zip(self.deconvolutions, self.norms, self.modulations, strict=True):
            scale, shift = modulation(f)[:, :, None, None].chunk(2, dim=1)
            hidden = F.leaky_relu(norm(deconvolution(hidden)) * (1 + scale) + shift, SLOPE)
        return torch.sigmoid(self.to_image(hidden))


def _deconvolution(channels_in: int, channels_out: int, factor: int) -> nn.ConvTranspose2d:
    """Twice or four times the resolution with a 4x4 kernel."""
    return nn.ConvTranspose2d(channels_in, channels_out, 4, stride=factor, padding=1 if factor == 2 else 0)


def _normalised(layer: nn.ConvTranspose2d) -> tuple[nn.Module, nn.Module, nn.Module]:
    return layer, nn.BatchNorm2d(layer.out_channels), nn.LeakyReLU(SLOPE)
