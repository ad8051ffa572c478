"""Diagonal Gaussians and their divergences, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian: ``mean`` and ``logvar`` (log of the variance) of one shape (..., D)."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_parameters(cls, parameters: Tensor) -> Gaussian:
        """Split (..., 2D) into mean and log-variance: the first half are the means (sequential VAE, section 5.2)."""
        mean, logvar = parameters.chunk(2, dim=-1)
        return cls(mean, logvar)

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """mean + exp(logvar / 2) * noise: the reparameterised draw, through which gradients flow.

        Args:
            noise: standard normal draw of the shape of ``mean``; drawn here if not given.
        """
        if noise is None:
            noise = torch.randn_like(self.mean)
        return self.mean + torch.exp(0.5 * self.logvar) * noise


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of diagonal Gaussians, summed over the last dimension: (..., D) -> (...)."""
    variance_ratio = torch.exp(q.logvar - p.logvar)
    squared_distance = (q.mean - p.mean).square() * torch.exp(-p.logvar)
    return 0.5 * (p.logvar - q.logvar + variance_ratio + squared_distance - 1).sum(-1)


def kl_to_standard_normal(q: Gaussian) -> Tensor:
    """KL(q || N(0, I)), summed over the last dimension: (..., D) -> (...).

    -1/2 sum(log var - var - mean^2 + 1), as the next-frame paper writes it.
    """
    return -0.5 * (q.logvar - q.logvar.exp() - q.mean.square() + 1).sum(-1)
