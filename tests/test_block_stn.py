"""The block transformer against a warp written out in loops, and objective 7.2."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kineme.models.block_stn import BlockSTN, Transformer, transformer_loss

IDENTITY = torch.tensor([[1.0, 0, 0], [0, 1, 0]])


def slow_warp(features: Tensor, maps: Tensor, blocks: int) -> Tensor:
    """Each place asks its map where it comes from, and mixes the four features around there; outside is zero."""
    n, channels, h, w = features.shape
    warped = torch.zeros_like(features)
    for i, c, y, x in itertools.product(range(n), range(channels), range(h), range(w)):
        (a, b, e), (d, g, f) = maps[i, c // (channels // blocks)].tolist()
        u, v = (2 * x + 1) / w - 1, (2 * y + 1) / h - 1
        column, row = ((a * u + b * v + e + 1) * w - 1) / 2, ((d * u + g * v + f + 1) * h - 1) / 2
        value = 0.0
        top, left = math.floor(row), math.floor(column)
        for near_y, near_x in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= near_y < h and 0 <= near_x < w:
                weight = (1 - abs(row - near_y)) * (1 - abs(column - near_x))
                value += weight * float(features[i, c, near_y, near_x])
        warped[i, c, y, x] = value
    return warped


def slow_squared_error(drawn: Tensor, frame: Tensor) -> float:
    pixels = itertools.product(*map(range, frame.shape))
    return sum((float(drawn[c, y, x]) - float(frame[c, y, x])) ** 2 for c, y, x in pixels)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(2, 6))
def test_warp_against_loops(seed: int, n: int, blocks: int, width: int, size: int) -> None:
    torch.manual_seed(seed)
    features = torch.randn(n, blocks * width, size, size)
    maps = IDENTITY + 0.7 * torch.randn(n, blocks, 2, 3)
    warped = BlockSTN(blocks * width, size, blocks).warp(features, maps)
    torch.testing.assert_close(warped, slow_warp(features, maps, blocks), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [2, 3, 8, 12, 16])
def test_it_starts_as_the_identity(size: int) -> None:
    torch.manual_seed(0)
    stn = BlockSTN(8, size, blocks=4)
    source, target = torch.randn(3, 8, size, size), torch.randn(3, 8, size, size)
    maps = stn(source, target)
    assert maps.shape == (3, 4, 2, 3)
    assert torch.equal(maps, IDENTITY.expand_as(maps))
    torch.testing.assert_close(stn.warp(source, maps), source, atol=1e-5, rtol=1e-5)


def test_a_transformer_starts_by_matching_nothing() -> None:
    torch.manual_seed(0)
    transformer = Transformer(24, 6, blocks=3)
    frames = torch.rand(2, 3, 24, 24)
    features = transformer.encode(frames)
    assert features.shape == (2, 6, 3, 3)
    torch.testing.assert_close(transformer.match(features, features.flip(0)), features, atol=1e-5, rtol=1e-5)


def test_a_block_moves_alone_and_x_comes_before_y() -> None:
    """From places in the target to places in the source: +1 cell in the map brings what is to the right."""
    torch.manual_seed(0)
    features = torch.randn(2, 6, 8, 8)
    maps = IDENTITY.repeat(2, 3, 1, 1)
    maps[:, 1, 0, 2] = 2 / 8
    maps[1, 2, 1, 2] = -2 * 2 / 8
    warped = BlockSTN(6, 8, blocks=3).warp(features, maps)
    expected = features.clone()
    expected[:, 2:4, :, :-1] = features[:, 2:4, :, 1:]
    expected[:, 2:4, :, -1] = 0
    expected[1, 4:, 2:] = features[1, 4:, :-2]
    expected[1, 4:, :2] = 0
    torch.testing.assert_close(warped, expected, atol=1e-5, rtol=1e-5)


def test_it_learns_how_each_block_has_moved() -> None:
    """Blocks of soft blobs shifted by a cell to either side, each its own way."""
    torch.manual_seed(0)
    stn = BlockSTN(2, 8, blocks=2, hidden=8)
    optimizer = torch.optim.Adam(stn.parameters(), lr=0.01)
    places = torch.arange(8.0)

    def blobs(centres: Tensor) -> Tensor:
        y, x = (torch.exp(-((places - centre[..., None]) ** 2) / 4) for centre in centres.unbind(-1))
        return y[..., :, None] * x[..., None, :]

    for _ in range(250):
        centres, shifts = 2.5 + 2 * torch.rand(32, 2, 2), torch.randint(-1, 2, (32, 2, 2)).float()
        source, target = blobs(centres), blobs(centres + shifts)
        maps = stn(source, target)
        loss = (stn.warp(source, maps) - target).square().sum((1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # The source lies where the target came from, y before x in `shifts`.
    centre_of_map = maps[..., 2].flip(-1) * 4
    for block in range(2):
        for axis in range(2):
            moved = torch.corrcoef(torch.stack([centre_of_map[:, block, axis], -shifts[:, block, axis]]))[0, 1]
            other = torch.corrcoef(torch.stack([centre_of_map[:, block, axis], -shifts[:, 1 - block, axis]]))[0, 1]
            assert moved > 0.8
            assert abs(other) < 0.5


def test_the_maps_depend_on_both() -> None:
    torch.manual_seed(0)
    stn = BlockSTN(4, 8, blocks=2)
    for localiser in stn.localisers:
        torch.nn.init.normal_(localiser[-1].weight, std=0.1)
    one, other, third = torch.randn(3, 1, 4, 8, 8)
    maps = stn(one, other)
    assert not torch.allclose(maps, stn(other, one))
    assert not torch.allclose(maps, stn(one, third))
    assert not torch.allclose(maps[:, 0], maps[:, 1])


def test_maps_keep_their_precision_under_autocast() -> None:
    """Near the identity bf16 knows steps of 1/128."""
    stn = BlockSTN(channels=4, size=4, blocks=2)
    for localise in stn.localisers:
        localise[-1].bias.data += 1 / 300  # type: ignore[index]
    source, target = torch.rand(2, 3, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = stn(source, target)
    assert maps.dtype == torch.float32
    assert torch.equal(maps, stn(source, target))


def test_places_keep_their_precision_under_autocast() -> None:
    torch.manual_seed(0)
    stn = BlockSTN(4, 12, blocks=2)
    features, maps = torch.randn(2, 4, 12, 12), IDENTITY + 0.3 * torch.randn(2, 2, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        warped = stn.warp(features, maps)
    assert torch.equal(warped, stn.warp(features, maps))


def test_objective_7_2_against_loops() -> None:
    torch.manual_seed(0)
    transformer = Transformer(16, 8, blocks=2)
    for localiser in transformer.stn.localisers:
        torch.nn.init.normal_(localiser[-1].weight, std=0.05)
    source, target = torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16)
    frame_error = warp_error = 0.0
    with torch.no_grad():
        for x_i, x_j in zip(source, target, strict=True):
            s_i, s_j = transformer.encode(x_i[None]), transformer.encode(x_j[None])
            moved = slow_warp(s_i, transformer.stn(s_i, s_j), 2)
            frame_error += slow_squared_error(transformer.decode(s_i)[0], x_i) / 3
            warp_error += slow_squared_error(transformer.decode(moved)[0], x_j) / 3
    parts = transformer_loss(transformer, source, target, reconstruction=0.3, transformation=0.7)
    assert float(parts["reconstruction_error"].detach()) == pytest.approx(frame_error, rel=1e-4)
    assert float(parts["warp_error"].detach()) == pytest.approx(warp_error, rel=1e-4)
    assert float(parts["loss"].detach()) == pytest.approx(0.3 * frame_error + 0.7 * warp_error, rel=1e-4)


def test_7_2_trains_every_part_of_the_transformer() -> None:
    torch.manual_seed(0)
    transformer = Transformer(16, 8, blocks=2)
    for localiser in transformer.stn.localisers:
        torch.nn.init.normal_(localiser[-1].weight, std=0.05)
    transformer_loss(transformer, torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16))["loss"].backward()
    for name, parameter in transformer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_blocks_that_do_not_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"^blocks is 3: latent_channels \(8\) must be a multiple of it$"):
        BlockSTN(8, 4, blocks=3)
