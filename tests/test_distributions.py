"""Gaussians, their mixtures and their divergences against Monte Carlo, torch.distributions and numeric gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.distributions.kl import kl_divergence as torch_kl

from kineme.models.distributions import Gaussian, GaussianMixture, kl_divergence, kl_estimate, kl_to_standard_normal


def random_gaussian(*shape: int, seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return Gaussian(mean, logvar)


def as_normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, torch.exp(0.5 * gaussian.logvar))


def random_mixture(*shape: int, seed: int) -> tuple[GaussianMixture, MixtureSameFamily]:
    """Of (..., K, D): ours, out of one tensor of parameters, and torch's own."""
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(shape[:-1], generator=generator, dtype=torch.float64)
    parameters = torch.cat([mean, logvar, weights[..., None]], dim=-1).flatten(-2)
    torch_components = Independent(Normal(mean, (0.5 * logvar).exp()), 1)
    return (
        GaussianMixture.from_parameters(parameters, shape[-2]),
        MixtureSameFamily(Categorical(logits=weights), torch_components),
    )


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 1)])
def test_density_and_entropy_sum_the_last_dimension_of_the_reference(shape: tuple[int, ...]) -> None:
    q, x = random_gaussian(*shape, seed=0), random_gaussian(*shape, seed=1).mean
    torch.testing.assert_close(q.log_density(x), as_normal(q).log_prob(x).sum(-1))
    torch.testing.assert_close(q.entropy(), as_normal(q).entropy().sum(-1))


@pytest.mark.parametrize("shape", [(4, 3), (2, 1, 3), (2, 5, 4, 3)])
def test_mixture_density_is_that_of_the_reference(shape: tuple[int, ...]) -> None:
    ours, reference = random_mixture(*shape, seed=2)
    x = random_gaussian(*shape[:-2], shape[-1], seed=3).mean
    torch.testing.assert_close(ours.log_density(x), reference.log_prob(x))


def test_mixture_draws_have_the_mean_and_variance_of_the_reference() -> None:
    ours, reference = random_mixture(2, 4, 3, seed=4)
    torch.manual_seed(0)
    many = GaussianMixture(
        ours.log_weights.expand(200_000, 2, 4),
        Gaussian(*(values.expand(200_000, 2, 4, 3) for values in (ours.components.mean, ours.components.logvar))),
    ).sample()
    error = (reference.variance / len(many)).sqrt()
    assert ((many.mean(0) - reference.mean).abs() < 4 * error).all()
    torch.testing.assert_close(many.var(0), reference.variance, rtol=0.03, atol=0)


def test_kl_estimate_is_on_average_the_divergence() -> None:
    """Of a mixture of one, and of one whose second component is the first again."""
    q, p = random_gaussian(3, seed=5), random_gaussian(3, seed=6)
    torch.manual_seed(0)
    draws = q.sample(torch.randn(100_000, 3, dtype=torch.float64))
    twice = Gaussian(torch.stack([p.mean, p.mean]), torch.stack([p.logvar, p.logvar]))
    for mixture in (
        GaussianMixture(torch.zeros(1, dtype=torch.float64), Gaussian(p.mean[None], p.logvar[None])),
        GaussianMixture(torch.tensor([0.3, 0.7], dtype=torch.float64).log(), twice),
    ):
        estimates = kl_estimate(q, mixture, draws)
        standard_error = estimates.std() / len(draws) ** 0.5
        assert (estimates.mean() - kl_divergence(q, p)).abs() < 4 * standard_error


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 1)])
def test_kl_sums_the_last_dimension_of_the_reference(shape: tuple[int, ...]) -> None:
    q, p = random_gaussian(*shape, seed=0), random_gaussian(*shape, seed=1)
    got = kl_divergence(q, p)
    assert got.shape == shape[:-1]
    torch.testing.assert_close(got, torch_kl(as_normal(q), as_normal(p)).sum(-1))


def test_kl_to_standard_normal_is_the_general_kl_to_zero_mean_unit_variance() -> None:
    q = random_gaussian(4, 7, seed=2)
    standard = Gaussian(torch.zeros_like(q.mean), torch.zeros_like(q.mean))
    torch.testing.assert_close(kl_to_standard_normal(q), kl_divergence(q, standard))
    torch.testing.assert_close(kl_to_standard_normal(q), torch_kl(as_normal(q), as_normal(standard)).sum(-1))


def test_kl_against_monte_carlo() -> None:
    q, p = random_gaussian(3, seed=3), random_gaussian(3, seed=4)
    torch.manual_seed(0)
    draws = q.sample(torch.randn(400_000, 3, dtype=torch.float64))
    log_ratio = (as_normal(q).log_prob(draws) - as_normal(p).log_prob(draws)).sum(-1)
    standard_error = log_ratio.std() / len(draws) ** 0.5
    assert (log_ratio.mean() - kl_divergence(q, p)).abs() < 4 * standard_error


def test_kl_is_zero_only_between_equals() -> None:
    q, p = random_gaussian(6, seed=5), random_gaussian(6, seed=6)
    assert kl_divergence(q, q).abs() < 1e-12
    assert kl_divergence(q, p) > 0
    assert (kl_divergence(q, p) - kl_divergence(p, q)).abs() > 1e-3


def test_kl_gradients() -> None:
    q, p = random_gaussian(2, 3, seed=7), random_gaussian(2, 3, seed=8)
    inputs = [part.requires_grad_() for part in (q.mean, q.logvar, p.mean, p.logvar)]

    def general(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return kl_divergence(Gaussian(a, b), Gaussian(c, d))

    def standard(a: Tensor, b: Tensor) -> Tensor:
        return kl_to_standard_normal(Gaussian(a, b))

    assert torch.autograd.gradcheck(general, inputs)
    assert torch.autograd.gradcheck(standard, inputs[:2])


def test_sample_is_the_reparameterised_draw() -> None:
    q = Gaussian(torch.tensor([1.0, -2.0]), torch.tensor([4.0, 0.25]).log())
    torch.testing.assert_close(q.sample(torch.tensor([1.0, -2.0])), torch.tensor([3.0, -3.0]))
    torch.manual_seed(0)
    wide = Gaussian(q.mean.expand(200_000, 2), q.logvar.expand(200_000, 2))
    draws = wide.sample()
    torch.testing.assert_close(draws.mean(0), q.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(draws.var(0), q.logvar.exp(), atol=0.05, rtol=0)


def test_sample_passes_gradients_to_mean_and_variance() -> None:
    mean, logvar = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    noise = torch.tensor([1.0, 2.0, -3.0])
    Gaussian(mean, logvar).sample(noise).sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(3))
    torch.testing.assert_close(logvar.grad, 0.5 * noise)


def test_from_parameters_takes_the_means_first() -> None:
    parameters = torch.arange(12.0).view(2, 6)
    gaussian = Gaussian.from_parameters(parameters)
    assert torch.equal(gaussian.mean, parameters[:, :3])
    assert torch.equal(gaussian.logvar, parameters[:, 3:])
