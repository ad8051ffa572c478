"""What is trained: one file for each kind of recipe, a network together with its objective.

A new kind is a file here, a recipe model in `kineme.pipeline.recipe_models` and a line in `make_task`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kineme.shards.records import common_fps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kineme.pipeline.optimisation import ParameterGroup, Stage
    from kineme.pipeline.recipe import Recipe
    from kineme.shards.sample import ClipRecord


@dataclass(frozen=True)
class TrainingClips:
    """A batch of clips as a task trains on it: scaled, resized and augmented, on the device.

    Attributes:
        frames: (B, T, C, H, W) float in [0, 1], H = W = the task's frame size.
        actions: (B, T, A) float32, or None where the shards hold none.
        keypoints: (B, T, K, 2) float32 in pixels of the stored frame, x before y, or None where the shards hold none.
            Neither resizing nor augmentation moves them.
        records: of each of the B clips.
    """

    frames: Tensor
    actions: Tensor | None
    keypoints: Tensor | None
    records: Sequence[ClipRecord]


class Task(Protocol):
    """A network with its objective, as the training loop sees it. Frames are (B, T, C, H, W) float in [0, 1]."""

    @property
    def model(self) -> nn.Module:
        """The network that is trained."""

    @property
    def frame_size(self) -> int:
        """Height and width of the frames it takes, pixels."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The parts of a run, in their order; one that trains all together has one."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Every parameter once; a group's learning rate is its ``lr_scale`` times the stage's."""

    def compiled_parts(self) -> list[nn.Module]:
        """Modules that `losses` calls and torch.compile may speed up; they are compiled in place."""

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """Scalars: ``loss`` to minimise, its parts, and what else is to be logged.

        ``rank/NAME`` and ``variance/NAME``, the effective rank and total variance of a representation
        (`kineme.models.collapse`), are watched: training says so where they tell of a collapse.

        Args:
            clips: the batch.
            progress: the done fraction of the training. `kineme.pipeline.optimisation.stage_at` tells the stage.
        """

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        """Named film strips (B, T, C, H, W) to look at, the truth first."""


@runtime_checkable
class Validates(Protocol):
    """A task that can say how good it is on clips that it was not trained on."""

    def validate(self, clips: TrainingClips) -> dict[str, Tensor]:
        """Named scalars, each a mean over the clips, which are held out and not augmented."""


def complete_recipe(recipe: Recipe, shards: Path) -> Recipe:
    """The recipe with what must be known of the shards: the rate of their frames, what a network learns from.

    Raises:
        RunError: the shards lack the labels or keypoints that it learns from.
        DataError: the shards cannot be read.
    """
    from kineme.pipeline.recipe import JudgeRecipe, PredictorRecipe, VideoBaselineRecipe

    if recipe.data.fps is None:
        data = recipe.data.model_copy(update={"fps": common_fps(shards)})
        recipe = recipe.model_copy(update={"data": data})
    if isinstance(recipe, VideoBaselineRecipe):
        from kineme.pipeline.tasks.video_baseline import complete_objective

        return complete_objective(recipe, shards)
    if isinstance(recipe, JudgeRecipe):
        from kineme.pipeline.tasks.judge import complete_judge

        return complete_judge(recipe, shards)
    if isinstance(recipe, PredictorRecipe):
        from kineme.pipeline.tasks.prediction import complete_prediction

        return complete_prediction(recipe, shards)
    return recipe


def make_task(recipe: Recipe) -> Task:
    """The task a recipe describes, with fresh weights."""
    from kineme.pipeline.recipe import (
        JudgeRecipe,
        KernelPredictorRecipe,
        SequentialVAERecipe,
        StaticsDynamicsRecipe,
        VideoBaselineRecipe,
    )

    if isinstance(recipe, SequentialVAERecipe):
        from kineme.pipeline.tasks.sequential_vae import SequentialVAETask

        return SequentialVAETask(recipe)
    if isinstance(recipe, StaticsDynamicsRecipe):
        from kineme.pipeline.tasks.statics_dynamics import StaticsDynamicsTask

        return StaticsDynamicsTask(recipe)
    if isinstance(recipe, VideoBaselineRecipe):
        from kineme.pipeline.tasks.video_baseline import VideoBaselineTask

        return VideoBaselineTask(recipe)
    if isinstance(recipe, JudgeRecipe):
        from kineme.pipeline.tasks.judge import JudgeTask

        return JudgeTask(recipe)
    if isinstance(recipe, KernelPredictorRecipe):
        from kineme.pipeline.tasks.kernel_predictor import kernel_predictor_task

        return kernel_predictor_task(recipe)
    from kineme.pipeline.tasks.frame_predictor import frame_predictor_task

    return frame_predictor_task(recipe)
