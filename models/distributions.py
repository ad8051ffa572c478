"""Diagonal Gaussians, mixtures of them, and how far one is from another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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

    def log_density(self, x: Tensor) -> Tensor:
        """log N(x; mean, exp(logvar)), summed over the last dimension: (..., D) -> (...)."""
        scaled = (x - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (scaled + self.logvar + math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """-E[log density], nats, summed over the last dimension: (...)."""
        return 0.5 * (self.logvar + math.log(2 * math.pi) + 1).sum(-1)


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of diagonal Gaussians.

    Attributes:
        log_weights: log of the weight of each, (..., K); the weights sum to one.
        components: the Gaussians, (..., K, D).
    """

    log_weights: Tensor
    components: Gaussian

    @classmethod
    def from_parameters(cls, parameters: Tensor, count: int) -> GaussianMixture:
        """Split (..., K (2D + 1)), K = ``count``: of each component its mean, log-variance and unscaled log-weight."""
        each = parameters.reshape(*parameters.shape[:-1], count, -1)
        return cls(each[..., -1].log_softmax(dim=-1), Gaussian.from_parameters(each[..., :-1]))

    def sample(self) -> Tensor:
        """A draw of a component, and from that one: (..., D). No gradient reaches the weights."""
        gumbel = -torch.empty_like(self.log_weights).exponential_().log()
        chosen = (self.log_weights + gumbel).argmax(dim=-1)
        pick = chosen[..., None, None].expand(*chosen.shape, 1, self.components.mean.shape[-1])
        each = self.components
        return Gaussian(each.mean.gather(-2, pick), each.logvar.gather(-2, pick)).sample().squeeze(-2)

    def log_density(self, x: Tensor) -> Tensor:
        """log sum_k w_k N(x; mean_k, exp(logvar_k)): (..., D) -> (...)."""
        return torch.logsumexp(self.log_weights + self.components.log_density(x.unsqueeze(-2)), dim=-1)


def over_time(steps: Sequence[Gaussian | None], join: Callable[..., Tensor]) -> Gaussian | None:
    """Gaussians of consecutive times as one (B, T, D); nothing where there are none.

    Args:
        steps: (B, D) each, to be stacked, or (B, S, D) each, to be put one after the other.
        join: `torch.stack` or `torch.cat`.
    """
    given = [step for step in steps if step is not None]
    if not given:
        return None
    return Gaussian(join([step.mean for step in given], dim=1), join([step.logvar for step in given], dim=1))


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of diagonal Gaussians, summed over the last dimension: (..., D) -> (...)."""
    variance_ratio = torch.exp(q.logvar - p.logvar)
    squared_distance = (q.mean - p.mean).square() * torch.exp(-p.logvar)
    return 0.5 * (p.logvar - q.logvar + variance_ratio + squared_distance - 1).sum(-1)


def kl_estimate(q: Gaussian, p: GaussianMixture, drawn: Tensor) -> Tensor:
    """KL(q || p) by one draw: -H(q) - log p(drawn), (..., D) -> (...). H(q), the entropy of q, is exact.

    Args:
        q: a Gaussian (..., D).
        p: a mixture of D dimensions.
        drawn: a draw of q, (..., D); gradients flow through it.
    """
    return -q.entropy() - p.log_density(drawn)


def kl_to_standard_normal(q: Gaussian) -> Tensor:
    """KL(q || N(0, I)), summed over the last dimension: (..., D) -> (...).

    -1/2 sum(log var - var - mean^2 + 1), as the next-frame paper writes it.
    """
    return -0.5 * (q.logvar - q.logvar.exp() - q.mean.square() + 1).sum(-1)
