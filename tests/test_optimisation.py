"""Learning rates and stages, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kineme.pipeline.errors import RunError
from kineme.pipeline.optimisation import Stage, check_stages, learning_rate, stage_at, stage_progress
from kineme.pipeline.recipe import OptimizerSection

DEFAULT = OptimizerSection()
THREE = (Stage("a", 0.25, DEFAULT), Stage("b", 0.5, DEFAULT), Stage("c", 1.0, DEFAULT))


def test_cosine_at_its_corners() -> None:
    o = OptimizerSection(lr=0.4, warmup_steps=10, final_lr_fraction=0.1)
    assert learning_rate(o, 0, 0.0) == pytest.approx(0.04)
    assert learning_rate(o, 9, 0.0) == learning_rate(o, 500, 0.0) == pytest.approx(0.4)
    assert learning_rate(o, 500, 0.5) == pytest.approx(0.4 * 0.55)
    assert learning_rate(o, 500, 1.0) == pytest.approx(0.04)
    assert learning_rate(OptimizerSection(lr=0.4, warmup_steps=0), 0, 0.0) == pytest.approx(0.4)


def test_halved_every_50_of_250_epochs() -> None:
    """As thesis 7.B says it: epoch by epoch, with a counter."""
    o = OptimizerSection(lr=0.005, warmup_steps=0, decay="halving", halvings=5)
    rate = 0.005
    for epoch in range(250):
        if epoch and epoch % 50 == 0:
            rate /= 2
        # A hair into the epoch: at its very start, rounding decides.
        assert learning_rate(o, epoch, (epoch + 1e-6) / 250) == pytest.approx(rate)
    assert rate == pytest.approx(0.005 / 16)
    assert learning_rate(o, 250, 1.0) == pytest.approx(rate)


def test_halving_warms_up_too() -> None:
    o = OptimizerSection(lr=1.0, warmup_steps=4, decay="halving", halvings=2)
    assert [learning_rate(o, step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate(o, 1, 0.5) == 0.25


@given(st.integers(1, 20), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["cosine", "halving"]))
def test_after_the_warm_up_the_rate_only_falls(halvings: int, one: float, other: float, decay: str) -> None:
    o = OptimizerSection(lr=1.0, warmup_steps=0, decay=decay, halvings=halvings)  # type: ignore[arg-type]
    earlier, later = (learning_rate(o, 0, progress) for progress in sorted([one, other]))
    assert 0 < later <= earlier <= 1


def test_an_end_belongs_to_the_next_stage() -> None:
    at = {0.0: 0, 0.24: 0, 0.25: 1, 0.49: 1, 0.5: 2, 0.99: 2, 1.0: 2}
    assert {progress: stage_at(THREE, progress) for progress in at} == at


def test_progress_within_a_stage() -> None:
    assert [stage_progress(THREE, 0, p) for p in (0.0, 0.125, 0.25)] == [0.0, 0.5, 1.0]
    assert [stage_progress(THREE, 1, p) for p in (0.25, 0.375, 0.5)] == [0.0, 0.5, 1.0]
    assert [stage_progress(THREE, 2, p) for p in (0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0]
    # A clock may run past an end before the stage changes.
    assert stage_progress(THREE, 0, 0.3) == 1.0


@pytest.mark.parametrize("ends", [(), (0.5,), (0.5, 0.5, 1.0), (0.6, 0.4, 1.0), (0.0, 1.0), (-0.1, 1.0), (0.5, 1.5)])
def test_stages_that_do_not_follow_one_another(ends: tuple[float, ...]) -> None:
    with pytest.raises(RunError, match="stages end one after the other") as error:
        check_stages([Stage(f"s{end}", end, DEFAULT) for end in ends])
    assert "\n" not in str(error.value)


def test_adam_leaves_alone_what_has_no_gradient() -> None:
    """What the stages rest on: neither weight decay by moments nor steps for frozen parameters."""
    used, frozen = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    adam = torch.optim.Adam([used, frozen])
    (used + frozen).sum().backward()
    adam.step()
    moved = frozen.detach().clone()
    for _ in range(3):
        adam.zero_grad()
        used.sum().backward()
        adam.step()
    assert torch.equal(frozen, moved)
    assert int(adam.state[frozen]["step"]) == 1
    assert int(adam.state[used]["step"]) == 4
