"""Tasks small enough to follow by hand: the training loop is tested with them, through real runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kineme.pipeline import training_module
from kineme.pipeline.optimisation import ParameterGroup, Stage, one_group, one_stage, stage_at
from kineme.pipeline.recipe import OptimizerSection, Recipe
from kineme.pipeline.run_keeper import RunKeeper
from kineme.pipeline.tasks import Task, TrainingClips

FIRST = OptimizerSection(lr=0.1, warmup_steps=2, decay="halving", halvings=2)
SECOND = OptimizerSection(lr=0.02, warmup_steps=3)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 2)

    def forward(self, frames: Tensor) -> Tensor:
        return self.second(self.norm(self.first(frames.mean(dim=(1, 3, 4)))))


class OneStage:
    """Pulls all outputs to one."""

    frame_size = 32

    def __init__(self, recipe: Recipe) -> None:
        self.model = Network()
        self.stages: tuple[Stage, ...] = one_stage(recipe.optimizer)

    def parameter_groups(self) -> list[ParameterGroup]:
        return one_group(self.model)

    def compiled_parts(self) -> list[nn.Module]:
        return [self.model]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        return {"loss": (self.model(clips.frames).float() - 1).square().mean()}

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        return {"truth": clips.frames}


class TwoStages(OneStage):
    """Trains the first layer in the first half of the run, the second, five times more slowly, in the other half."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.stages = (Stage("first", 0.5, FIRST), Stage("second", 1.0, SECOND))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            {"params": [*self.model.first.parameters(), *self.model.norm.parameters()], "lr_scale": 1.0},
            {"params": list(self.model.second.parameters()), "lr_scale": 0.2},
        ]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        hidden = self.model.first(clips.frames.mean(dim=(1, 3, 4)))
        if stage_at(self.stages, progress) == 0:
            loss = (hidden - 1).square().mean()
            return {"loss": loss, "early": loss}
        loss = (self.model.second(hidden.detach()) - 1).square().mean()
        return {"loss": loss, "late": loss}


@contextmanager
def training_on(task: Callable[[Recipe], Task]) -> Iterator[None]:
    """Let every recipe describe this task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_module, "make_task", task)
        yield


@contextmanager
def after_each_step(look: Callable[[Any, Any], None]) -> Iterator[None]:
    """Call ``look(trainer, module)`` between the steps."""
    end = RunKeeper.on_train_batch_end

    def watch(self: RunKeeper, trainer: Any, module: Any, *rest: Any) -> None:
        look(trainer, module)
        end(self, trainer, module, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunKeeper, "on_train_batch_end", watch)
        yield


def weights_of(module: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.model.state_dict().items()}


def moments_of(trainer: Any) -> list[dict[str, Tensor]]:
    """What Adam keeps of every parameter, in their order."""
    (optimizer,) = trainer.optimizers
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [{key: torch.as_tensor(value).clone() for key, value in optimizer.state[p].items()} for p in parameters]
