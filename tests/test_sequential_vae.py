"""The sequential VAE against references written out here."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kineme.models.distributions import Gaussian
from kineme.models.sequential_vae import SequentialVAE, SequentialVAEConfig, SequentialVAEOutput, sequential_vae_loss

NARROW = {"frame_size": 32, "width": 4, "f_dim": 6, "z_dim": 5, "hidden_dim": 16}
VARIANTS = list(itertools.product([False, True], repeat=3))


def make(pooled: bool = False, unordered: bool = False, modulated: bool = False, **changes: int) -> SequentialVAE:
    torch.manual_seed(0)
    switches = {"pooled_content": pooled, "unordered_content": unordered, "modulated_decoder": modulated}
    return SequentialVAE(SequentialVAEConfig(**{**NARROW, **changes}, **switches))


def clips(batch: int = 3, steps: int = 4, size: int = 32) -> torch.Tensor:
    return torch.rand(batch, steps, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("pooled", "unordered", "modulated"), VARIANTS)
@pytest.mark.parametrize(("size", "steps"), [(32, 1), (64, 3), (96, 2)])
def test_shapes(pooled: bool, unordered: bool, modulated: bool, size: int, steps: int) -> None:
    model = make(pooled, unordered, modulated, frame_size=size)
    output = model(clips(2, steps, size))
    assert output.reconstruction.shape == (2, steps, 3, size, size)
    assert output.reconstruction.min() >= 0
    assert output.reconstruction.max() <= 1
    assert output.f_posterior.mean.shape == (2, 6)
    assert output.z_posterior.mean.shape == output.z_prior.mean.shape == (2, steps, 5)
    assert model.sample_motion(2, steps).shape == (2, steps, 5)


def test_the_paper_s_sizes_are_the_defaults() -> None:
    model = SequentialVAE(SequentialVAEConfig())
    assert model.z_head[0].in_features == 256 * 4 * 4
    assert model.z_head[2].out_features == 2 * 32
    assert model.f_lstm.hidden_size == 512
    assert model.decoder.layers[0].out_features == 256 * 2 * 2
    assert model.f_mean.out_features == model.f_logvar.out_features == 256
    assert model.prior_head.out_features == 2 * 32


def test_frame_size_must_fit() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        SequentialVAEConfig(frame_size=50)


def test_loss_against_a_slow_reference() -> None:
    """Every term written out per clip, step and dimension, with plain floats."""
    model = make().eval()
    frames = clips()
    output = model(frames)
    beta, sigma = 3.0, 0.5
    total_reconstruction = total_f = total_z = 0.0
    for b in range(3):
        for t in range(4):
            error = output.reconstruction[b, t] - frames[b, t]
            total_reconstruction += sum(e**2 for e in error.flatten().tolist()) / (2 * sigma**2)
            for d in range(5):
                m, v = output.z_posterior.mean[b, t, d].item(), math.exp(output.z_posterior.logvar[b, t, d].item())
                pm, pv = output.z_prior.mean[b, t, d].item(), math.exp(output.z_prior.logvar[b, t, d].item())
                total_z += 0.5 * (math.log(pv / v) + (v + (m - pm) ** 2) / pv - 1)
        for d in range(6):
            m, v = output.f_posterior.mean[b, d].item(), math.exp(output.f_posterior.logvar[b, d].item())
            total_f += 0.5 * (v + m**2 - 1 - math.log(v))
    parts = sequential_vae_loss(output, frames, beta=beta, sigma=sigma)
    assert parts["reconstruction"].item() == pytest.approx(total_reconstruction / 3, rel=1e-4)
    assert parts["kl_f"].item() == pytest.approx(total_f / 3, rel=1e-4)
    assert parts["kl_z"].item() == pytest.approx(total_z / 3, rel=1e-4)
    assert parts["loss"].item() == pytest.approx((total_reconstruction + beta * (total_f + total_z)) / 3, rel=1e-4)


def test_divergence_from_a_mixture_against_a_slow_reference() -> None:
    """At the drawn motion, log q's entropy and the mixture's density written out with plain floats."""
    model = make(prior_components=3).eval()
    output, total = model(clips()), 0.0
    for b, t in itertools.product(range(3), range(4)):
        q, p = output.z_posterior, output.z_prior
        entropy = sum(0.5 * (math.log(2 * math.pi) + 1 + v) for v in q.logvar[b, t].tolist())
        density = 0.0
        for k in range(3):
            weight = p.log_weights[b, t, k].exp().item()
            for d in range(5):
                m, v = p.components.mean[b, t, k, d].item(), p.components.logvar[b, t, k, d].exp().item()
                weight *= math.exp(-((output.z[b, t, d].item() - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
            density += weight
        total += -entropy - math.log(density)
    assert sequential_vae_loss(output, clips())["kl_z"].item() == pytest.approx(total / 3, rel=1e-4)


def test_a_mixture_draws_one_of_two_motions_and_nothing_between() -> None:
    """First steps at -2 or 2: one Gaussian draws what lies between them, two do not."""
    torch.manual_seed(0)
    z = 0.2 * torch.randn(256, 1, 5) + torch.tensor([-2.0, 2.0]).repeat(128)[:, None, None]
    between = {}
    for count in (1, 2):
        model = make(prior_components=count)
        optimizer = torch.optim.Adam(model.prior_head.parameters(), lr=0.05)
        for _ in range(150):
            prior = model.z_prior(z)
            loss = -prior.log_density(z).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        drawn = model.sample_motion(500, 1)
        between[count] = (drawn.mean(dim=2).abs() < 1).float().mean().item()
    assert between[1] > 0.5
    assert between[2] < 0.02


def test_divergences_against_monte_carlo() -> None:
    """kl_f and kl_z are expected log ratios of densities: draw from q and average."""
    torch.manual_seed(0)
    q_f = Gaussian(torch.randn(1, 3), torch.randn(1, 3) * 0.5)
    q_z = Gaussian(torch.randn(1, 2, 3), torch.randn(1, 2, 3) * 0.5)
    p_z = Gaussian(torch.randn(1, 2, 3), torch.randn(1, 2, 3) * 0.5)
    frames = torch.zeros(1, 2, 3, 4, 4)
    parts = sequential_vae_loss(SequentialVAEOutput(frames, q_f, q_z, q_z.sample(), p_z), frames)

    def log_density(x: torch.Tensor, g: Gaussian) -> torch.Tensor:
        normal = torch.distributions.Normal(g.mean, torch.exp(0.5 * g.logvar))
        return normal.log_prob(x).flatten(1).sum(1)

    draws = 200_000
    f = q_f.mean + torch.exp(0.5 * q_f.logvar) * torch.randn(draws, 3)
    z = q_z.mean + torch.exp(0.5 * q_z.logvar) * torch.randn(draws, 2, 3)
    standard = Gaussian(torch.zeros(1, 3), torch.zeros(1, 3))
    assert (log_density(f, q_f) - log_density(f, standard)).mean().item() == pytest.approx(
        parts["kl_f"].item(), rel=0.02
    )
    assert (log_density(z, q_z) - log_density(z, p_z)).mean().item() == pytest.approx(parts["kl_z"].item(), rel=0.02)


def test_motion_is_read_frame_by_frame_and_content_from_all() -> None:
    model = make().eval()
    frames = clips()
    changed = frames.clone()
    changed[:, 2] = 1 - changed[:, 2]
    f, z = model.encode(frames)
    f_changed, z_changed = model.encode(changed)
    same = torch.isclose(z.mean, z_changed.mean, atol=1e-5).all(dim=2)
    assert same[:, [0, 1, 3]].all()
    assert not same[:, 2].any()
    assert not torch.allclose(f.mean, f_changed.mean, atol=1e-5)


@pytest.mark.parametrize("components", [1, 3])
def test_prior_sees_only_the_past(components: int) -> None:
    model = make(prior_components=components).eval()
    z = torch.randn(1, 4, 5)
    changed = z.clone()
    changed[:, 2] += 1
    before, after = (model.z_prior(motion).log_density(torch.ones_like(z)) for motion in (z, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_stepwise_sampling_agrees_with_the_prior() -> None:
    """With the noise known, the drawn motion is what the prior conditioned on it says, step by step."""
    model = make().eval()
    torch.manual_seed(5)
    z = model.sample_motion(2, 4)
    torch.manual_seed(5)
    noise = torch.cat([torch.randn(2, 1, 5) for _ in range(4)], dim=1)
    assert torch.allclose(model.z_prior(z).sample(noise), z, atol=1e-5)


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(("pooled", "unordered", "modulated"), VARIANTS)
def test_the_objective_reaches_every_parameter(pooled: bool, unordered: bool, modulated: bool, components: int) -> None:
    model = make(pooled, unordered, modulated, prior_components=components)
    frames = clips()
    sequential_vae_loss(model(frames), frames)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_pooled_content_does_not_know_places() -> None:
    """Frames rolled by whole strides of the third convolution, away from the border, give the same content."""
    model = make(pooled=True, frame_size=64).eval()
    frames = torch.zeros(1, 2, 3, 64, 64)
    frames[..., 16:32, 16:32] = torch.rand(16, 16)
    rolled = frames.roll((16, 8), dims=(3, 4))
    assert torch.allclose(model.encode(frames)[0].mean, model.encode(rolled)[0].mean, atol=1e-4)
    paper = make(frame_size=64).eval()
    assert not torch.allclose(paper.encode(frames)[0].mean, paper.encode(rolled)[0].mean, atol=1e-4)


@pytest.mark.parametrize("unordered", [False, True])
def test_whether_content_knows_the_order_of_frames(unordered: bool) -> None:
    """As a set, it is the mean and the maximum over frames, written out here, through the layer and the head."""
    model, frames = make(unordered=unordered).eval(), clips()
    f = model.encode(frames)[0].mean
    assert torch.allclose(f, model.encode(frames.flip(1))[0].mean, atol=1e-5) == unordered
    if unordered:
        each = torch.stack([model.convolutions(frames[:, t]).flatten(1) for t in range(frames.shape[1])])
        pooled = torch.cat([sum(each) / len(each), each.max(dim=0).values], dim=1)
        torch.testing.assert_close(f, model.f_mean(model.f_layer(pooled)))


@pytest.mark.parametrize(("pooled", "modulated"), [(False, False), (True, True)])
def test_learns_to_reconstruct(pooled: bool, modulated: bool) -> None:
    """A bright square on paths of its own: far below the error of the best constant picture."""
    torch.manual_seed(0)
    frames = torch.zeros(8, 4, 3, 32, 32)
    for clip in range(8):
        for step in range(4):
            x, y = 2 + 3 * clip, 4 + 5 * step
            frames[clip, step, :, y : y + 6, x : x + 6] = 0.9
    model = make(pooled, modulated=modulated, width=8, hidden_dim=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    constant = (frames - frames.mean(dim=(0, 1))).square().sum(dim=(1, 2, 3, 4)).mean().item()
    for _ in range(200):
        parts = sequential_vae_loss(model(frames), frames, sigma=0.3)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
    f, z = model.eval().encode(frames)
    error = (model.decode(f.mean, z.mean) - frames).square().sum(dim=(1, 2, 3, 4)).mean().item()
    assert error < 0.3 * constant


def test_runs_under_autocast() -> None:
    model = make()
    frames = clips()
    with torch.autocast("cpu", torch.bfloat16):
        parts = sequential_vae_loss(model(frames), frames)
    assert all(value.dtype == torch.float32 for value in parts.values())
    assert torch.isfinite(parts["loss"])
