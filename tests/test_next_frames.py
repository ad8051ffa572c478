"""Running a predictor: what it is handed, frame by frame, and that nothing grows."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from kineme.models.compiled_predictor import CompiledPredictor
from kineme.models.frame_predictor import FramePredictor, FramePredictorConfig
from kineme.models.kernel_predictor import KernelPredictor, KernelPredictorConfig
from kineme.models.next_frames import NextFramePredictor, predict, rollout


@dataclass
class Adder:
    """Adds condition and noise to the frame before it; its state is that frame."""

    frame_shape: tuple[int, int, int] = (1, 2, 2)
    condition_dim: int = 1
    noise_dim: int = 1
    begun: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def begin(self, frames: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        self.begun.append((condition, noise))
        return frames[:, -1]

    def advance(self, state: Tensor, condition: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        frame = state + (condition + noise)[:, :, None, None]
        return frame, frame


def cvae() -> FramePredictor:
    torch.manual_seed(0)
    return FramePredictor(
        FramePredictorConfig(frame_size=32, width=2, feature_dim=4, hidden_dim=4, latent_dim=2, learned_prior=True)
    )


def kernels() -> KernelPredictor:
    torch.manual_seed(0)
    return KernelPredictor(KernelPredictorConfig(frame_size=16, width=2, kernels=2, reach=2))


def kernels_with_z() -> KernelPredictor:
    torch.manual_seed(0)
    return KernelPredictor(KernelPredictorConfig(frame_size=16, width=2, kernels=2, reach=2, latent_dim=2))


def test_each_frame_gets_its_condition_and_noise() -> None:
    model, context = Adder(), torch.rand(2, 3, 1, 2, 2)
    condition, noise = torch.rand(2, 7, 1), torch.rand(2, 6, 1)
    drawn = predict(model, context, 4, condition, noise=noise)
    ((seen, behind),) = model.begun
    assert torch.equal(seen, condition[:, :3])
    assert torch.equal(behind, noise[:, :2])
    expected = context[:, -1]
    for t in range(3, 7):
        expected = expected + (condition[:, t] + noise[:, t - 1])[:, :, None, None]
        torch.testing.assert_close(drawn[:, t - 3], expected)


def test_noise_is_standard_normal() -> None:
    model, context, condition = Adder(), torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 4001, 1)
    torch.manual_seed(0)
    steps = predict(model, context, 4000, condition)[0, :, 0, 0, 0].diff()
    assert steps.mean().abs() < 0.05
    assert steps.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("make", [cvae, kernels, kernels_with_z])
def test_the_same_seed_draws_the_same_frames_however_many(make: type) -> None:
    model: NextFramePredictor = make()
    context = torch.rand(2, 2, *model.frame_shape)
    torch.manual_seed(3)
    few = predict(model, context, 3)
    torch.manual_seed(3)
    assert torch.equal(predict(model, context, 6)[:, :3], few)


@pytest.mark.parametrize("make", [cvae, kernels, kernels_with_z])
def test_a_compiled_step_draws_the_same(make: type) -> None:
    model: NextFramePredictor = make()
    context, noise = torch.rand(2, 2, *model.frame_shape), torch.randn(2, 5, model.noise_dim)
    # As torch traces it, without the minutes that its compiler takes.
    compiled = CompiledPredictor(model, backend="eager")
    assert compiled.frame_shape == model.frame_shape
    assert (compiled.condition_dim, compiled.noise_dim) == (model.condition_dim, model.noise_dim)
    with torch.inference_mode():
        torch.testing.assert_close(predict(compiled, context, 4, noise=noise), predict(model, context, 4, noise=noise))


@pytest.mark.parametrize("make", [cvae, kernels, kernels_with_z])
def test_what_is_kept_does_not_grow(make: type) -> None:
    model: NextFramePredictor = make()
    no_condition = torch.empty(1, 2, 0)
    with torch.inference_mode():
        state = model.begin(torch.rand(1, 2, *model.frame_shape), no_condition, torch.randn(1, 1, model.noise_dim))
        sizes = []
        for _ in range(30):
            _, state = model.advance(state, no_condition[:, 0], torch.randn(1, model.noise_dim))
            sizes.append(sum(tensor.numel() for tensor in tree_leaves(state) if tensor is not None))
    assert set(sizes) == {sizes[0]}


def test_what_is_wrong_is_said_at_the_call() -> None:
    with pytest.raises(ValueError, match="horizon is 0"):
        rollout(Adder(), torch.rand(1, 2, 1, 2, 2), 0, torch.rand(1, 2, 1))
    with pytest.raises(ValueError, match=r"condition is of shape \(1, 3, 1\).*\(1, 4, 1\)"):
        rollout(Adder(), torch.rand(1, 2, 1, 2, 2), 2, torch.rand(1, 3, 1))
    with pytest.raises(ValueError, match=r"noise is \(1, 2, 1\).*\(1, 3, 1\)"):
        rollout(Adder(), torch.rand(1, 2, 1, 2, 2), 2, torch.rand(1, 4, 1), noise=torch.rand(1, 2, 1))
