"""What moves the weights: the stages of a run, their learning rates, and which parameters share one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from torch import nn

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import OptimizerSection


@dataclass(frozen=True)
class Stage:
    """A part of a run with a learning rate of its own.

    Attributes:
        name: what is trained in it.
        end: done fraction of the run at which it ends, in (0, 1]; it begins where the stage before ends.
        optimizer: its learning rate, warm-up, decay and clipping.
    """

    name: str
    end: float
    optimizer: OptimizerSection


class ParameterGroup(TypedDict):
    """Parameters and the factor on their learning rate."""

    params: list[nn.Parameter]
    lr_scale: float


def one_stage(optimizer: OptimizerSection) -> tuple[Stage, ...]:
    """The stages of a task that trains everything throughout."""
    return (Stage("training", 1.0, optimizer),)


def one_group(model: nn.Module) -> list[ParameterGroup]:
    """The groups of a task whose parameters all have the same learning rate."""
    return [{"params": list(model.parameters()), "lr_scale": 1.0}]


def check_stages(stages: Sequence[Stage]) -> None:
    """Refuse stages that do not follow one another up to the end of the run.

    Raises:
        RunError: the ends do not rise from above 0 to 1.
    """
    ends = [stage.end for stage in stages]
    if not ends or ends[-1] != 1 or any(later <= earlier for earlier, later in zip([0.0, *ends], ends, strict=False)):
        named = ", ".join(f"{stage.name} at {stage.end:g}" for stage in stages) or "none"
        raise RunError(f"stages end one after the other above 0, the last at 1 of the run, these are: {named}")


def stage_at(stages: Sequence[Stage], progress: float) -> int:
    """Index of the stage that a step at ``progress`` of the run belongs to; an end belongs to the next stage."""
    return next((index for index, stage in enumerate(stages) if progress < stage.end), len(stages) - 1)


def stage_progress(stages: Sequence[Stage], index: int, progress: float) -> float:
    """Done fraction of a stage, in [0, 1], at ``progress`` of the run."""
    begin = stages[index - 1].end if index else 0.0
    return min(1.0, max(0.0, (progress - begin) / (stages[index].end - begin)))


def learning_rate(optimizer: OptimizerSection, step: int, progress: float) -> float:
    """The rate of a step of a stage: linear warm-up over its first steps, times the decay over the whole of it.

    cosine: a half cosine from 1 down to ``final_lr_fraction``. halving: 0.5 ** floor(progress * halvings), thesis 7.B.

    Args:
        optimizer: the settings.
        step: number of the step in its stage, from 0.
        progress: done fraction of the stage, in [0, 1].
    """
    warmup = min(1.0, (step + 1) / optimizer.warmup_steps) if optimizer.warmup_steps else 1.0
    if optimizer.decay == "halving":
        # The end of the stage is the end of the last value, not the start of another.
        return optimizer.lr * warmup * 0.5 ** min(math.floor(progress * optimizer.halvings), optimizer.halvings - 1)
    final = optimizer.final_lr_fraction
    return optimizer.lr * warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))
