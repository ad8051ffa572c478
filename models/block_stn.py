"""The spatial transformer between frames of thesis 7.3.1, 7.4.2 and 7.A.1: an autoencoder whose features are warped.

Frames x_i, x_j become features s_i, s_j = g_enc(x); T gives affine maps G_ij = T(s_i, s_j), one for each block of
channels; the decoder draws x_j from the warped s_i:

    L_T = lambda_r ||x_i - g_dec(s_i)||^2 + lambda_t ||x_j - g_dec(G_ij(s_i))||^2        (7.2)

The thesis leaves the localisation networks open; here each reads all channels of both features, through two
convolutions, and starts at the identity. Where a map looks outside the features there are zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kineme.models.frame_autoencoder import FrameDecoder, FrameEncoder, Reduction, squared_error
from kineme.models.layers import normalise

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class BlockSTN(nn.Module):
    """Spatial transformer network (Jaderberg et al. 2015) with an affine map of its own for each block of channels.

    Args:
        channels: of the features; a multiple of ``blocks``.
        size: height and width of the features.
        blocks: maps.
        hidden: channels of the localisation networks.
    """

    def __init__(self, channels: int, size: int, blocks: int, hidden: int = 32) -> None:
        super().__init__()
        if channels % blocks:
            raise ValueError(f"blocks is {blocks}: latent_channels ({channels}) must be a multiple of it")
        self.blocks = blocks
        self.localisers = nn.ModuleList(_Localiser(2 * channels, size, hidden) for _ in range(blocks))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Maps that bring ``source`` to ``target``: two (N, channels, h, w) -> (N, blocks, 2, 3).

        In the convention of `torch.nn.functional.affine_grid`: from places in the target to places in the source, both
        in [-1, 1].
        """
        both = torch.cat([source, target], dim=1)
        return torch.stack([localise(both).view(-1, 2, 3) for localise in self.localisers], dim=1)

    def warp(self, features: Tensor, maps: Tensor) -> Tensor:
        """Each block of (N, channels, h, w) through its map of (N, blocks, 2, 3), bilinear, zeros from outside."""
        blocks = features.reshape(len(features) * self.blocks, -1, *features.shape[2:])
        # Autocast would compute the places in bf16.
        with torch.autocast(maps.device.type, enabled=False):
            grid = F.affine_grid(maps.flatten(0, 1), list(blocks.shape), align_corners=False)
        warped = F.grid_sample(blocks.to(grid.dtype), grid, padding_mode="zeros", align_corners=False)
        return warped.reshape(features.shape)


class _Localiser(nn.Sequential):
    """Six numbers, at first the identity. The last layer computes in fp32: bf16 would be a quarter of a pixel out."""

    def __init__(self, channels: int, size: int, hidden: int) -> None:
        last = nn.Linear(hidden * ((size + 1) // 2) ** 2, 6)
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor(_IDENTITY)
        super().__init__(
            nn.Conv2d(channels, hidden, kernel_size=3, padding=1),
            normalise(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, kernel_size=3, stride=2, padding=1),
            normalise(hidden),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            last,
        )

    def forward(self, features: Tensor) -> Tensor:
        *before, last = self
        for layer in before:
            features = layer(features)
        with torch.autocast(features.device.type, enabled=False):
            numbers: Tensor = last(features.float())
        return numbers


class Transformer(nn.Module):
    """g_enc, g_dec and the block transformer between them. Frames are (N, C, H, W) in [0, 1].

    Args:
        frame_size: height and width of a frame, pixels; a multiple of 8.
        latent_channels: of the features.
        blocks: affine maps.
        channels: colour channels.
        reduction: side of a frame over that of its features.
    """

    def __init__(
        self, frame_size: int, latent_channels: int, blocks: int, channels: int = 3, reduction: Reduction = 8
    ) -> None:
        super().__init__()
        self.encode = FrameEncoder(latent_channels, channels, reduction)
        self.decode = FrameDecoder(latent_channels, channels, reduction)
        self.stn = BlockSTN(latent_channels, frame_size // reduction, blocks)

    def match(self, source: Tensor, target: Tensor) -> Tensor:
        """Features ``source`` warped towards ``target``: G(source) with G = T(source, target)."""
        return self.stn.warp(source, self.stn(source, target))


def transformer_loss(
    transformer: Transformer,
    source: Tensor,
    target: Tensor,
    *,
    reconstruction: float = 0.1,
    transformation: float = 1.0,
) -> dict[str, Tensor]:
    """Objective 7.2 of pairs of frames x_i = ``source`` and x_j = ``target``, (N, C, H, W) each.

    Squared errors are sums over channels and pixels, means over pairs.

    Returns:
        ``loss``, and its parts ``reconstruction_error`` (first norm) and ``warp_error`` (second), unweighted.
    """
    features = transformer.encode(torch.cat([source, target]))
    s_i, s_j = features.chunk(2)
    drawn = transformer.decode(torch.cat([s_i, transformer.match(s_i, s_j)]))
    reconstruction_error, warp_error = (
        squared_error(*pair) for pair in zip(drawn.chunk(2), (source, target), strict=True)
    )
    loss = reconstruction * reconstruction_error + transformation * warp_error
    return {"loss": loss, "reconstruction_error": reconstruction_error, "warp_error": warp_error}
