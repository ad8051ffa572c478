"""The judge as a task: trained by the labels of clips, on frames with noise.

A judge of clean frames alone is certain of its answers there and may be wrong about a generated clip for errors that
nobody would see; noise of a random strength, the same for a whole clip, makes it look at larger things. The paper says
nothing of how its classifiers are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kineme.models.judge import Judge, JudgeConfig, judge_loss
from kineme.pipeline.errors import RunError
from kineme.pipeline.labels import label_values, value_number
from kineme.pipeline.optimisation import ParameterGroup, one_group, one_stage
from kineme.pipeline.recipe import JudgeRecipe
from kineme.pipeline.tasks import TrainingClips
from kineme.shards.sample import ClipRecord


class JudgeTask:
    """Trains `Judge` on `judge_loss`."""

    def __init__(self, recipe: JudgeRecipe) -> None:
        self._objective = o = recipe.objective
        missing = [label for label in o.labels if len(o.classes.get(label, [])) < 2]
        if missing:
            raise RunError(
                f"objective.classes has fewer than two values of {', '.join(missing)}: kineme train finds them in the "
                "shards and writes them here; take out a label of one value"
            )
        classes = {label: len(o.classes[label]) for label in o.labels}
        self.model = Judge(JudgeConfig(classes, **recipe.model.model_dump()))
        self.frame_size = recipe.model.frame_size
        self.stages = one_stage(recipe.optimizer)

    def parameter_groups(self) -> list[ParameterGroup]:
        """One learning rate."""
        return one_group(self.model)

    def compiled_parts(self) -> list[nn.Module]:
        """The whole network, called once a step."""
        return [self.model]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of all labels, and the accuracy of each."""
        frames = clips.frames
        strength = self._objective.noise * torch.rand(len(frames), 1, 1, 1, 1, device=frames.device)
        judged = self.model(frames + strength * torch.randn_like(frames))
        return judge_loss(judged, {n: t.to(frames.device) for n, t in self.targets(clips.records).items()})

    def targets(self, records: Sequence[ClipRecord]) -> dict[str, Tensor]:
        """The true values of each label, (B,) int64: places in ``objective.classes``.

        Raises:
            RunError: a clip lacks a label, or its value is none of those that were trained.
        """
        o = self._objective
        return {
            label: torch.tensor([value_number(record, label, o.classes[label]) for record in records])
            for label in o.labels
        }

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        """What it is shown at the most noise."""
        frames = clips.frames
        return {"truth": frames, "with noise": frames + self._objective.noise * torch.randn_like(frames)}


def complete_judge(recipe: JudgeRecipe, shards: Path) -> JudgeRecipe:
    """The recipe with the values of its labels as the shards have them, sorted as text.

    Raises:
        RunError: a clip lacks a label.
        DataError: the shards cannot be read.
    """
    o = recipe.objective
    found = {label: o.classes.get(label) or label_values(shards, recipe.data.split, label) for label in o.labels}
    return recipe.model_copy(update={"objective": o.model_copy(update={"classes": found})})
