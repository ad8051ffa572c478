"""Frame dynamics p_t of thesis 7.3.2: what a frame shows beyond S, and how P foretells it.

The frame autoencoder (objective 7.4, ``||x_t - f_Dec(p_t, S)||^2`` with ``p_t = f_Enc(x_t, S)``) has the transformer's
encoder and decoder with S joined to the features, a further convolution and a fully connected layer (7.A.3). The
predictor (7.A.4) is an LSTM of one layer: its first input is p_1 and P, then its own last prediction and P.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kineme.models.frame_autoencoder import FrameDecoder, FrameEncoder, Reduction
from kineme.models.layers import normalise


class FrameAutoencoder(nn.Module):
    """Frames to p and back, both told S (N, latent_channels, h, w), one for each frame.

    Args:
        frame_size: height and width of a frame, pixels; a multiple of 8.
        latent_channels: of S, and of the features before it is joined.
        frame_dim: of p.
        channels: colour channels.
        reduction: side of a frame over that of S.
    """

    def __init__(
        self, frame_size: int, latent_channels: int, frame_dim: int, channels: int = 3, reduction: Reduction = 8
    ) -> None:
        super().__init__()
        size = frame_size // reduction
        self.features = FrameEncoder(latent_channels, channels, reduction)
        self.to_p = nn.Sequential(
            _convolution(2 * latent_channels, latent_channels),
            nn.Flatten(),
            nn.Linear(latent_channels * size**2, frame_dim),
        )
        self.from_p = nn.Sequential(
            nn.Linear(frame_dim, latent_channels * size**2), nn.Unflatten(1, (latent_channels, size, size))
        )
        self.join = _convolution(2 * latent_channels, latent_channels)
        self.to_frame = FrameDecoder(latent_channels, channels, reduction)

    def encode(self, frames: Tensor, statics: Tensor) -> Tensor:
        """p (N, frame_dim) of frames (N, C, H, W)."""
        p: Tensor = self.to_p(torch.cat([self.features(frames), statics], dim=1))
        return p

    def decode(self, p: Tensor, statics: Tensor) -> Tensor:
        """Frames (N, C, H, W), unbounded."""
        frames: Tensor = self.to_frame(self.join(torch.cat([self.from_p(p), statics], dim=1)))
        return frames


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        normalise(out_channels),
        nn.ReLU(inplace=True),
    )


class DynamicsPredictor(nn.Module):
    """p_2..p_T, autoregressively, from the first frame's p and P.

    Args:
        frame_dim: of p.
        dynamics_dim: of P.
        hidden_dim: of the LSTM.
    """

    def __init__(self, frame_dim: int, dynamics_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(frame_dim + dynamics_dim, hidden_dim)
        self.to_p = nn.Linear(hidden_dim, frame_dim)

    def forward(self, first: Tensor, dynamics: Tensor, steps: int) -> Tensor:
        """``first`` p_1 (B, frame_dim) and P (B, dynamics_dim) -> predictions of p_2.. (B, steps, frame_dim)."""
        p, state = first, None
        predicted = []
        for _ in range(steps):
            state = self.cell(torch.cat([p, dynamics], dim=1), state)
            p = self.to_p(state[0])
            predicted.append(p)
        return torch.stack(predicted, dim=1)
