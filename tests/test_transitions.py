"""z_t of a transition: where points lie, what the posterior and the prior see, and that z is learned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kineme.models.kernel_predictor import KernelPredictor, KernelPredictorConfig
from kineme.models.next_frames import predict
from kineme.models.predictor_loss import predictor_loss
from kineme.models.transitions import POINTS, SHARPNESS, SpatialSoftmax, TransitionPosterior, TransitionPrior


def random_clip(batch: int = 2, time: int = 5, size: int = 16, seed: int = 1) -> Tensor:
    return torch.rand(batch, time, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_points_against_a_slow_reference() -> None:
    torch.manual_seed(0)
    softmax, features = SpatialSoftmax(3), torch.randn(2, 3, 4, 6)
    found = softmax(features)
    weight = softmax.to_maps.weight[:, :, 0, 0]
    for clip in range(2):
        for point in range(POINTS):
            total = down = right = 0.0
            for row in range(4):
                for column in range(6):
                    value = weight[point] @ features[clip, :, row, column] * SHARPNESS
                    share = value.exp().item()
                    total += share
                    down += share * (-1 + 2 * row / 3)
                    right += share * (-1 + 2 * column / 5)
            assert found[clip, point].item() == pytest.approx(down / total, abs=1e-5)
            assert found[clip, POINTS + point].item() == pytest.approx(right / total, abs=1e-5)


def test_a_point_lies_where_its_map_is_high() -> None:
    softmax, features = SpatialSoftmax(1), torch.zeros(1, 1, 5, 5)
    torch.nn.init.constant_(softmax.to_maps.weight, 100.0)
    features[0, 0, 4, 1] = 1
    found = softmax(features)[0]
    assert found[:POINTS].tolist() == pytest.approx([1.0] * POINTS)
    assert found[POINTS:].tolist() == pytest.approx([-0.5] * POINTS)


def test_bfloat16_leaves_points_as_they_are() -> None:
    torch.manual_seed(0)
    softmax, features = SpatialSoftmax(3), torch.randn(2, 3, 8, 8)
    exact = softmax(features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(softmax(features), exact)


def test_the_posterior_of_a_frame_sees_it_and_the_one_before_alone() -> None:
    torch.manual_seed(0)
    posterior, frames = TransitionPosterior(3, 4, 2), random_clip()
    found = posterior(frames)
    assert found.mean.shape == found.logvar.shape == (2, 4, 2)
    changed = frames.clone()
    changed[:, 2] = random_clip(seed=9)[:, 0]
    differs = (posterior(changed).mean - found.mean).abs().amax(dim=(0, 2)) > 0
    # z_2 leads to frame 2, z_3 away from it.
    assert differs.tolist() == [False, True, True, False]
    assert found.logvar.mean().item() == pytest.approx(-4, abs=0.5)


def test_the_prior_is_told_all_that_came_before() -> None:
    torch.manual_seed(0)
    prior = TransitionPrior(4, 2, 3)
    given = [torch.rand(2, 4, 8, 8), torch.rand(2, 2), torch.rand(2, 3), torch.rand(2, prior.cell.hidden_size)]
    found, memory = prior(*given)
    assert found.mean.shape == (2, 2)
    for place in range(4):
        other = [value + (number == place) * torch.rand(value.shape) for number, value in enumerate(given)]
        assert not torch.equal(prior(*other)[0].mean, found.mean)
        assert not torch.equal(prior(*other)[1], memory)


def jumping_square(batch: int, seed: int) -> Tensor:
    """A square that goes three pixels up, down, left or right before each frame, as it falls."""
    draws = torch.Generator().manual_seed(seed)
    frames = torch.zeros(batch, 4, 3, 16, 16)
    for clip in range(batch):
        row, column = 6, 6
        for t in range(4):
            frames[clip, t, :, row : row + 4, column : column + 4] = 1
            step = (-3, 3)[int(torch.randint(2, (), generator=draws))]
            if torch.randint(2, (), generator=draws):
                row = min(12, max(0, row + step))
            else:
                column = min(12, max(0, column + step))
    return frames


def test_z_learns_what_cannot_be_foretold() -> None:
    """Told z, a frame is drawn; draws of z differ, and one of a few comes nearer to the truth than their mean does."""
    torch.manual_seed(0)
    model = KernelPredictor(KernelPredictorConfig(frame_size=16, width=8, kernels=4, reach=3, latent_dim=2))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for step in range(100):
        frames = jumping_square(8, seed=step)
        loss = predictor_loss(model(frames, context=2), frames, 1e-4).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    frames = jumping_square(64, seed=10_000)
    with torch.no_grad():
        told = predictor_loss(model(frames, context=2), frames, 0.0)
        draws = torch.stack([predict(model, frames[:, :2], 1) for _ in range(8)])
    assert told.kl is not None
    future = frames[:, 2:3]
    best = (draws - future).square().mean(dim=(2, 3, 4, 5)).amin(dim=0).mean()
    assert told.kl > 1
    assert told.reconstruction < 0.1 * (frames[:, :-1] - frames[:, 1:]).square().mean()
    assert best < 0.7 * (draws.mean(dim=0) - future).square().mean()
