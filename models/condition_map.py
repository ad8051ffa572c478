"""What a condition means at each place of a frame: the same numbers lie near one place and far from another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BUMPS = (0.5, 0.15, 0.05)
"""Standard deviations of the bumps about a point, in halves of the frame's side."""


class ConditionMap(nn.Module):
    """A condition at every place, the place's coordinates, and how the place lies to points that the condition names.

    Where a gripper is stands in the condition as two numbers. A network that sees one place at a time would have to
    compare them with the place's own finely enough to tell a pixel from the next. So P points (y, x) are made from the
    condition, by a linear map that is learned with the rest, in coordinates that go from -1 to 1 over the frame. Around
    each lie Gaussian bumps of the widths `BUMPS`, and a place is told the height of each where it is, and that height
    times how far down from the point it is, and how far to the right, in widths.

    Args:
        condition_dim: length of c; with 0 only the coordinates are left.
        points: P.

    Attributes:
        channels: what a place is told, condition_dim + 2 + 9 P numbers.
    """

    def __init__(self, condition_dim: int, points: int) -> None:
        super().__init__()
        self.to_points = nn.Linear(condition_dim, 2 * points) if condition_dim and points else None
        self.channels = condition_dim + 2
        if self.to_points is not None:
            # Anywhere, nearly still, and wide bumps reach it.
            nn.init.normal_(self.to_points.weight, std=0.1)
            nn.init.uniform_(self.to_points.bias, -0.5, 0.5)
            self.channels += 3 * len(BUMPS) * points

    def forward(self, condition: Tensor, size: torch.Size) -> Tensor:
        """(B, condition_dim) -> (B, channels, *size): condition, coordinates, bumps, down and right of each point."""
        rows, columns = (torch.linspace(-1, 1, n, device=condition.device, dtype=condition.dtype) for n in size)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(len(condition), -1, -1, -1)
        told = [at_each_place(condition, size), grid]
        if self.to_points is not None:
            # In bfloat16 a point would stand on a grid of its own, an eighth of a pixel wide.
            with torch.autocast(condition.device.type, enabled=False):
                points = self.to_points(condition).view(len(condition), -1, 2, 1, 1)
            for width in BUMPS:
                down, right = ((grid[:, None] - points) / width).unbind(2)
                bump = torch.exp(-(down.square() + right.square()) / 2)
                told += [bump, bump * down, bump * right]
        return torch.cat(told, dim=1)


def at_each_place(numbers: Tensor, size: torch.Size) -> Tensor:
    """(B, D) -> (B, D, *size)."""
    return numbers[:, :, None, None].expand(-1, -1, *size)
