"""Any next-frame predictor as a task: the condition of its frames, strips to look at, validation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kineme.models.frame_predictor import FramePredictor
from kineme.models.kernel_predictor import KernelPredictor
from kineme.models.next_frames import predict
from kineme.pipeline.errors import RunError
from kineme.pipeline.frame_errors import psnr
from kineme.pipeline.optimisation import ParameterGroup, one_group, one_stage
from kineme.pipeline.recipe import FramePredictorRecipe, KernelPredictorRecipe
from kineme.pipeline.tasks import TrainingClips

Losses = Callable[[Tensor, Tensor | None, float], dict[str, Tensor]]
"""Frames (B, T, C, H, W), the condition (B, T, D) and the done fraction of the training -> `Task.losses`."""


class PredictionTask:
    """Trains a predictor on an objective of its own.

    Attributes:
        model: the predictor.
        context: true frames that it starts from.
    """

    def __init__(
        self,
        recipe: FramePredictorRecipe | KernelPredictorRecipe,
        model: FramePredictor | KernelPredictor,
        losses: Losses,
    ) -> None:
        """Refuse a recipe that leaves no frame to predict, or has more actions than numbers, by RunError."""
        objective, numbers = recipe.objective, model.condition_dim
        if recipe.data.clip_frames <= objective.context:
            raise RunError(
                f"data.clip_frames is {recipe.data.clip_frames}: a clip must be longer than objective.context, "
                f"{objective.context}, so that a frame is left to predict"
            )
        actions = numbers if objective.action_columns is None else objective.action_columns
        if numbers and actions > numbers:
            raise RunError(
                f"objective.action_columns is {actions}, but model.condition_dim is {numbers}: a frame has no more "
                "actions than numbers; leave it out where all of them are actions"
            )
        self.model = model
        self.frame_size = recipe.model.frame_size
        self.stages = one_stage(recipe.optimizer)
        self.context = objective.context
        self._actions = actions
        self._losses = losses

    def parameter_groups(self) -> list[ParameterGroup]:
        """One learning rate."""
        return one_group(self.model)

    def compiled_parts(self) -> list[nn.Module]:
        """The whole network, called once a step."""
        return [self.model]

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """The predictor's own."""
        return self._losses(clips.frames, self.condition(clips.actions), progress)

    def pictures(self, clips: TrainingClips) -> dict[str, Tensor]:
        """The truth, and below it the context followed by one prediction."""
        drawn = self.predict(clips)
        return {"truth": clips.frames, "prediction": torch.cat([clips.frames[:, : self.context], drawn], dim=1)}

    def validate(self, clips: TrainingClips) -> dict[str, Tensor]:
        """``psnr`` of the frames that one prediction draws, dB: of each frame, then the mean."""
        return {"psnr": psnr(self.predict(clips), clips.frames[:, self.context :]).mean()}

    def predict(self, clips: TrainingClips) -> Tensor:
        """The frames after the context as the model draws them: (B, T - context, C, H, W)."""
        seen = clips.frames[:, : self.context]
        return predict(self.model, seen, clips.frames.shape[1] - self.context, self.condition(clips.actions))

    def condition(self, stored: Tensor | None) -> Tensor | None:
        """c_0 .. c_{T-1} from the numbers stored with the frames, (B, T, A); nothing for a model without a condition.

        What is stored with frame t are the action taken there, which leads to frame t + 1, and the state there, such as
        the gripper's place. c_t has the action that leads to frame t (0 for the first frame) and the state at frame t.

        Raises:
            RunError: the model needs numbers that the shards do not hold.
        """
        wanted = self.model.condition_dim
        if not wanted:
            return None
        if stored is None or stored.shape[-1] != wanted:
            held = "none" if stored is None else f"{stored.shape[-1]} numbers a frame"
            raise RunError(
                f"model.condition_dim is {wanted}, but the shards hold {held}: set it to what they hold, or to 0 to "
                "predict without actions"
            )
        taken, state = stored[..., : self._actions], stored[..., self._actions :]
        leading = torch.cat([torch.zeros_like(taken[:, :1]), taken[:, :-1]], dim=1)
        return torch.cat([leading, state], dim=-1)
