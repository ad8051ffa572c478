"""The linear Gaussian model: its likelihood, its ELBO and its trained encoder against slow and exact references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from kineme.models.linear_gaussian import (
    Deviations,
    Encoder,
    covariance,
    elbo,
    log_likelihood,
    sample_clips,
    second_moments,
    train_encoder,
)

STEP = torch.tensor([[1.0, 0, 0], [-1, 1, 0], [0, -1, 1]], dtype=torch.float64)


def deviations(f: float, z: float, x: float) -> Deviations:
    return Deviations(*torch.tensor([f, z, x], dtype=torch.float64))


def some_clips(count: int, *true: float, seed: int = 0) -> Tensor:
    return sample_clips(*(true or (1.0, 0.7, 0.5)), count, torch.Generator().manual_seed(seed))


def random_encoder(shape: tuple[int, ...], *, shared: bool, seed: int = 0) -> Encoder:
    generator = torch.Generator().manual_seed(seed)
    start = Encoder.start(shape, shared=shared)
    parts = [torch.randn(part.shape, generator=generator, dtype=torch.float64) * 0.4 for part in start.parameters()]
    return Encoder(*parts)


def test_clips_have_the_covariance_of_the_model_and_no_mean() -> None:
    theta = deviations(1.2, 0.5, 0.3)
    clips = some_clips(100_000, 1.2, 0.5, 0.3)
    assert clips.shape == (100_000, 3, 2)
    torch.testing.assert_close(second_moments(clips), covariance(theta), atol=0.02, rtol=0)
    assert clips.mean(0).abs().max() < 0.02
    # The dimensions are independent.
    assert torch.einsum("ns,nt->st", clips[..., 0], clips[..., 1]).abs().max() / len(clips) < 0.02


def test_log_likelihood_is_that_of_torch() -> None:
    clips = some_clips(50)
    theta = Deviations(*torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.2)
    got = log_likelihood(theta, second_moments(clips))
    assert got.shape == (4,)
    for number, (f, z, x) in enumerate(zip(*theta, strict=True)):
        written_out = torch.stack(
            [torch.stack([f**2 + z**2 * min(s, t) + x**2 * (s == t) for t in (1, 2, 3)]) for s in (1, 2, 3)]
        )
        normal = MultivariateNormal(torch.zeros(3, dtype=torch.float64), written_out)
        torch.testing.assert_close(got[number], normal.log_prob(clips.transpose(1, 2)).sum(1).mean())


def test_log_likelihood_against_monte_carlo_over_the_prior() -> None:
    f, z, x = 0.8, 0.6, 1.1
    (clip,) = some_clips(1, f, z, x)
    torch.manual_seed(0)
    draws = 400_000
    content = f * torch.randn(draws, 1, 2, dtype=torch.float64)
    motion = (z * torch.randn(draws, 3, 2, dtype=torch.float64)).cumsum(1)
    likelihood = Normal(content + motion, x).log_prob(clip).sum((1, 2)).exp()
    error = likelihood.std() / draws**0.5 / likelihood.mean()
    got = log_likelihood(deviations(f, z, x), second_moments(clip.unsqueeze(0)))
    assert error < 0.01
    assert (likelihood.mean().log() - got).abs() < 4 * error


def slow_elbo(theta: Deviations, encoder: Encoder, clips: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """log p(x, f, z) - log q(f, z | x) at reparameterised draws, term by term: mean and its standard error."""
    sigma_f, sigma_z, sigma_x = theta
    weights, logvars = encoder.z_weights.expand(3), encoder.z_logvar.expand(3)
    q_f = Normal(sum(encoder.f_weights[t] * clips[:, t] for t in range(3)), (0.5 * encoder.f_logvar).exp())
    f = q_f.rsample((draws,))
    total = Normal(0, sigma_f).log_prob(f) - q_f.log_prob(f)
    before = torch.zeros_like(f)
    for t in range(3):
        q_z = Normal(weights[t] * clips[:, t], (0.5 * logvars[t]).exp())
        z = q_z.rsample((draws,))
        total = total + Normal(before, sigma_z).log_prob(z) - q_z.log_prob(z)
        total = total + Normal(f + z, sigma_x).log_prob(clips[:, t])
        before = z
    of_draws = total.sum(-1).mean(1)
    return of_draws.mean(), of_draws.std() / draws**0.5


@pytest.mark.parametrize("shared", [True, False])
def test_elbo_against_reparameterised_draws(shared: bool) -> None:
    torch.manual_seed(0)
    theta, clips = deviations(1.3, 0.6, 0.9), some_clips(8)
    encoder = random_encoder((), shared=shared)
    mean, error = slow_elbo(theta, encoder, clips, draws=100_000)
    assert error < 0.03
    assert (elbo(theta, encoder, second_moments(clips)) - mean).abs() < 4 * error


def test_elbo_has_the_gradient_of_the_draws() -> None:
    """What gradient descent follows is what the paper's estimate follows on average."""
    torch.manual_seed(1)
    theta, clips = deviations(1.0, 0.8, 1.0), some_clips(8)
    exact, estimated = random_encoder((), shared=True), random_encoder((), shared=True)
    for encoder in (exact, estimated):
        for part in encoder.parameters():
            part.requires_grad_()
    elbo(theta, exact, second_moments(clips)).backward()
    slow_elbo(theta, estimated, clips, draws=100_000)[0].backward()
    for one, other in zip(exact.parameters(), estimated.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=0.03, rtol=0.01)


@pytest.mark.parametrize("shared", [True, False])
def test_elbo_is_below_the_log_likelihood(shared: bool) -> None:
    theta = Deviations(*(0.1 + 2 * torch.rand(3, 500, generator=torch.Generator().manual_seed(2), dtype=torch.float64)))
    moments = second_moments(some_clips(100))
    assert (elbo(theta, random_encoder((500,), shared=shared), moments) < log_likelihood(theta, moments)).all()


def exact_optimum(theta: tuple[float, float, float], moments: Tensor, *, shared: bool) -> float:
    """The highest ELBO: least squares for the means, the stationary points for the variances, all written out."""
    sigma_f, sigma_z, sigma_x = theta
    # Every squared term of the ELBO is ||row x||^2 with a row = constant + sum_i p_i basis_i.
    constants, bases = [], []
    size = 4 if shared else 6
    unit = torch.eye(3, dtype=torch.float64)

    def z_basis(i: int) -> Tensor:
        """What the weight p_i adds to the three rows of z's means."""
        if i < 3:
            return torch.zeros(3, 3, dtype=torch.float64)
        return unit if shared else torch.diag(unit[i - 3])

    def f_basis(i: int) -> Tensor:
        return unit[i] if i < 3 else torch.zeros(3, dtype=torch.float64)

    for t in range(3):
        constants += [unit[t] / sigma_x, torch.zeros(3, dtype=torch.float64)]
        bases += [
            [-(f_basis(i) + z_basis(i)[t]) / sigma_x for i in range(size)],
            [STEP[t] @ z_basis(i) / sigma_z for i in range(size)],
        ]
    constants.append(torch.zeros(3, dtype=torch.float64))
    bases.append([f_basis(i) / sigma_f for i in range(size)])
    root = torch.linalg.cholesky(moments)
    target = torch.cat([row @ root for row in constants])
    matrix = torch.cat([torch.stack([row @ root for row in rows], dim=1) for rows in bases])
    weights = torch.linalg.lstsq(matrix, -target.unsqueeze(1)).solution.squeeze(1)
    squares = float((target + matrix @ weights).square().sum())

    precision_f = 1 / sigma_f**2 + 3 / sigma_x**2
    precision_z = [1 / sigma_x**2 + uses / sigma_z**2 for uses in ((5 / 3,) * 3 if shared else (2, 2, 1))]
    # At the best variances, each precision times its variance is one, and they cancel the ones of the entropies.
    entropies = -math.log(precision_f * sigma_f**2) - sum(math.log(p * sigma_z**2) for p in precision_z)
    return -squares - 3 * math.log(2 * math.pi * sigma_x**2) + entropies


@pytest.mark.parametrize("shared", [True, False])
def test_training_reaches_the_exact_optimum(shared: bool) -> None:
    # The ends of the study's grids are the hard ones.
    thetas = [(1.0, 1.0, 1.0), (1.0, 0.05, 1.0), (4.0, 0.05, 1.0), (4.0, 1.0, 0.1), (0.5, 4.0, 1.0), (1.0, 1.0, 4.0)]
    moments = second_moments(some_clips(2000, 4.0, 1.0, 0.3))
    theta = Deviations(*torch.tensor(thetas, dtype=torch.float64).T)
    got = elbo(theta, train_encoder(theta, moments, shared=shared), moments)
    expected = torch.tensor([exact_optimum(one, moments, shared=shared) for one in thetas], dtype=torch.float64)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_problems_trained_together_are_those_trained_alone() -> None:
    moments = torch.stack([second_moments(some_clips(100, seed=seed)) for seed in (0, 1)]).unsqueeze(1)
    one = torch.ones(1, dtype=torch.float64)
    theta = Deviations(one, one, torch.tensor([0.4, 0.8, 1.6], dtype=torch.float64))
    together = train_encoder(theta, moments, steps=40)
    assert together.z_weights.shape == (2, 3, 1)
    alone = train_encoder(deviations(1.0, 1.0, 0.8), moments[1, 0], steps=40)
    for many, single in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(many[1, 1], single)


def test_what_a_shared_network_can_gain_is_bounded() -> None:
    """A network that is told t lies between the shared line and the likelihood; the docstring's figures."""
    theta = deviations(1.0, 1.0, 1.0)
    moments = covariance(theta)
    shared, told_t = (float(elbo(theta, train_encoder(theta, moments, shared=kind), moments)) for kind in (True, False))
    assert told_t - shared == pytest.approx(0.18, abs=0.005)
    assert float(log_likelihood(theta, moments)) - shared == pytest.approx(1.70, abs=0.005)
