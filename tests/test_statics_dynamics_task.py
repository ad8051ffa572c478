"""The statics/dynamics task: what each stage and each part of its loss trains, and on which frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import STATICS_DYNAMICS, make_recipe
from torch import Tensor

from kineme.models.contrastive import contrastive_loss
from kineme.models.motion_layers import motion_loss
from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import StaticsDynamicsRecipe
from kineme.pipeline.tasks import TrainingClips
from kineme.pipeline.tasks.statics_dynamics import StaticsDynamicsTask

SMALL = ("model.frame_size=16", "model.width=2")
FIRST, SECOND = 0.2, 0.8
"""Progress in the first stage and in the second."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., StaticsDynamicsTask]:
    def make(*settings: str) -> StaticsDynamicsTask:
        recipe = make_recipe(STATICS_DYNAMICS, tmp_path, *SMALL, *settings)
        assert isinstance(recipe, StaticsDynamicsRecipe)
        return StaticsDynamicsTask(recipe)

    return make


def some_clips(count: int = 3, frames: int = 6) -> TrainingClips:
    return TrainingClips(torch.rand(count, frames, 3, 16, 16), None, None, [])


def numbered_clips(frames: int) -> TrainingClips:
    """Every pixel of a frame is its number."""
    numbers = torch.arange(float(frames)).view(1, -1, 1, 1, 1)
    return TrainingClips(numbers.expand(2, -1, 3, 16, 16), None, None, [])


def reached(task: StaticsDynamicsTask, loss: Tensor) -> set[str]:
    task.model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {name for name, parameter in task.model.named_parameters() if parameter.grad is not None}


def parameters_of(task: StaticsDynamicsTask, *parts: str) -> set[str]:
    names = {n for n, _ in task.model.named_parameters() if n.startswith(tuple(f"{part}." for part in parts))}
    assert names
    return names


SHARED = tuple(f"video_encoder.{part}" for part in ("stem", "first", "second", "third"))
TO_S = (*SHARED, "video_encoder.statics")
TO_P = (*SHARED, "video_encoder.fourth", "video_encoder.dynamics")


def test_each_stage_trains_its_own(make_task: Callable[..., StaticsDynamicsTask]) -> None:
    task = make_task()
    transformer = parameters_of(task, "transformer")
    assert [(stage.name, stage.end) for stage in task.stages] == [("transformer", 0.5), ("video", 1.0)]
    assert reached(task, task.losses(some_clips(), FIRST)["loss"]) == transformer
    rest = {name for name, _ in task.model.named_parameters()} - transformer
    assert reached(task, task.losses(some_clips(), SECOND)["loss"]) == rest


@pytest.mark.parametrize(
    ("part", "trained"),
    [
        ("statics_error", TO_S),
        ("closeness", TO_S),
        ("frame_error", ("frame_model",)),
        ("prediction", (*TO_P, "predictor")),
        ("motion", (*TO_P, "motion_layers")),
        ("appearance", (*TO_S, "to_appearance")),
    ],
)
def test_each_part_reaches_what_it_may(
    part: str, trained: tuple[str, ...], make_task: Callable[..., StaticsDynamicsTask]
) -> None:
    """7.4.1: S is constant for the frame model, p for the contrastive objective, the transformer for all."""
    task = make_task()
    parts = task.losses(some_clips(), SECOND)
    expected = parameters_of(task, *trained)
    assert reached(task, parts[part]) == expected
    for name, parameter in task.model.named_parameters():
        if name in expected and parameter.dim() > 1:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("negatives", ["all", "video"])
@pytest.mark.parametrize("targets", ["states", "changes"])
def test_the_loss_is_the_weighted_sum(
    targets: str, negatives: str, make_task: Callable[..., StaticsDynamicsTask]
) -> None:
    weights = {
        "statics": 0.5,
        "closeness": 0.25,
        "frame": 2.0,
        "prediction.coefficient": 3.0,
        "motion.coefficient": 5,
        "appearance.coefficient": 7,
    }
    how = {"negatives": negatives, "similarity": "cosine", "temperature": 0.5, "reduction": "mean"}
    prediction = {"targets": targets, **how}
    task = make_task(
        "data.clip_frames=5",
        *(f"objective.{name}={value}" for name, value in weights.items()),
        *(f"objective.prediction.{name}={value}" for name, value in prediction.items()),
    )
    clips = some_clips(frames=5)
    parts = {name: value.detach() for name, value in task.losses(clips, SECOND).items()}
    names = ("statics_error", "closeness", "frame_error", "prediction", "motion", "appearance")
    expected = sum(weight * parts[name] for weight, name in zip(weights.values(), names, strict=True))
    torch.testing.assert_close(parts["loss"], torch.as_tensor(expected))
    # Batch norms depend on the batch alone, so a second pass is the same.
    with torch.no_grad():
        _, dynamics, p = task.model.encode(clips.frames)
        predicted = task.model.predictor(p[:, 0], dynamics, 4)
        true = p[:, 1:] - (p[:, :1] if targets == "changes" else 0)
        again = contrastive_loss(predicted, true, **how)  # type: ignore[arg-type]
    torch.testing.assert_close(parts["prediction"], again)


def test_parts_without_a_coefficient_are_left_out(make_task: Callable[..., StaticsDynamicsTask]) -> None:
    none = (
        "objective.closeness=0",
        "objective.frame=0",
        "objective.prediction.coefficient=0",
        "model.motion_layers=0",
        "model.appearance_dim=0",
    )
    parts = make_task(*none).losses(some_clips(), SECOND)
    assert {name for name in parts if "/" not in name} == {"loss", "statics_error"}
    torch.testing.assert_close(parts["loss"], parts["statics_error"])


def test_without_a_first_stage_the_rest_is_trained_at_once(make_task: Callable[..., StaticsDynamicsTask]) -> None:
    with pytest.raises(RunError, match=r"fraction is 0: the transformer would stay untrained"):
        make_task("objective.transformer.fraction=0")
    task = make_task("objective.transformer.fraction=0", "training.init=runs/another")
    assert [(stage.name, stage.end) for stage in task.stages] == [("video", 1.0)]
    assert "statics_error" in task.losses(some_clips(), 0.0)


def test_every_parameter_has_one_rate(make_task: Callable[..., StaticsDynamicsTask]) -> None:
    task = make_task("objective.transformer.localisation_lr=0.3")
    rates = {id(p): group["lr_scale"] for group in task.parameter_groups() for p in group["params"]}
    assert sum(len(group["params"]) for group in task.parameter_groups()) == len(rates)
    for name, parameter in task.model.named_parameters():
        assert rates[id(parameter)] == (0.3 if name.startswith("transformer.stn.") else 1.0)


@pytest.mark.parametrize(
    ("settings", "progress", "gaps"),
    [
        (("min_gap=2", "max_gap=25"), 0.0, {2}),
        (("min_gap=1", "max_gap=25"), 0.49, set(range(1, 10))),
        (("min_gap=3", "max_gap=5"), 0.49, {3, 4, 5}),
        (("min_gap=1", "max_gap=9", "gap_growth=1"), 0.25, set(range(1, 6))),
        (("min_gap=20", "max_gap=25"), 0.3, {9}),
    ],
)
def test_gaps_of_pairs_grow(
    settings: tuple[str, ...], progress: float, gaps: set[int], make_task: Callable[..., StaticsDynamicsTask]
) -> None:
    """Up to the whole of a clip of ten frames, which may be longer than what the video encoder takes."""
    task = make_task("objective.transformer.pairs_per_clip=60", *(f"objective.transformer.{s}" for s in settings))
    seen: list[Tensor] = []
    task.model.transformer.encode.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 0, 0, 0]))
    for _ in range(3):
        task.losses(numbered_clips(10), progress)
    source, target = torch.cat([numbers.view(2, -1) for numbers in seen], dim=1)
    assert set((target - source).abs().int().tolist()) == gaps
    # Either may be the earlier one.
    assert (target > source).any()
    assert (target < source).any()
    assert min(source.min(), target.min()) == 0
    assert max(source.max(), target.max()) == 9


def test_windows_of_longer_clips_start_anywhere(make_task: Callable[..., StaticsDynamicsTask]) -> None:
    task = make_task("objective.frames_per_clip=2")
    windows, drawn = set(), set()
    task.model.video_encoder.register_forward_pre_hook(
        lambda module, given: windows.add(tuple(given[0][0, :, 0, 0, 0].int().tolist()))
    )
    task.model.frame_model.features.register_forward_pre_hook(
        lambda module, given: drawn.add(tuple(given[0][:, 0, 0, 0].int().tolist()))
    )
    for _ in range(40):
        task.losses(numbered_clips(8), SECOND)
    assert windows == {tuple(range(start, start + 5)) for start in range(4)}
    # The prediction needs all frames, reconstruction gets two different ones of each clip.
    few = {numbers for numbers in drawn if len(numbers) == 4}
    assert len(few) > 10
    assert all(a != b and c != d for a, b, c, d in few)
    assert any({a, b} != {c, d} for a, b, c, d in few)


def test_the_motion_objective_grows_its_gaps(
    make_task: Callable[..., StaticsDynamicsTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one step at the beginning of the second stage to all of the clip where the recipe asks for more."""
    from kineme.pipeline.tasks import statics_dynamics

    task = make_task("objective.motion.pairs=40", "objective.motion.max_gap=9")
    gaps: set[int] = set()

    def watched(maps: Tensor, frames: Tensor, starts: Tensor, ends: Tensor, **options: Any) -> Tensor:
        gaps.update((ends - starts).flatten().tolist())
        return motion_loss(maps, frames, starts, ends, **options)

    monkeypatch.setattr(statics_dynamics, "motion_loss", watched)
    task.losses(some_clips(), 0.5)
    assert gaps == {1}
    task.losses(some_clips(), 0.95)
    assert gaps == {1, 2, 3, 4}


def test_ranks_and_variances_are_reported(make_task: Callable[..., StaticsDynamicsTask]) -> None:
    task = make_task()
    reports = {f"{kind}/{name}" for kind in ("rank", "variance") for name in ("S", "P", "p")}
    assert reports <= task.losses(some_clips(), SECOND).keys()
    torch.nn.init.zeros_(task.model.video_encoder.dynamics.weight)
    parts = task.losses(some_clips(), SECOND)
    assert float(parts["variance/P"]) == float(parts["rank/P"]) == 0
    assert float(parts["variance/S"]) > 0


def test_of_two_clips_no_rank_is_known(make_task: Callable[..., StaticsDynamicsTask]) -> None:
    """Two vectors always lie on a line: that is no collapse."""
    parts = make_task().losses(some_clips(2), SECOND)
    assert parts["rank/S"].isnan()
    assert parts["rank/P"].isnan()
    assert parts["rank/p"].isfinite()
    assert parts["variance/S"] > 0
    one = TrainingClips(torch.rand(1, 6, 3, 32, 32), None, None, [])
    assert make_task("model.frame_size=32").losses(one, SECOND)["variance/S"].isnan()
