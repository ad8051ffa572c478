"""The baselines of thesis table 7.1 as a task: the video encoder trained by a label, by its frames or by keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineme.models.frame_autoencoder import squared_error
from kineme.models.video_baseline import MAX_INTERCHANGEABLE, VideoBaseline, VideoBaselineConfig, displacement_loss
from kineme.pipeline.errors import RunError
from kineme.pipeline.labels import label_values, value_number
from kineme.pipeline.optimisation import ParameterGroup, one_group, one_stage
from kineme.pipeline.recipe import VideoBaselineRecipe
from kineme.pipeline.tasks import TrainingClips
from kineme.pipeline.tasks.windows import random_window, window_frames
from kineme.shards.loader import clip_loader
from kineme.shards.sample import ClipRecord

_MOVING = ("affine", "horizontal_flip", "vertical_flip")


class VideoBaselineTask:
    """Trains `VideoBaseline` on windows of ``model.clip_frames`` frames.

    Of clips that are longer (``data.clip_frames``), each step takes a window that starts at random, the same for the
    whole batch.
    """

    def __init__(self, recipe: VideoBaselineRecipe) -> None:
        self._objective = o = recipe.objective
        self.clip_frames = window_frames(recipe)
        if o.kind == "classification" and len(o.classes) < 2:
            raise RunError(f"objective.classes are {o.classes}: it takes two or more; left out, training finds them")
        if o.kind == "displacement":
            _check_displacement(recipe)
        self.model = VideoBaseline(
            VideoBaselineConfig(
                **recipe.model.model_dump(), objective=o.kind, classes=len(o.classes), keypoints=o.keypoints or 0
            )
        )
        self.frame_size = recipe.model.frame_size
        self.stages = one_stage(recipe.optimizer)

    def parameter_groups(self) -> list[ParameterGroup]:
        """One learning rate."""
        return one_group(self.model)

    def compiled_parts(self) -> list[nn.Module]:
        """The whole network, called once a step."""
        return [self.model]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """Cross-entropy and accuracy, squared error, or L1 of the displacements."""
        o = self._objective
        window = random_window(clips.frames.shape[1], self.clip_frames)
        frames = clips.frames[:, window]
        answer = self.model(frames)
        if o.kind == "reconstruction":
            return {"loss": squared_error(answer, frames)}
        if o.kind == "displacement":
            places = _keypoints(clips.keypoints, o.keypoints)[:, window]
            return {"loss": displacement_loss(answer.float(), places, interchangeable=o.interchangeable)}
        targets = self.targets(clips.records).to(answer.device)
        correct = (answer.argmax(dim=1) == targets).float().mean()
        return {"loss": F.cross_entropy(answer.float(), targets), "accuracy": correct}

    def targets(self, records: Sequence[ClipRecord]) -> Tensor:
        """The classes of clips, (B,) int64: places in ``objective.classes``.

        Raises:
            RunError: a clip lacks the label, or its value is none of the classes.
        """
        o = self._objective
        return torch.tensor([value_number(record, o.label, o.classes) for record in records])

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        """The first frames, and where it learns from them their reconstruction."""
        truth = clips.frames[:, : self.clip_frames]
        if self._objective.kind != "reconstruction":
            return {"truth": truth}
        return {"truth": truth, "reconstruction": self.model(truth)}


def complete_objective(recipe: VideoBaselineRecipe, shards: Path) -> VideoBaselineRecipe:
    """The recipe with the classes of its label, or the number of keypoints, as the shards have them.

    Classes are sorted as text. Keypoints are counted in one clip; all clips of shards have as many.

    Raises:
        RunError: a clip lacks the label, or the shards hold no keypoints.
        DataError: the shards cannot be read, or hold no clip of the split.
    """
    o = recipe.objective
    if o.kind == "classification" and not o.classes:
        found: dict[str, Any] = {"classes": label_values(shards, recipe.data.split, o.label)}
    elif o.kind == "displacement" and o.keypoints is None:
        data = recipe.data
        clips = clip_loader(shards, batch_size=1, clip_frames=2, split=data.split, endless=data.endless)
        found = {"keypoints": _keypoints(next(iter(clips)).keypoints).shape[2]}
    else:
        return recipe
    return recipe.model_copy(update={"objective": o.model_copy(update=found)})


def _check_displacement(recipe: VideoBaselineRecipe) -> None:
    o = recipe.objective
    if o.keypoints is None:
        raise RunError("objective.keypoints is missing: kineme train counts them in the shards and writes them here")
    if o.interchangeable and o.keypoints > MAX_INTERCHANGEABLE:
        raise RunError(
            f"objective.keypoints is {o.keypoints}: of interchangeable ones at most {MAX_INTERCHANGEABLE} can be "
            "assigned; set objective.interchangeable=false if each of them is always the same point"
        )
    moving = [name for name in recipe.data.augment if name in _MOVING]
    if moving:
        raise RunError(f"data.augment has {', '.join(moving)}: keypoints do not move with the frames; leave it out")


def _keypoints(keypoints: Tensor | None, wanted: int | None = None) -> Tensor:
    if keypoints is None:
        raise RunError(
            "objective.kind is displacement, but the shards hold no keypoints: ingest a set that has them, "
            "such as moving-mnist, or learn from something else"
        )
    if wanted is not None and keypoints.shape[2] != wanted:
        raise RunError(
            f"objective.keypoints is {wanted}, but the shards hold {keypoints.shape[2]} a frame; leave it out"
        )
    return keypoints
