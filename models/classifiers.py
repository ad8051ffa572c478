"""The classifiers of thesis 7.5.3: attention between S and P, and the video encoder itself as a classifier."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn

from kineme.models.statics_dynamics import StaticsDynamicsConfig, video_encoder_of
from kineme.models.video_encoder import VideoEncoder


class AttentiveLinear(nn.Module):
    """A linear classifier on S and P with one attention scalar a to weigh them, for every clip its own.

    g_S and g_P are linear in S and P; a = sigmoid(f(g_S, g_P)) with f linear; the classes come from a last linear layer
    on the concatenation (a g_S, (1 - a) g_P). The thesis leaves open c_g, the length of g_S and g_P, whether S is
    pooled, and whether layers have biases: here S is flattened, and all have. The logits of a video are the mean of its
    clips', before the loss (`kineme.pipeline.protocols.fitting.average_by_video`).

    Args:
        statics_dim: length of the flattened S.
        dynamics_dim: of P.
        common_dim: c_g.
        classes: at least 2.
        attention: a constant in [0, 1] instead of a learned a: 1 sees S alone, 0 P alone.
    """

    def __init__(
        self, statics_dim: int, dynamics_dim: int, common_dim: int, classes: int, attention: float | None = None
    ) -> None:
        super().__init__()
        if attention is not None and not 0 <= attention <= 1:
            raise ValueError(f"attention is {attention}: it must lie in [0, 1]")
        self.statics = nn.Linear(statics_dim, common_dim)
        self.dynamics = nn.Linear(dynamics_dim, common_dim)
        self.attention = nn.Linear(2 * common_dim, 1) if attention is None else None
        self.constant = attention
        self.classes = nn.Linear(2 * common_dim, classes)

    def forward(self, statics: Tensor, dynamics: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and a (N,) of S (N, statics_dim) and P (N, dynamics_dim)."""
        g_s, g_p = self.statics(statics), self.dynamics(dynamics)
        if self.attention is None:
            a = torch.full_like(g_s[:, :1], self.constant or 0.0)
        else:
            a = torch.sigmoid(self.attention(torch.cat([g_s, g_p], dim=1)))
        return self.classes(torch.cat([a * g_s, (1 - a) * g_p], dim=1)), a[:, 0]


class VideoClassifier(nn.Module):
    """The video encoder with average pooling and a linear layer in place of the one that gives P (7.5.3).

    The average goes over times and places of the fourth stage. The branch to S stays, and has no part in the logits.

    Args:
        config: sizes of the encoder.
        classes: at least 2.
        pretrained: an encoder of these sizes whose weights are copied; random ones if None.
    """

    def __init__(self, config: StaticsDynamicsConfig, classes: int, pretrained: VideoEncoder | None = None) -> None:
        super().__init__()
        self.encoder = video_encoder_of(config)
        if pretrained is not None:
            self.encoder.load_state_dict(pretrained.state_dict())
        channels = 8 * config.width
        # The layer replaced is given the stage's output flattened.
        self.encoder.add_module(
            "dynamics",
            nn.Sequential(
                nn.Unflatten(1, (channels, -1)), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, classes)
            ),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B, classes) of frames (B, T, C, H, W) in [0, 1]."""
        logits: Tensor = self.encoder(frames)[1]
        return logits


class Standardise(nn.Module):
    """Features (..., D) to mean 0 and variance 1, by fixed figures; what never varied becomes 0. No parameters."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(variance > 0, variance, torch.inf).rsqrt())

    @classmethod
    def by(cls, parts: Iterable[Tensor]) -> Self:
        """By the mean and variance of all rows of (n, D) parts, at least one, of any float type."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for part in parts:
            rows = part.double()
            count, total = count + len(rows), total.to(rows) + rows.sum(0)
            squares = squares.to(rows) + rows.square().sum(0)
        mean = total / count
        variance = squares / count - mean.square()
        # Below this it is rounding: float64 sums of float16 values are exact to far better.
        variance = torch.where(variance > 1e-9 * squares / count, variance, 0.0)
        return cls(mean.float(), variance.float())

    def forward(self, features: Tensor) -> Tensor:
        """Standardise, in float32."""
        return (features.float() - self.mean) * self.scale
