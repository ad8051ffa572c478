"""Frames to features and back: shapes, what a frame depends on, the squared error."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch

from kineme.models.frame_autoencoder import (
    FrameDecoder,
    FrameEncoder,
    Reduction,
    check_frame_size,
    residual_block,
    squared_error,
)


@pytest.mark.parametrize(("size", "features", "channels"), [(16, 4, 3), (24, 6, 1), (64, 64, 3), (96, 5, 3)])
@pytest.mark.parametrize("reduction", get_args(Reduction))
def test_a_frame_shrinks_and_comes_back(size: int, features: int, channels: int, reduction: Reduction) -> None:
    frames = torch.rand(2, channels, size, size)
    encoded = FrameEncoder(features, channels, reduction)(frames)
    assert encoded.shape == (2, features, size // reduction, size // reduction)
    assert FrameDecoder(features, channels, reduction)(encoded).shape == frames.shape


def test_there_are_four_residual_blocks_and_their_mirror() -> None:
    encoder, decoder = FrameEncoder(16), FrameDecoder(16)
    assert [block.conv1.out_channels for block in encoder] == [4, 8, 16, 16]
    blocks = [part for part in decoder if hasattr(part, "conv1")]
    assert [block.conv2.out_channels for block in blocks] == [16, 16, 8, 4]


def test_a_frame_is_treated_alike_whatever_it_comes_with() -> None:
    """Alone, among others, in training and in evaluation."""
    torch.manual_seed(0)
    frames = torch.rand(5, 3, 16, 16)
    for network in (FrameEncoder(8), torch.nn.Sequential(FrameEncoder(8), FrameDecoder(8))):
        together = network(frames)
        torch.testing.assert_close(network.eval()(frames[2:3]), together[2:3])


def test_frames_are_drawn_without_bounds() -> None:
    """The last layer is linear: what it is given doubled, it draws doubled."""
    decoder = FrameDecoder(8)
    last = decoder[-1]
    hidden = torch.randn(1, 2, 16, 16)
    torch.nn.init.zeros_(last.bias)
    torch.testing.assert_close(last(10 * hidden), 10 * last(hidden))
    assert last(100 * hidden).min() < 0
    assert last(100 * hidden).max() > 1


def test_the_shortcut_of_a_residual_block() -> None:
    """With a last norm of zero weight, the block is its shortcut and a ReLU."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    same, other = residual_block(8, 8), residual_block(8, 16, stride=2)
    for block in (same, other):
        torch.nn.init.zeros_(block.bn2.weight)
    torch.testing.assert_close(same(x), x.relu())
    convolution, norm = other.downsample
    torch.testing.assert_close(other(x), norm(convolution(x)).relu())
    assert other(x).shape == (2, 16, 3, 3)


def test_the_gradient_of_the_shortcut_of_frames_laid_out_as_channels_last() -> None:
    """oneDNN writes past its buffer there with AVX2: it gave wrong gradients, or the process died."""
    torch.manual_seed(0)
    shortcut = residual_block(3, 8, stride=2).downsample[0]
    frames = torch.rand(16, 3, 32, 32)
    shortcut(frames.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    weight = shortcut.weight.detach().clone().requires_grad_()
    torch.einsum("nchw,dc->ndhw", frames[..., ::2, ::2], weight[..., 0, 0]).square().sum().backward()
    torch.testing.assert_close(shortcut.weight.grad, weight.grad, rtol=1e-4, atol=1e-2)


def test_squared_error_against_loops() -> None:
    torch.manual_seed(0)
    drawn, frames = torch.randn(2, 3, 3, 4, 5), torch.randn(2, 3, 3, 4, 5)
    total = 0.0
    for b, t, c, y, x in itertools.product(*map(range, frames.shape)):
        total += (float(drawn[b, t, c, y, x]) - float(frames[b, t, c, y, x])) ** 2
    assert float(squared_error(drawn, frames)) == pytest.approx(total / (2 * 3), rel=1e-5)
    assert float(squared_error(drawn[:, 0], drawn[:, 0])) == 0


def test_squared_error_of_low_precision_is_summed_in_high() -> None:
    """A sum of 12288 ones is 12288; bf16 counts to 256."""
    ones = torch.ones(1, 3, 64, 64)
    error = squared_error(ones.bfloat16(), torch.zeros_like(ones).bfloat16())
    assert error.dtype == torch.float32
    assert float(error) == 3 * 64 * 64


@pytest.mark.parametrize(("size", "nearest"), [(8, 16), (20, 16), (63, 64), (100, 96), (0, 16)])
def test_a_size_that_cannot_be_halved_three_times(size: int, nearest: int) -> None:
    with pytest.raises(ValueError, match=f"^frame_size is {size}: it must be a multiple of 8, such as {nearest}$"):
        check_frame_size(size)
    check_frame_size(nearest)


def test_too_few_features() -> None:
    for network in (FrameEncoder, FrameDecoder):
        with pytest.raises(ValueError, match="latent_channels is 3: at least 4"):
            network(3)
