"""The frame autoencoder and the predictor against torch's own LSTM."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kineme.models.frame_dynamics import DynamicsPredictor, FrameAutoencoder


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (24, 1), (64, 3)])
def test_frames_become_a_vector_and_come_back(size: int, channels: int) -> None:
    model = FrameAutoencoder(size, latent_channels=8, frame_dim=5, channels=channels)
    frames, statics = torch.rand(3, channels, size, size), torch.randn(3, 8, size // 8, size // 8)
    p = model.encode(frames, statics)
    assert p.shape == (3, 5)
    assert model.decode(p, statics).shape == frames.shape


def test_both_ways_are_told_the_statics() -> None:
    model = FrameAutoencoder(16, latent_channels=8, frame_dim=5)
    frames, (one, other) = torch.rand(3, 3, 16, 16), torch.randn(2, 3, 8, 2, 2)
    p = model.encode(frames, one)
    assert not torch.allclose(p, model.encode(frames, other), atol=1e-3)
    assert not torch.allclose(p, model.encode(frames.flip(0), one), atol=1e-3)
    drawn = model.decode(p, one)
    assert not torch.allclose(drawn, model.decode(p, other), atol=1e-3)
    assert not torch.allclose(drawn, model.decode(p.flip(0), one), atol=1e-3)


def test_a_frame_is_by_itself() -> None:
    model = FrameAutoencoder(16, latent_channels=8, frame_dim=5)
    frames, statics = torch.rand(4, 3, 16, 16), torch.randn(4, 8, 2, 2)
    p = model.encode(frames, statics)
    torch.testing.assert_close(model.eval().encode(frames[1:2], statics[1:2]), p[1:2])


def slow_prediction(predictor: DynamicsPredictor, first: Tensor, dynamics: Tensor, steps: int) -> Tensor:
    """p_1 and P, then the prediction before and P, through an LSTM of torch with the same weights, one clip a time."""
    frame_dim, hidden = first.shape[1], predictor.cell.hidden_size
    lstm = nn.LSTM(frame_dim + dynamics.shape[1], hidden, num_layers=1, batch_first=True)
    lstm.load_state_dict({f"{name}_l0": value for name, value in predictor.cell.state_dict().items()})
    clips = []
    for p, whole in zip(first, dynamics, strict=True):
        state = (torch.zeros(1, 1, hidden), torch.zeros(1, 1, hidden))
        predicted = []
        for _ in range(steps):
            output, state = lstm(torch.cat([p, whole])[None, None], state)
            p = predictor.to_p.weight @ output[0, 0] + predictor.to_p.bias
            predicted.append(p)
        clips.append(torch.stack(predicted))
    return torch.stack(clips)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_predictor_against_an_lstm(steps: int) -> None:
    predictor = DynamicsPredictor(frame_dim=4, dynamics_dim=6, hidden_dim=9)
    first, dynamics = torch.randn(3, 4), torch.randn(3, 6)
    predicted = predictor(first, dynamics, steps)
    assert predicted.shape == (3, steps, 4)
    torch.testing.assert_close(predicted, slow_prediction(predictor, first, dynamics, steps))


def test_gradients_go_through_time() -> None:
    """Into P and p_1 from the last prediction alone, and as the reference has them."""
    predictor = DynamicsPredictor(frame_dim=4, dynamics_dim=6, hidden_dim=9)
    gradients = []
    for predict in (predictor, lambda *inputs: slow_prediction(predictor, *inputs)):
        torch.manual_seed(1)
        first, dynamics = torch.randn(3, 4, requires_grad=True), torch.randn(3, 6, requires_grad=True)
        gradients.append(torch.autograd.grad(predict(first, dynamics, 5)[:, -1].square().sum(), [first, dynamics]))
    for own, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(own, expected)
        assert own.abs().max() > 1e-6
