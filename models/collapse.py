"""How much of its space a representation uses: the two figures by which a collapse shows."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def effective_rank(x: Tensor) -> Tensor:
    """exp(H(p)) of p_i = sigma_i / sum_j sigma_j, sigma the singular values of x less its mean row.

    Roy & Vetterli 2007, definition 1, on the centred matrix: a collapsed representation is constant, not zero. From 1,
    where all rows lie on a line, to min(N - 1, D), where they spread alike in all directions; 0 where they are equal.

    Args:
        x: (N, D), a vector a row; computed in float32 at least.

    Returns:
        A scalar without gradient; nan where x is not finite.
    """
    x = _wide(x)
    finite = x.isfinite().all()
    # The decomposition raises on numbers that are not finite.
    sigma = torch.linalg.svdvals(_centred(torch.where(finite, x, 0)))
    p = sigma / sigma.sum().clamp(min=torch.finfo(sigma.dtype).tiny)
    rank = torch.special.entr(p).sum().exp() * (sigma.sum() > 0)
    return torch.where(finite, rank, torch.nan)


@torch.no_grad()
def total_variance(x: Tensor) -> Tensor:
    """Mean squared distance of the rows of x (N, D) to their mean: the trace of the covariance (divided by N)."""
    return _centred(_wide(x)).square().sum(1).mean()


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _centred(x: Tensor) -> Tensor:
    # Rounding in the mean would leave equal rows a little apart; their differences to the first row are exactly zero.
    x = x - x[0]
    return x - x.mean(0)
