"""Any next-frame predictor as a task: its losses, the condition of its frames, strips to look at, validation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from kineme.models.frame_predictor import FramePredictor
from kineme.models.kernel_predictor import KernelPredictor
from kineme.models.next_frames import predict
from kineme.models.predictor_loss import predictor_loss
from kineme.models.schedules import kl_weight, teacher_forcing_ratio
from kineme.pipeline.errors import RunError
from kineme.pipeline.frame_errors import psnr
from kineme.pipeline.optimisation import ParameterGroup, one_group, one_stage
from kineme.pipeline.pictures import given_frames
from kineme.pipeline.recipe import PredictionObjective, PredictorRecipe
from kineme.pipeline.tasks import TrainingClips
from kineme.shards.hold_out import HoldOut
from kineme.shards.loader import clip_loader
from kineme.shards.manifest import Manifest

Forced = Callable[[Tensor, float], Tensor | bool]
"""Frames (B, T, C, H, W) and the teacher forcing ratio -> for which of them the truth is fed, drawn at random."""
_OMITTED = "but the actions of the frames in between, which lead to the next one, are not among those that are read"
STATISTICS_CLIPS = 512
"""Of so many clips the mean and deviation of a condition are taken."""


class PredictionTask:
    """Trains a predictor on `predictor_loss`, with KL annealing and teacher forcing over the run.

    Attributes:
        model: the predictor.
        context: true frames that it starts from.
    """

    def __init__(
        self,
        recipe: PredictorRecipe,
        model: FramePredictor | KernelPredictor,
        forced: Forced,
    ) -> None:
        """Refuse a recipe that does not fit together, by RunError."""
        objective, numbers = recipe.objective, model.condition_dim
        check_lengths(objective, recipe.data.clip_frames)
        actions = numbers if objective.action_columns is None else objective.action_columns
        if numbers and actions and recipe.data.frame_step > 1:
            raise RunError(
                f"data.frame_step is {recipe.data.frame_step}, {_OMITTED}; set it to 1, or objective.action_columns to "
                "0 to tell the network the state alone"
            )
        if numbers and actions > numbers:
            raise RunError(
                f"objective.action_columns is {actions}, but model.condition_dim is {numbers}: a frame has no more "
                "actions than numbers; leave it out where all of them are actions"
            )
        mean, std = objective.condition_mean or [0.0] * numbers, objective.condition_std or [1.0] * numbers
        if (len(mean), len(std)) != (numbers, numbers):
            raise RunError(
                f"objective.condition_mean and condition_std have {len(mean)} and {len(std)} numbers, but "
                f"model.condition_dim is {numbers}: leave them out, and they are found in the shards"
            )
        self.model = model
        self.frame_size = recipe.model.frame_size
        self.stages = one_stage(recipe.optimizer)
        self.context = objective.context
        self._objective = objective
        self._actions = actions
        self._mean, self._std = torch.tensor(mean), torch.tensor(std)
        self._forced = forced

    def parameter_groups(self) -> list[ParameterGroup]:
        """One learning rate."""
        return one_group(self.model)

    def compiled_parts(self) -> list[nn.Module]:
        """The whole network, called once a step."""
        return [self.model]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """Of whole clips, or of short ones while it is time for them."""
        frames, condition, context = clips.frames, self.condition(clips.actions), self.context
        objective = self._objective
        short = objective.short_clips
        if short is not None and progress < short.until:
            frames, context = frames[:, : short.frames], short.context
            condition = None if condition is None else condition[:, : short.frames]
        forcing = teacher_forcing_ratio(progress, **objective.teacher_forcing.model_dump())
        beta = kl_weight(progress, **objective.kl.model_dump())
        forced = self._forced(frames, forcing)
        output = self.model(frames, context=context, condition=condition, teacher_forcing=forced)
        parts = predictor_loss(output, frames, beta)
        losses = {"loss": parts.loss, "teacher_forcing": frames.new_tensor(forcing)}
        if parts.kl is not None:
            losses |= {"reconstruction": parts.reconstruction, "kl": parts.kl, "beta": frames.new_tensor(beta)}
        return losses

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        """The truth, and below it the context followed by one prediction."""
        shown = torch.cat([clips.frames[:, : self.context], self.predict(clips)], dim=1)
        return {"truth": clips.frames, f"prediction\n{given_frames(self.context)}": shown}

    def validate(self, clips: TrainingClips) -> dict[str, Tensor]:
        """``psnr`` of the frames that one prediction draws, dB: of each frame, then the mean."""
        return {"psnr": psnr(self.predict(clips), clips.frames[:, self.context :]).mean()}

    def predict(self, clips: TrainingClips, noise: Tensor | None = None) -> Tensor:
        """The frames after the context as the model draws them: (B, T - context, C, H, W).

        Args:
            clips: frames, and the numbers stored with them where the model needs these.
            noise: behind frames 1 .. T-1, (B, T - 1, noise_dim); drawn if not given.
        """
        seen, horizon = clips.frames[:, : self.context], clips.frames.shape[1] - self.context
        return predict(self.model, seen, horizon, self.condition(clips.actions), noise=noise)

    def condition(self, stored: Tensor | None) -> Tensor | None:
        """c_0 .. c_{T-1} from the numbers stored with the frames, (B, T, A); nothing for a model without a condition.

        What is stored with frame t are the action taken there, which leads to frame t + 1, and the state there, such as
        the gripper's place. c_t has the action that leads to frame t (0 for the first frame) and the state at frame t,
        each number less its mean and divided by its deviation.

        Raises:
            RunError: the model needs numbers that the shards do not hold.
        """
        if not self.model.condition_dim:
            return None
        stored = _stored(stored, self.model.condition_dim)
        taken, state = stored[..., : self._actions], stored[..., self._actions :]
        leading = torch.cat([torch.zeros_like(taken[:, :1]), taken[:, :-1]], dim=1)
        given = torch.cat([leading, state], dim=-1)
        return (given - self._mean.to(given)) / self._std.to(given)


def check_lengths(objective: PredictionObjective, clip_frames: int) -> None:
    """Refuse clips, whole or short ones, that are not longer than their context, by RunError."""
    lengths = [("data.clip_frames", clip_frames, "objective.context", objective.context)]
    short = objective.short_clips
    if short is not None:
        lengths.append(("objective.short_clips.frames", short.frames, "its context", short.context))
        if short.frames > clip_frames:
            raise RunError(
                f"objective.short_clips.frames is {short.frames}, but data.clip_frames is {clip_frames}: short clips "
                "are cut from the others; lower it"
            )
    for name, frames, context_name, context in lengths:
        if frames <= context:
            raise RunError(
                f"{name} is {frames}: a clip must be longer than {context_name}, {context}, so that a frame is left to "
                "predict"
            )


def complete_prediction(recipe: PredictorRecipe, shards: Path) -> PredictorRecipe:
    """The recipe with the mean and deviation of each number of its condition, as the training clips have them.

    A number that is always the same counts as it is.

    Raises:
        RunError: the shards hold no such numbers, or not so many, or not the action of each frame.
        DataError: the shards cannot be read, or hold no clip of the split.
    """
    o, data, wanted = recipe.objective, recipe.data, recipe.model.condition_dim
    if wanted and o.action_columns != 0:
        _check_rate(shards)
    if not wanted or o.condition_mean:
        return recipe
    clips = clip_loader(
        shards,
        batch_size=1,
        clip_frames=data.clip_frames,
        split=data.split,
        shuffle=True,
        hold_out=HoldOut(data.held_out),
    )
    rows = torch.cat([_stored(clip.actions, wanted) for clip in islice(clips, STATISTICS_CLIPS)]).flatten(0, 1)
    std = rows.std(dim=0)
    found = {"condition_mean": rows.mean(dim=0).tolist(), "condition_std": torch.where(std > 0, std, 1.0).tolist()}
    return recipe.model_copy(update={"objective": o.model_copy(update=found)})


def _check_rate(shards: Path) -> None:
    """Refuse shards for which an ingest took some frames of a video and left others out, by RunError."""
    settings = Manifest.load(shards).settings
    for name in ("frame_step", "fps"):
        if settings[name] not in (1, None):
            raise RunError(
                f"{shards}: ingested with --{name.replace('_', '-')} {settings[name]:g}, {_OMITTED}; ingest without, "
                "or set objective.action_columns to 0 to tell the network the state alone"
            )


def _stored(numbers: Tensor | None, wanted: int) -> Tensor:
    """The numbers stored with frames, or a RunError where they are not what the model needs."""
    if numbers is None or numbers.shape[-1] != wanted:
        held = "none" if numbers is None else f"{numbers.shape[-1]} numbers a frame"
        raise RunError(
            f"model.condition_dim is {wanted}, but the shards hold {held}: set it to what they hold, or to 0 to "
            "predict without actions"
        )
    return numbers
