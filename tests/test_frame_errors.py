"""PSNR in two conventions, SSIM, squared and absolute error, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from frame_references import SLOW, random_frames

from kineme.pipeline.frame_errors import mae, mse, psnr, psnr_channelwise, ssim
from kineme.pipeline.protocols.prediction import MEASURES


@pytest.mark.parametrize("name", SLOW)
def test_errors_against_slow_references(name: str) -> None:
    truth = random_frames(2, 3, 3, 12, 14)
    # From hardly off to something else.
    drawn = truth + torch.linspace(0.02, 1, 6).view(2, 3, 1, 1, 1) * (random_frames(2, 3, 3, 12, 14, seed=1) - truth)
    values = MEASURES[name](drawn, truth)
    assert values.shape == (2, 3)
    for b in range(2):
        for t in range(3):
            expected = SLOW[name](drawn[b, t].double().numpy(), truth[b, t].double().numpy())
            assert values[b, t].item() == pytest.approx(expected, rel=1e-4)


def test_equal_frames() -> None:
    truth = random_frames(2, 3, 3, 16, 16)
    assert torch.equal(psnr(truth, truth), torch.full((2, 3), 100.0))
    torch.testing.assert_close(ssim(truth, truth), torch.ones(2, 3))
    assert mse(truth, truth).abs().max() == mae(truth, truth).abs().max() == 0
    off = truth.clone()
    off[1, 2] += 0.1
    assert psnr(off, truth)[1, 2].item() == pytest.approx(20, abs=1e-3)
    assert (psnr(off, truth) == 100).sum() == 5


def test_the_two_conventions_of_psnr_differ_where_the_channels_do() -> None:
    truth = torch.zeros(1, 1, 3, 4, 4)
    drawn = truth.clone()
    drawn[:, :, 0], drawn[:, :, 1:] = 0.1, 0.01
    assert psnr_channelwise(drawn, truth).item() == pytest.approx((20 + 40 + 40) / 3, abs=1e-3)
    assert psnr(drawn, truth).item() == pytest.approx(10 * math.log10(3 / (0.01 + 2 * 0.0001)), abs=1e-3)


def test_grey_frames_in_three_channels_have_the_errors_of_one() -> None:
    drawn, truth = random_frames(2, 3, 1, 12, 12), random_frames(2, 3, 1, 12, 12, seed=1)
    for measure in MEASURES.values():
        torch.testing.assert_close(
            measure(drawn.expand(-1, -1, 3, -1, -1), truth.expand(-1, -1, 3, -1, -1)), measure(drawn, truth)
        )
