"""The next-frame CVAE: what feeds what, its loss, and that it learns."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from kineme.models.distributions import Gaussian
from kineme.models.frame_predictor import FramePredictor, FramePredictorConfig
from kineme.models.next_frames import predict
from kineme.models.predictor_loss import PredictorLoss, PredictorOutput, predictor_loss

SMALL = FramePredictorConfig(frame_size=32, width=4, feature_dim=12, hidden_dim=16, latent_dim=3, condition_embedding=5)
CONDITIONED = dataclasses.replace(SMALL, condition_dim=2)
LEARNED = dataclasses.replace(CONDITIONED, learned_prior=True)
MOVED = dataclasses.replace(LEARNED, kernels=2, reach=3)


def make(config: FramePredictorConfig = SMALL, seed: int = 0) -> FramePredictor:
    torch.manual_seed(seed)
    return FramePredictor(config)


def random_clip(batch: int = 2, time: int = 6, size: int = 32, seed: int = 1) -> Tensor:
    return torch.rand(batch, time, 3, size, size, generator=torch.Generator().manual_seed(seed))


def random_noise(batch: int = 2, steps: int = 5, latent: int = 3) -> Tensor:
    return torch.randn(batch, steps, latent, generator=torch.Generator().manual_seed(2))


def altered(frames: Tensor, *times: int) -> Tensor:
    changed = frames.clone()
    changed[:, list(times)] = random_clip(frames.shape[0], len(times), frames.shape[-1], seed=77)
    return changed


def moving_square(time: int = 5, size: int = 32, side: int = 8) -> Tensor:
    """Two clips (2, time, 3, size, size): a white square moves right in one, down in the other."""
    frames = torch.zeros(2, time, 3, size, size)
    for t in range(time):
        start = 6 * t
        frames[0, t, :, 10 : 10 + side, start : start + side] = 1
        frames[1, t, :, start : start + side, 10 : 10 + side] = 1
    return frames


# What is drawn from what


def test_a_frame_is_encoded_the_same_in_any_company() -> None:
    model, frames = make(), random_clip()
    alone, _ = model.encoder(frames[0, :1])
    together, _ = model.train().encoder(frames.flatten(0, 1))
    torch.testing.assert_close(together[:1], alone)
    torch.testing.assert_close(model.eval().encoder(frames[0, :1])[0], alone)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("time", "context"), [(2, 1), (5, 1), (5, 3), (5, 4)])
@pytest.mark.parametrize("forcing", [True, False, "mask"])
@pytest.mark.parametrize("config", [SMALL, CONDITIONED, LEARNED, MOVED])
def test_shapes(batch: int, time: int, context: int, forcing: bool | str, config: FramePredictorConfig) -> None:
    model = make(config)
    condition = torch.rand(batch, time, 2) if config.condition_dim else None
    teacher_forcing = torch.arange(batch) % 2 == 0 if forcing == "mask" else bool(forcing)
    frames = random_clip(batch, time)
    output = model(frames, context=context, condition=condition, teacher_forcing=teacher_forcing)
    assert output.predicted.shape == (batch, time - 1, 3, 32, 32)
    assert output.posterior.mean.shape == output.posterior.logvar.shape == (batch, time - 1, 3)
    drawn = predict(model, frames[:, :context], time - context, condition)
    assert drawn.shape == (batch, time - context, 3, 32, 32)
    assert 0 <= drawn.min() < drawn.max() <= 1


@pytest.mark.parametrize("config", [CONDITIONED, MOVED])
@pytest.mark.parametrize("forcing", [True, False])
def test_forward_against_a_loop_over_frames(forcing: bool, config: FramePredictorConfig) -> None:
    """The batched pass equals the report's loop, one frame at a time and nothing shared."""
    model, frames, noise, context = make(config), random_clip(), random_noise(), 3
    condition = torch.rand(2, 6, 2)
    output = model(frames, context=context, condition=condition, teacher_forcing=forcing, noise=noise)

    assert model.embed_condition is not None
    code = model.embed_condition(condition)
    posterior_state = predictor_state = prior_state = None
    _, posterior_state = model.posterior(torch.cat([model.encoder(frames[:, 0])[0], code[:, 0]], -1)[:, None])
    drawn = frames[:, 0]
    skips: list[Tensor] = []
    first = frames[:, 0]
    for t in range(1, 6):
        target = model.encoder(frames[:, t])[0]
        parameters, posterior_state = model.posterior(torch.cat([target, code[:, t]], -1)[:, None], posterior_state)
        mean, logvar = parameters[:, 0].chunk(2, -1)
        torch.testing.assert_close(output.posterior.mean[:, t - 1], mean)
        torch.testing.assert_close(output.posterior.logvar[:, t - 1], logvar)
        z = mean + (0.5 * logvar).exp() * noise[:, t - 1]
        source = frames[:, t - 1] if forcing or t <= context else drawn
        h, source_skips = model.encoder(source)
        if t <= context:
            skips, first = source_skips, source
        g, predictor_state = model.predictor(torch.cat([h, z, code[:, t]], -1)[:, None], predictor_state)
        if model.compose is None:
            drawn = model.decoder(torch.tanh(g[:, 0]), skips)
        else:
            features = model.decoder.pixel_features(torch.tanh(g[:, 0]), skips)
            drawn = model.compose(torch.tanh(g[:, 0]), features, model.decoder.draw(features), source, first)
        if model.prior is not None:
            parameters, prior_state = model.prior(torch.cat([h, code[:, t]], -1)[:, None], prior_state)
            mean, logvar = parameters[:, 0].chunk(2, -1)
            assert output.prior is not None
            torch.testing.assert_close(output.prior.mean[:, t - 1], mean)
            torch.testing.assert_close(output.prior.logvar[:, t - 1], logvar)
        torch.testing.assert_close(output.predicted[:, t - 1], drawn)


def test_posterior_never_sees_later_frames() -> None:
    model, frames = make(), random_clip()
    before = model(frames, context=2).posterior.mean
    after = model(altered(frames, 4), context=2).posterior.mean
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3] - after[:, 3]).abs().min() > 0
    assert (before[:, 4] - after[:, 4]).abs().min() > 0


def test_posterior_remembers_the_first_frame() -> None:
    model, frames = make(), random_clip()
    changed = model(altered(frames, 0), context=2).posterior.mean
    assert (changed - model(frames, context=2).posterior.mean).abs().amax(dim=(0, 2)).min() > 0


@pytest.mark.parametrize("forcing", [True, False])
def test_skips_come_from_the_last_context_frame(forcing: bool) -> None:
    """With the recurrence cut off (g = 0), x_t depends on frame min(t, context) - 1 alone: the skips' frame."""
    model, frames = make(), random_clip()
    nn.init.zeros_(model.predictor.output.weight)
    nn.init.zeros_(model.predictor.output.bias)
    context = 3
    before = model(frames, context=context, teacher_forcing=forcing).predicted
    for changed in range(6):
        after = model(altered(frames, changed), context=context, teacher_forcing=forcing).predicted
        moved = (before - after).abs().amax(dim=(0, 2, 3, 4)) > 0
        assert moved.tolist() == [min(t, context) - 1 == changed for t in range(1, 6)]
        seen = frames[:, :context]
        moved_later = (
            predict(model, seen, 3) - predict(model, altered(frames, changed)[:, :context], 3)
        ).abs().amax() > 0
        assert bool(moved_later) == (changed == context - 1)


def cut_off_posterior(model: FramePredictor) -> None:
    """Make q(z | x) constant, so that what remains of an input's influence is the predictor's."""
    nn.init.zeros_(model.posterior.output.weight)


@pytest.mark.parametrize(("forcing", "first_moved"), [(True, 5), (False, None)])
def test_the_truth_after_the_context_is_fed_under_teacher_forcing_only(forcing: bool, first_moved: int | None) -> None:
    model, frames, noise = make(), random_clip(), random_noise()
    cut_off_posterior(model)
    before = model(frames, context=2, teacher_forcing=forcing, noise=noise).predicted
    after = model(altered(frames, 4), context=2, teacher_forcing=forcing, noise=noise).predicted
    moved = (before - after).abs().amax(dim=(0, 2, 3, 4)) > 0
    assert moved.tolist() == [t == first_moved for t in range(1, 6)]


def test_a_mask_forces_the_clips_it_names() -> None:
    model, frames, noise = make(), random_clip(3), random_noise(3)
    forced = torch.tensor([True, False, True])
    mixed = model(frames, context=2, teacher_forcing=forced, noise=noise).predicted
    own = model(frames, context=2, teacher_forcing=False, noise=noise).predicted
    true = model(frames, context=2, teacher_forcing=True, noise=noise).predicted
    torch.testing.assert_close(mixed[forced], true[forced])
    torch.testing.assert_close(mixed[~forced], own[~forced])
    assert (true - own).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-5


def test_predict_is_the_training_pass_on_its_own_frames_with_prior_noise() -> None:
    """Where the posterior is N(0, I), drawing from it and drawing from the prior are one."""
    model, frames, noise = make(), random_clip(), random_noise()
    cut_off_posterior(model)
    nn.init.zeros_(model.posterior.output.bias)
    for context in range(1, 6):
        trained = model(frames, context=context, teacher_forcing=False, noise=noise).predicted[:, context - 1 :]
        torch.testing.assert_close(predict(model, frames[:, :context], 6 - context, noise=noise), trained)


def test_a_learned_prior_is_drawn_from() -> None:
    """Where posterior and learned prior are the same constant, the training pass and the prediction are one."""
    model, frames, noise, condition = make(MOVED), random_clip(), random_noise(), torch.rand(2, 6, 2)
    assert model.prior is not None
    for gaussian in (model.posterior, model.prior):
        nn.init.zeros_(gaussian.output.weight)
        nn.init.constant_(gaussian.output.bias, 0.7)
    for context in range(1, 6):
        trained = model(frames, context=context, condition=condition, teacher_forcing=False, noise=noise).predicted
        drawn = predict(model, frames[:, :context], 6 - context, condition, noise=noise)
        torch.testing.assert_close(drawn, trained[:, context - 1 :])
    nn.init.zeros_(model.prior.output.bias)
    assert (predict(model, frames[:, :3], 3, condition, noise=noise) - trained[:, 2:]).abs().max() > 0


def test_a_learned_prior_never_sees_the_frame_it_is_for() -> None:
    model, frames, condition = make(LEARNED), random_clip(), torch.rand(2, 6, 2)
    before, after = (model(f, context=2, condition=condition).prior for f in (frames, altered(frames, 3)))
    assert before is not None
    assert after is not None
    moved = (before.mean - after.mean).abs().amax(dim=(0, 2)) > 0
    assert moved.tolist() == [False, False, False, True, True]


def test_predict_reads_the_context_with_the_posterior() -> None:
    model, frames, noise = make(), random_clip(), random_noise()
    before = predict(model, frames[:, :3], 3, noise=noise)
    nn.init.constant_(model.posterior.output.bias, 2.0)
    assert (predict(model, frames[:, :3], 3, noise=noise) - before).abs().max() > 0
    # A context of one frame leaves no step for the posterior.
    alone = predict(model, frames[:, :1], 3, noise=noise[:, :3])
    nn.init.constant_(model.posterior.output.bias, -2.0)
    assert torch.equal(predict(model, frames[:, :1], 3, noise=noise[:, :3]), alone)


def test_the_condition_reaches_its_frame_and_later_ones() -> None:
    model, frames, noise = make(CONDITIONED), random_clip(), random_noise()
    condition = torch.rand(2, 6, 2)
    other = condition.clone()
    other[:, 4] += 1
    moved = (
        model(frames, context=2, condition=condition, noise=noise).predicted
        - model(frames, context=2, condition=other, noise=noise).predicted
    )
    assert (moved.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [False, False, False, True, True]
    drawn = predict(model, frames[:, :3], 3, condition, noise=noise) - predict(
        model, frames[:, :3], 3, other, noise=noise
    )
    assert (drawn.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [False, True, True]


# Loss


def slow_loss(output: PredictorOutput, frames: Tensor, beta: float) -> tuple[float, float, float]:
    batch, steps = output.predicted.shape[:2]
    error = divergence = 0.0
    for b in range(batch):
        for s in range(steps):
            drawn, true = output.predicted[b, s].flatten().tolist(), frames[b, s + 1].flatten().tolist()
            error += sum((x - y) ** 2 for x, y in zip(drawn, true, strict=True)) / len(drawn)
            means, logvars = output.posterior.mean[b, s].tolist(), output.posterior.logvar[b, s].tolist()
            others, spreads = [0.0] * len(means), [0.0] * len(means)
            if output.prior is not None:
                others, spreads = output.prior.mean[b, s].tolist(), output.prior.logvar[b, s].tolist()
            divergence += sum(
                0.5 * (u - v + (math.exp(v) + (m - o) ** 2) / math.exp(u) - 1)
                for m, v, o, u in zip(means, logvars, others, spreads, strict=True)
            )
    error, divergence = error / (batch * steps), divergence / (batch * steps)
    return error + beta * divergence, error, divergence


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.01, 1.0])
def test_loss_against_a_loop(beta: float, learned: bool) -> None:
    frames = random_clip(2, 4, 8)
    posterior, prior = (Gaussian(torch.randn(2, 3, 5), torch.randn(2, 3, 5)) for _ in range(2))
    output = PredictorOutput(random_clip(2, 3, 8, seed=3), posterior, prior if learned else None)
    got = predictor_loss(output, frames, beta)
    expected = slow_loss(output, frames, beta)
    assert (got.loss.item(), got.reconstruction.item(), got.kl.item()) == pytest.approx(expected, rel=1e-5)


def test_loss_is_zero_for_perfect_frames_from_the_prior() -> None:
    frames = random_clip(time=4)
    output = PredictorOutput(frames[:, 1:], Gaussian(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5)))
    assert predictor_loss(output, frames, 1.0).loss == 0


@pytest.mark.parametrize("config", [CONDITIONED, MOVED])
@pytest.mark.parametrize("forcing", [True, False])
def test_gradient_reaches_every_parameter(forcing: bool, config: FramePredictorConfig) -> None:
    model, frames = make(config), random_clip(time=5)
    output = model(frames, context=2, condition=torch.rand(2, 5, 2), teacher_forcing=forcing)
    predictor_loss(output, frames, 0.1).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("config", [CONDITIONED, MOVED])
@pytest.mark.parametrize("forcing", [True, False])
def test_bfloat16_autocast_stays_near_float32(forcing: bool, config: FramePredictorConfig) -> None:
    model, frames, noise = make(config), random_clip(), random_noise()
    condition = torch.rand(2, 6, 2)

    def run() -> tuple[PredictorOutput, PredictorLoss]:
        output = model(frames, context=3, condition=condition, teacher_forcing=forcing, noise=noise)
        return output, predictor_loss(output, frames, 0.1)

    _, exact = run()
    with torch.autocast("cpu", torch.bfloat16):
        output, loss = run()
        drawn = predict(model, frames[:, :3], 2, condition[:, :5], noise=noise[:, :4])
    loss.loss.backward()
    assert {output.predicted.dtype, output.posterior.logvar.dtype, loss.loss.dtype, drawn.dtype} == {torch.float32}
    torch.testing.assert_close(loss.loss, exact.loss, rtol=0.02, atol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_it_learns_where_a_square_moves() -> None:
    """Better than the last frame, and than the best still image there is: the mean of the frames to come."""
    frames, context = moving_square(), 2
    torch.manual_seed(0)
    model = FramePredictor(FramePredictorConfig(frame_size=32, width=8, latent_dim=4, hidden_dim=64, feature_dim=32))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.001)
    for _ in range(120):
        loss = predictor_loss(model(frames, context=context, teacher_forcing=False), frames, beta=1e-5)
        optimiser.zero_grad()
        loss.loss.backward()
        optimiser.step()
    with torch.no_grad():
        drawn = predict(model, frames[:, :context], 3, noise=torch.zeros(2, 4, 4))
    future = frames[:, context:]
    error = (drawn - future).square().mean()
    assert error < 0.2 * (frames[:, context - 1 : context] - future).square().mean()
    assert error < 0.6 * (future.mean(dim=1, keepdim=True) - future).square().mean()


# Bad input


def test_bad_input_is_named() -> None:
    model, frames = make(), random_clip()
    for context in (0, 6, -1):
        with pytest.raises(ValueError, match=rf"context is {context}, but 6 frames leave 1 to 5"):
            model(frames, context=context)
    with pytest.raises(ValueError, match=r"frames are \(2, 6, 3, 64, 64\).*\(3, 32, 32\)"):
        model(random_clip(size=64), context=2)
    with pytest.raises(ValueError, match=r"frames are \(6, 3, 32, 32\)"):
        predict(model, frames[0], 2)
    with pytest.raises(ValueError, match=r"torch.uint8.*divide by 255"):
        model((frames * 255).to(torch.uint8), context=2)
    with pytest.raises(ValueError, match="horizon is 0"):
        predict(model, frames, 0)
    with pytest.raises(ValueError, match=r"noise is \(2, 4, 3\).*\(2, 5, 3\)"):
        model(frames, context=2, noise=random_noise(steps=4))
    with pytest.raises(ValueError, match="condition_dim 0: leave it out"):
        model(frames, context=2, condition=torch.rand(2, 6, 2))
    conditioned = make(CONDITIONED)
    with pytest.raises(ValueError, match=r"missing.*\(2, 6, 2\)"):
        conditioned(frames, context=2)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2\).*\(2, 7, 2\)"):
        predict(conditioned, frames[:, :3], 4, torch.rand(2, 3, 2))
