"""The classifiers on S and P, and the video encoder as one, against what they should compute written out here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from kineme.models.classifiers import AttentiveLinear, Standardise, VideoClassifier
from kineme.models.statics_dynamics import StaticsDynamics, StaticsDynamicsConfig

SMALL = StaticsDynamicsConfig(
    frame_size=16, clip_frames=4, width=2, latent_channels=4, blocks=2, dynamics_dim=6, frame_dim=3, hidden_dim=8
)


def numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def slow_attentive(model: AttentiveLinear, s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, float]:
    """One clip, by the words of 7.5.3."""
    weight = {name: numbers(parameter) for name, parameter in model.named_parameters()}
    g_s = weight["statics.weight"] @ s + weight["statics.bias"]
    g_p = weight["dynamics.weight"] @ p + weight["dynamics.bias"]
    score = weight["attention.weight"][0] @ np.concatenate([g_s, g_p]) + weight["attention.bias"][0]
    a = 1 / (1 + np.exp(-score))
    return weight["classes.weight"] @ np.concatenate([a * g_s, (1 - a) * g_p]) + weight["classes.bias"], a


def test_attention_by_the_words_of_the_thesis() -> None:
    torch.manual_seed(0)
    model = AttentiveLinear(7, 5, 3, 4)
    statics, dynamics = torch.randn(6, 7), torch.randn(6, 5)
    logits, a = model(statics, dynamics)
    for row in range(6):
        expected, share = slow_attentive(model, numbers(statics[row]), numbers(dynamics[row]))
        np.testing.assert_allclose(numbers(logits[row]), expected, rtol=1e-4, atol=1e-5)
        assert a[row].item() == pytest.approx(share, rel=1e-5)
    assert a.std() > 0.01, "every clip has its own"


@pytest.mark.parametrize(("constant", "seen", "unseen"), [(1.0, 0, 1), (0.0, 1, 0)])
def test_constant_attention_sees_one_of_the_two(constant: float, seen: int, unseen: int) -> None:
    torch.manual_seed(0)
    model = AttentiveLinear(7, 5, 3, 4, attention=constant)
    inputs = [torch.randn(6, 7, requires_grad=True), torch.randn(6, 5, requires_grad=True)]
    logits, a = model(*inputs)
    assert a.tolist() == [constant] * 6
    logits.square().sum().backward()
    assert inputs[seen].grad is not None
    assert inputs[unseen].grad is not None
    assert inputs[seen].grad.abs().min() > 0
    assert inputs[unseen].grad.abs().max() == 0


def test_attention_is_learned_and_in_range() -> None:
    torch.manual_seed(0)
    model = AttentiveLinear(7, 5, 3, 4)
    logits, a = model(100 * torch.randn(50, 7), torch.randn(50, 5))
    assert ((a >= 0) & (a <= 1)).all()
    logits.logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with pytest.raises(ValueError, match=r"attention is 2.*\[0, 1\]"):
        AttentiveLinear(7, 5, 3, 4, attention=2)


def test_an_encoder_becomes_a_classifier_with_average_pooling() -> None:
    torch.manual_seed(0)
    pretrained = StaticsDynamics(SMALL).video_encoder
    classifier = VideoClassifier(SMALL, 3, pretrained).eval()
    pretrained.eval()
    frames = torch.rand(2, 4, 3, 16, 16)
    seen: list[Tensor] = []
    hook = pretrained.fourth.register_forward_hook(lambda module, given, stage: seen.append(stage))
    pretrained(frames)
    hook.remove()
    layer = next(module for module in classifier.encoder.dynamics.modules() if isinstance(module, torch.nn.Linear))
    expected = seen[0].flatten(2).mean(dim=2) @ layer.weight.T + layer.bias
    torch.testing.assert_close(classifier(frames), expected)


def test_the_encoder_given_is_copied_and_the_head_is_the_same_from_any_start() -> None:
    encoder = StaticsDynamics(SMALL).video_encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(5)
    scratch = VideoClassifier(SMALL, 3)
    torch.manual_seed(5)
    classifier = VideoClassifier(SMALL, 3, encoder)
    own = classifier.state_dict()
    for name, value in scratch.state_dict().items():
        if ".dynamics." in name:
            torch.testing.assert_close(own[name], value)
        else:
            torch.testing.assert_close(own[name], before[name.removeprefix("encoder.")])
    classifier.train()(torch.rand(2, 4, 3, 16, 16)).square().sum().backward()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter += 1
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name])


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float16, st.tuples(st.integers(2, 30), st.integers(1, 4)), elements=st.floats(-100, 100, width=16)),
    st.integers(1, 5),
)
def test_standardised_rows_in_any_parts(rows: np.ndarray, parts: int) -> None:
    features = torch.from_numpy(rows)
    standard = Standardise.by(part for part in features.tensor_split(parts) if len(part))
    found = numbers(standard(features))
    exact = rows.astype(np.float64)
    scale = exact.std(axis=0)
    clear = scale > 1e-2 * (1e-6 + np.abs(exact).max(axis=0))
    expected = (exact - exact.mean(axis=0)) / np.where(clear, scale, 1)
    np.testing.assert_allclose(found[:, clear], expected[:, clear], atol=1e-3)
    assert np.isfinite(found).all()


def test_what_never_varies_becomes_nothing() -> None:
    features = torch.tensor([[0.1, 3.0], [0.1, 5.0], [0.1, 4.0]])
    found = Standardise.by([features])(torch.tensor([[7.0, 4.0]]))
    assert found.tolist() == [[0.0, 0.0]]
