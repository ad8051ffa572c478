"""What next-frame predictors learn from: the report's negative lower bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kineme.models.distributions import Gaussian, kl_divergence, kl_to_standard_normal


@dataclass(frozen=True)
class PredictorOutput:
    """Frames 1 .. T-1 as drawn, (B, T-1, C, H, W) in [0, 1], and the Gaussians of z_1 .. z_{T-1}, (B, T-1, Z).

    ``posterior`` is None for a predictor without z, ``prior`` where it is N(0, I).
    """

    predicted: Tensor
    posterior: Gaussian | None = None
    prior: Gaussian | None = None


@dataclass(frozen=True)
class PredictorLoss:
    """``loss`` = ``reconstruction`` + beta * ``kl``; scalars. ``kl`` is None for a predictor without z."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor | None


def predictor_loss(output: PredictorOutput, frames: Tensor, beta: float) -> PredictorLoss:
    """MSE + beta * KL(posterior || prior of z_t): the report's negative lower bound, in float32. Without z: the MSE.

    What the posterior and the prior are told is each model's own. The report says "MSE" and no more. Here
    ``reconstruction`` is the mean over pixels, colours, frames 1 .. T-1 and clips; ``kl`` is summed over the dimensions
    of z and averaged over frames and clips. The lab's public code sums both over frames instead: that loss is T-1 times
    this one, with the same balance at the same ``beta``. A Gaussian likelihood of variance s per colour value is
    beta = 2 s / (C * H * W): a ``beta`` well below 1 belongs here.

    Args:
        output: what the model drew from ``frames``.
        frames: (B, T, C, H, W) in [0, 1].
        beta: weight of the KL term.
    """
    reconstruction = (output.predicted.float() - frames[:, 1:].float()).square().mean()
    if output.posterior is None:
        return PredictorLoss(reconstruction, reconstruction, None)
    posterior = _in_float32(output.posterior)
    if output.prior is None:
        kl = kl_to_standard_normal(posterior).mean()
    else:
        kl = kl_divergence(posterior, _in_float32(output.prior)).mean()
    return PredictorLoss(reconstruction + beta * kl, reconstruction, kl)


def _in_float32(gaussian: Gaussian) -> Gaussian:
    return Gaussian(gaussian.mean.float(), gaussian.logvar.float())
