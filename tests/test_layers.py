"""The VGG encoder and its mirror."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kineme.models.frame_predictor import (
    FramePredictor,
    FramePredictorConfig,
)
from kineme.models.layers import VGGDecoder, VGGEncoder


@pytest.mark.parametrize(("frame_size", "width"), [(32, 4), (64, 3), (64, 8), (128, 4)])
def test_encoder_and_decoder_shapes(frame_size: int, width: int) -> None:
    encoder, decoder = VGGEncoder(frame_size, width, 10), VGGDecoder(frame_size, width, 10)
    features, skips = encoder(torch.rand(2, 3, frame_size, frame_size))
    assert features.shape == (2, 10)
    assert features.abs().max() <= 1
    expected = [(2, width * multiple, frame_size >> i, frame_size >> i) for i, multiple in enumerate((1, 2, 4, 8, 8))]
    assert [tuple(skip.shape) for skip in skips] == expected
    frame = decoder(features, skips)
    assert frame.shape == (2, 3, frame_size, frame_size)
    assert 0 <= frame.min() < frame.max() <= 1


def test_encoder_at_width_64_is_vgg16() -> None:
    encoder = VGGEncoder(64, 64, 128)
    convolutions = [
        (layer.in_channels, layer.out_channels) for layer in encoder.stages.modules() if isinstance(layer, nn.Conv2d)
    ]
    # torchvision.models.vgg.cfgs["D"]
    assert [out for _, out in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [before for before, _ in convolutions] == [3] + [out for _, out in convolutions[:-1]]


@pytest.mark.parametrize(("frame_size", "mend"), [(48, 64), (8, 32), (100, 96), (0, 32)])
def test_frame_size_must_survive_five_poolings(frame_size: int, mend: int) -> None:
    with pytest.raises(ValueError, match=f"frame_size is {frame_size}.*multiple of 32: use {mend}"):
        FramePredictor(FramePredictorConfig(frame_size=frame_size, width=4))
