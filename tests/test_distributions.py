"""Gaussians and their divergences against Monte Carlo, torch.distributions and numeric gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as torch_kl

from kineme.models.distributions import Gaussian, kl_divergence, kl_to_standard_normal


def random_gaussian(*shape: int, seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return Gaussian(mean, logvar)


def as_normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, torch.exp(0.5 * gaussian.logvar))


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
