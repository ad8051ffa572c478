"""What a condition tells each place: bumps about points that follow it."""

from __future__ import annotations

import math

import pytest
import torch

from kineme.models.condition_map import BUMPS, ConditionMap

SIZE = torch.Size([4, 6])


def test_against_a_loop() -> None:
    torch.manual_seed(0)
    told_by = ConditionMap(condition_dim=3, points=2)
    condition = torch.randn(2, 3)
    told = told_by(condition, SIZE)
    assert told.shape == (2, told_by.channels, *SIZE)
    points = told_by.to_points(condition).view(2, 2, 2).tolist()
    for b in range(2):
        for row in range(4):
            for column in range(6):
                y, x = 2 * row / 3 - 1, 2 * column / 5 - 1
                expected = [*condition[b].tolist(), y, x]
                for width in BUMPS:
                    ways = [((y - at_y) / width, (x - at_x) / width) for at_y, at_x in points[b]]
                    bumps = [math.exp(-(down**2 + right**2) / 2) for down, right in ways]
                    expected += bumps
                    expected += [bump * down for bump, (down, _) in zip(bumps, ways, strict=True)]
                    expected += [bump * right for bump, (_, right) in zip(bumps, ways, strict=True)]
                torch.testing.assert_close(told[b, :, row, column], torch.tensor(expected))


def test_points_are_as_exact_under_autocast() -> None:
    torch.manual_seed(0)
    told_by, condition = ConditionMap(condition_dim=3, points=2), torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        told = told_by(condition, SIZE)
    assert torch.equal(told, told_by(condition, SIZE))


@pytest.mark.parametrize(("condition_dim", "points"), [(0, 5), (3, 0)])
def test_without_condition_or_points(condition_dim: int, points: int) -> None:
    told_by = ConditionMap(condition_dim, points)
    told = told_by(torch.ones(2, condition_dim), SIZE)
    assert told.shape == (2, condition_dim + 2, *SIZE)
    assert told_by.channels == condition_dim + 2
    assert not list(told_by.parameters())


def test_a_point_is_learned() -> None:
    """A dot, narrower than the place of a dot tells by itself, stands where two of the numbers say."""
    torch.manual_seed(0)
    size = torch.Size([16, 16])
    told_by = ConditionMap(condition_dim=3, points=2)
    read = torch.nn.Conv2d(told_by.channels, 1, 1)
    optimiser = torch.optim.Adam([*told_by.parameters(), *read.parameters()], lr=0.02)
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, 16),) * 2, indexing="ij"))

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        condition = torch.randn(32, 3)
        place = 0.4 * condition[:, 1:, None, None]
        return condition, torch.exp(-(grid - place).square().sum(dim=1, keepdim=True) / (2 * 0.1**2))

    for _ in range(400):
        condition, dots = batch()
        error = (read(told_by(condition, size)) - dots).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    condition, dots = batch()
    assert (read(told_by(condition, size)) - dots).square().mean() < 0.1 * dots.square().mean()
