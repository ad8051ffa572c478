"""The objective for S against loops over clips and frames, and what it teaches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kineme.models.appearance import Appearance, appearance_loss


def cosine(one: Tensor, other: Tensor) -> float:
    dot = sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))
    return dot / math.hypot(*one.tolist()) / math.hypot(*other.tolist())


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_against_loops(temperature: float) -> None:
    torch.manual_seed(0)
    clips, frames = torch.randn(4, 3), torch.randn(4, 3)
    total = 0.0
    for queries, keys in ((clips, frames), (frames, clips)):
        for n in range(4):
            shares = [math.exp(cosine(queries[n], key) / temperature) for key in keys]
            total -= math.log(shares[n] / sum(shares))
    assert float(appearance_loss(clips, frames, temperature)) == pytest.approx(total / 8, rel=1e-4)


def test_no_gradient_reaches_the_keys() -> None:
    """The gradient of either side is that of its own search alone."""
    torch.manual_seed(0)
    vectors = [torch.randn(4, 3, requires_grad=True) for _ in range(2)]
    appearance_loss(*vectors).backward()
    for queries, keys in (vectors, vectors[::-1]):
        again = queries.detach().requires_grad_()
        cosines = torch.cosine_similarity(again[:, None], keys.detach()[None], dim=-1)
        (torch.nn.functional.cross_entropy(cosines / 0.1, torch.arange(4)) / 2).backward()
        torch.testing.assert_close(queries.grad, again.grad)


def test_it_learns_what_clip_and_frame_share() -> None:
    """Features of one kind a clip, at places that differ between clip and frame: found on clips never trained on."""
    torch.manual_seed(0)
    network = Appearance(8, 6)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        kinds = torch.randn(count, 8, 1)
        both = torch.zeros(2, count, 8, 16)
        for features in both:
            for row in range(count):
                features[row, :, torch.randperm(16)[:4]] = kinds[row]
        clips, frames = both.unflatten(-1, (4, 4))
        return clips, frames

    def found(count: int = 64) -> float:
        with torch.no_grad():
            clips, frames = (torch.nn.functional.normalize(network(each), dim=1) for each in draw(count))
        return float(((clips @ frames.T).argmax(dim=1) == torch.arange(count)).float().mean())

    before = found()
    for _ in range(100):
        loss = appearance_loss(*map(network, draw(32)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found() > max(0.8, before + 0.2)
