"""Frames that are made by moving others: which way a kernel moves, and what the masks choose from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from kineme.models.motion_kernels import OTHERS, SHARPEST, MotionKernels, move

KERNELS, REACH = 3, 2


def random_frames(batch: int = 2, channels: int = 3, size: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(seed))


def composer() -> MotionKernels:
    torch.manual_seed(0)
    return MotionKernels(vector_dim=4, features=6, kernels=KERNELS, reach=REACH)


def slow_move(frame: Tensor, centre: list[float], deviation: list[float]) -> Tensor:
    """One channel (H, W) by one kernel, pixel by pixel."""
    height, width = frame.shape
    out = torch.zeros_like(frame)
    places = [(i, j) for i in range(-REACH - 2, REACH + 3) for j in range(-REACH - 2, REACH + 3)]
    weights = [
        math.exp(-((i - centre[0]) ** 2) / (2 * deviation[0] ** 2) - (j - centre[1]) ** 2 / (2 * deviation[1] ** 2))
        for i, j in places
    ]
    for y in range(height):
        for x in range(width):
            for (i, j), weight in zip(places, weights, strict=True):
                if 0 <= y + i < height and 0 <= x + j < width:
                    out[y, x] += weight / sum(weights) * frame[y + i, x + j]
    return out


@pytest.mark.parametrize("channels", [1, 3])
def test_moving_against_a_loop(channels: int) -> None:
    frames = random_frames(channels=channels, size=6)
    generator = torch.Generator().manual_seed(1)
    centres = REACH * (2 * torch.rand(2, KERNELS, 2, generator=generator) - 1)
    deviations = 0.3 + torch.rand(2, KERNELS, 2, generator=generator)
    moved = move(frames, centres, deviations, REACH)
    assert moved.shape == (2, KERNELS, channels, 6, 6)
    for b in range(2):
        for k in range(KERNELS):
            for c in range(channels):
                expected = slow_move(frames[b, c], centres[b, k].tolist(), deviations[b, k].tolist())
                torch.testing.assert_close(moved[b, k, c], expected)


def test_a_narrow_kernel_shifts() -> None:
    frames = random_frames()
    moved = move(frames, torch.tensor([-1.0, 2.0]).expand(2, 1, 2), torch.full((2, 1, 2), 0.05), REACH)[:, 0]
    # What stood one row above and two columns to the right.
    assert torch.equal(moved[:, :, 1:, :-2], frames[:, :, :-1, 2:])
    assert moved[:, :, 0].abs().max() == moved[:, :, :, -2:].abs().max() == 0


@pytest.mark.parametrize("chosen", range(KERNELS + OTHERS))
def test_each_mask_chooses_its_picture(chosen: int) -> None:
    compose, (frame, given, drawn) = composer(), (random_frames(seed=seed) for seed in range(3))
    features, vector = torch.randn(2, 6, 8, 8), torch.randn(2, 4)
    with torch.no_grad():
        nn.init.zeros_(compose.to_masks.weight)
        compose.to_masks.bias.copy_(100 * nn.functional.one_hot(torch.tensor(chosen), KERNELS + OTHERS))
    motions = compose.to_motions(vector)
    centres = REACH * motions[:, : 2 * KERNELS].tanh().view(2, KERNELS, 2)
    deviations = SHARPEST + (1 + motions[:, 2 * KERNELS :].exp()).log().view(2, KERNELS, 2)
    pictures = [*move(frame, centres, deviations, REACH).unbind(1), frame, given, drawn]
    torch.testing.assert_close(compose(vector, features, drawn, frame, given), pictures[chosen])


def test_frames_stay_between_the_darkest_and_the_lightest() -> None:
    compose = composer()
    with torch.no_grad():
        for parameter in compose.parameters():
            parameter.mul_(20)
        pictures = [random_frames(seed=seed) for seed in range(3)]
        drawn = compose(torch.randn(2, 4), torch.randn(2, 6, 8, 8), *pictures)
    assert drawn.min() >= 0
    assert drawn.max() <= 1 + 1e-6


def test_it_learns_a_shift() -> None:
    """From the vector alone: which of two ways a frame goes."""
    compose, frames = composer(), random_frames(16, 1, seed=3)
    right = torch.arange(16) % 2 == 0
    target = torch.where(right[:, None, None, None], frames.roll(2, dims=3), frames.roll(-2, dims=3))
    vector = torch.where(right[:, None], torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 1.0, 0, 0]))
    features = torch.ones(16, 6, 8, 8)
    optimiser = torch.optim.Adam(compose.parameters(), lr=0.05)
    for _ in range(150):
        # The border shows what comes from outside.
        error = (compose(vector, features, frames, frames, frames) - target)[..., 2:-2].square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert error < 0.05 * (frames - target)[..., 2:-2].square().mean()
