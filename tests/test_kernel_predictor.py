"""The kernel predictor: what feeds what, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kineme.models.kernel_predictor import ConvLSTM, KernelPredictor, KernelPredictorConfig
from kineme.models.next_frames import predict
from kineme.models.predictor_loss import predictor_loss

SMALL = KernelPredictorConfig(frame_size=16, width=4, kernels=2, reach=2)
CONDITIONED = KernelPredictorConfig(frame_size=16, width=4, kernels=2, reach=2, condition_dim=3)
DRAWN = KernelPredictorConfig(frame_size=16, width=4, kernels=2, reach=2, condition_dim=3, latent_dim=2)


def make(config: KernelPredictorConfig = SMALL) -> KernelPredictor:
    torch.manual_seed(0)
    return KernelPredictor(config)


def random_clip(batch: int = 2, time: int = 6, size: int = 16, seed: int = 1) -> Tensor:
    return torch.rand(batch, time, 3, size, size, generator=torch.Generator().manual_seed(seed))


def altered(frames: Tensor, *times: int) -> Tensor:
    changed = frames.clone()
    changed[:, list(times)] = random_clip(frames.shape[0], len(times), seed=77)
    return changed


def moved(before: Tensor, after: Tensor) -> list[bool]:
    return ((before - after).abs().amax(dim=(0, 2, 3, 4)) > 0).tolist()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("time", "context"), [(2, 1), (5, 1), (5, 3), (5, 4)])
@pytest.mark.parametrize("config", [SMALL, CONDITIONED, DRAWN])
def test_shapes(batch: int, time: int, context: int, config: KernelPredictorConfig) -> None:
    model, frames = make(config), random_clip(batch, time)
    condition = torch.rand(batch, time, 3) if config.condition_dim else None
    drawn = model(frames, context=context, condition=condition).predicted
    assert drawn.shape == (batch, time - 1, 3, 16, 16)
    future = predict(model, frames[:, :context], time - context, condition)
    assert future.shape == (batch, time - context, 3, 16, 16)
    assert 0 <= future.min() < future.max() <= 1 + 1e-6


@pytest.mark.parametrize("context", [1, 2, 5])
def test_prediction_is_the_training_pass_on_its_own_frames(context: int) -> None:
    model, frames, condition = make(CONDITIONED), random_clip(), torch.rand(2, 6, 3)
    trained = model(frames, context=context, condition=condition, teacher_forcing=False).predicted[:, context - 1 :]
    drawn = predict(model, frames[:, :context], 6 - context, condition)
    torch.testing.assert_close(drawn, trained)


@pytest.mark.parametrize("context", [1, 2, 5])
def test_with_its_z_from_the_prior_prediction_is_the_training_pass(context: int) -> None:
    """The noise by which the prior draws the z that the posterior drew gives the same frames."""
    model, frames, condition, noise = make(DRAWN), random_clip(), torch.rand(2, 6, 3), torch.randn(2, 5, 2)
    output = model(frames, context=context, condition=condition, teacher_forcing=False, noise=noise)
    z, prior = output.posterior.sample(noise), output.prior
    behind = (z - prior.mean) / (prior.logvar / 2).exp()
    behind[:, : context - 1] = noise[:, : context - 1]
    drawn = predict(model, frames[:, :context], 6 - context, condition, noise=behind)
    torch.testing.assert_close(drawn, output.predicted[:, context - 1 :])


def test_the_prior_is_told_the_z_and_the_condition_before_a_frame() -> None:
    """The truth is always fed, so that no frame carries either."""
    model, frames, condition, noise = make(DRAWN), random_clip(), torch.rand(2, 6, 3), torch.randn(2, 5, 2)

    def prior_changes(condition: Tensor, noise: Tensor) -> list[bool]:
        before, after = (
            model(frames, context=2, condition=of, noise=behind).prior.mean
            for of, behind in ((given, drawn), (condition, noise))
        )
        return ((before - after).abs().amax(dim=(0, 2)) > 0).tolist()

    given, drawn = condition, noise
    other_condition, other_noise = condition.clone(), noise.clone()
    other_condition[:, 2] += 1
    other_noise[:, 1] += 1
    # Of z_1 .. z_5: c_2 leads to frame 2, as z_2 does, which is the second noise.
    assert prior_changes(other_condition, noise) == [False, True, True, True, True]
    assert prior_changes(condition, other_noise) == [False, False, True, True, True]


@pytest.mark.parametrize("kernels_know_it", [True, False])
def test_another_noise_draws_another_future(kernels_know_it: bool) -> None:
    """Also where z reaches the network beside c_t alone."""
    model, frames, condition = make(DRAWN), random_clip(), torch.rand(2, 6, 3)
    if not kernels_know_it:
        torch.nn.init.zeros_(model.compose.to_motions.weight[:, -2:])
    first, again, other = (
        predict(model, frames[:, :2], 4, condition, noise=torch.full((2, 5, 2), noise)) for noise in (1.0, 1.0, -1.0)
    )
    assert torch.equal(first, again)
    assert moved(first, other) == [True] * 4


def test_a_frame_is_drawn_from_those_before_it_alone() -> None:
    model, frames = make(), random_clip()
    before = model(frames, context=5).predicted
    assert moved(before, model(altered(frames, 3), context=5).predicted) == [False, False, False, True, True]
    assert moved(before, model(altered(frames, 5), context=5).predicted) == [False] * 5


def test_the_truth_after_the_context_is_fed_where_it_is_forced() -> None:
    model, frames = make(), random_clip()
    forced = torch.zeros(2, 5, dtype=torch.bool)
    forced[:, 3] = True
    for fed, first in ((True, 4), (False, 6), (forced, 4)):
        for changed in range(2, 6):
            got = moved(
                model(frames, context=2, teacher_forcing=fed).predicted,
                model(altered(frames, changed), context=2, teacher_forcing=fed).predicted,
            )
            # Frame 3 is fed for x_4 by the mask; without forcing none that comes after the context.
            reaches = fed is True or (fed is forced and changed == 3)
            assert got == [reaches and t > changed for t in range(1, 6)], (first, changed)


def test_the_condition_reaches_its_frame_and_later_ones() -> None:
    model, frames, condition = make(CONDITIONED), random_clip(), torch.rand(2, 6, 3)
    other = condition.clone()
    other[:, 3] += 1
    got = moved(
        model(frames, context=2, condition=condition).predicted, model(frames, context=2, condition=other).predicted
    )
    assert got == [False, False, True, True, True]


def test_a_cell_against_its_equations() -> None:
    torch.manual_seed(0)
    cell, inputs = ConvLSTM(2, 4), torch.rand(1, 2, 4, 4)
    hidden, memory = cell(inputs, cell.blank(torch.zeros(1, 3, 8, 8), 2))
    _, (_, cell_state) = cell(inputs, memory)
    gates = cell.norm(cell.gates(torch.cat([inputs, hidden], 1)))
    enter, keep, show, new = gates[:, :4], gates[:, 4:8], gates[:, 8:12], gates[:, 12:]
    expected = keep.sigmoid() * memory[1] + enter.sigmoid() * new.tanh()
    torch.testing.assert_close(cell_state, expected)
    torch.testing.assert_close(cell(inputs, memory)[0], show.sigmoid() * expected.tanh())


@pytest.mark.parametrize("config", [CONDITIONED, DRAWN])
def test_gradient_reaches_every_parameter(config: KernelPredictorConfig) -> None:
    model, frames = make(config), random_clip()
    output = model(frames, context=2, condition=torch.rand(2, 6, 3), teacher_forcing=False)
    predictor_loss(output, frames, 1.0).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("config", [SMALL, DRAWN])
def test_bfloat16_autocast_stays_near_float32(config: KernelPredictorConfig) -> None:
    model, frames, noise = make(config), random_clip(), torch.randn(2, 5, config.latent_dim)
    condition = torch.rand(2, 6, config.condition_dim) if config.condition_dim else None
    with torch.no_grad():
        exact = model(frames, context=3, condition=condition, teacher_forcing=False, noise=noise)
        with torch.autocast("cpu", torch.bfloat16):
            drawn = model(frames, context=3, condition=condition, teacher_forcing=False, noise=noise)
    assert drawn.predicted.dtype == torch.float32
    torch.testing.assert_close(drawn.predicted, exact.predicted, rtol=0, atol=0.03)
    for found, expected in ((drawn.posterior, exact.posterior), (drawn.prior, exact.prior)):
        if config.latent_dim:
            torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=0.03)


def test_a_frame_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match=r"frame_size is 36.*multiple of 8: use 32"):
        KernelPredictor(KernelPredictorConfig(frame_size=36))


def test_it_learns_where_a_square_moves() -> None:
    """Two squares that go right and down: better than the last frame, and than the mean of the frames to come."""
    frames = torch.zeros(2, 5, 3, 16, 16)
    for t in range(5):
        frames[0, t, :, 5:9, 2 * t : 2 * t + 4] = 1
        frames[1, t, :, 2 * t : 2 * t + 4, 5:9] = 1
    torch.manual_seed(0)
    model = KernelPredictor(KernelPredictorConfig(frame_size=16, width=8, kernels=4, reach=3))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(100):
        error = (model(frames, context=2, teacher_forcing=False).predicted - frames[:, 1:]).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    with torch.no_grad():
        error = (predict(model, frames[:, :2], 3) - frames[:, 2:]).square().mean()
    future = frames[:, 2:]
    assert error < 0.2 * (frames[:, 1:2] - future).square().mean()
    assert error < 0.5 * (future.mean(dim=1, keepdim=True) - future).square().mean()
