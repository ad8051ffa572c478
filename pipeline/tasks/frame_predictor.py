"""The next-frame CVAE as a task: KL annealing and teacher forcing over the run, and predictions to look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kineme.models.frame_predictor import FramePredictor, FramePredictorConfig, predictor_loss
from kineme.models.schedules import kl_weight, teacher_forcing_ratio
from kineme.pipeline.errors import RunError
from kineme.pipeline.optimisation import ParameterGroup, one_group, one_stage
from kineme.pipeline.recipe import FramePredictorRecipe
from kineme.pipeline.tasks import TrainingClips


class FramePredictorTask:
    """Trains `FramePredictor` on `predictor_loss`; the condition of frame t is the action stored with it."""

    def __init__(self, recipe: FramePredictorRecipe) -> None:
        self.model = FramePredictor(FramePredictorConfig(**recipe.model.model_dump()))
        self.frame_size = recipe.model.frame_size
        self.stages = one_stage(recipe.optimizer)
        self.context = recipe.objective.context
        self._objective = recipe.objective
        self._condition_dim = recipe.model.condition_dim
        if recipe.data.clip_frames <= self.context:
            raise RunError(
                f"data.clip_frames is {recipe.data.clip_frames}: a clip must be longer than objective.context, "
                f"{self.context}, so that a frame is left to predict"
            )

    def parameter_groups(self) -> list[ParameterGroup]:
        """One learning rate."""
        return one_group(self.model)

    def compiled_parts(self) -> list[nn.Module]:
        """The whole network, called once a step."""
        return [self.model]

    def condition(self, actions: Tensor | None) -> Tensor | None:
        """The actions as the model wants them, or nothing for a model without a condition.

        Raises:
            RunError: the model needs actions that the shards do not hold.
        """
        if not self._condition_dim:
            return None
        if actions is None or actions.shape[-1] != self._condition_dim:
            held = "none" if actions is None else f"{actions.shape[-1]} numbers a frame"
            raise RunError(
                f"model.condition_dim is {self._condition_dim}, but the shards hold {held}: "
                "set it to what they hold, or to 0 to predict without actions"
            )
        return actions

    def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
        """Reconstruction plus annealed KL; teacher forcing is drawn once for each clip."""
        frames = clips.frames
        forcing = teacher_forcing_ratio(progress, **self._objective.teacher_forcing.model_dump())
        beta = kl_weight(progress, **self._objective.kl.model_dump())
        # One draw for the batch, as in the lab's code: a mixed batch would have to be stepped frame by frame.
        forced = bool(torch.rand(()) < forcing)
        condition = self.condition(clips.actions)
        output = self.model(frames, context=self.context, condition=condition, teacher_forcing=forced)
        parts = predictor_loss(output, frames, beta)
        return {
            "loss": parts.loss,
            "reconstruction": parts.reconstruction,
            "kl": parts.kl,
            "beta": frames.new_tensor(beta),
            "teacher_forcing": frames.new_tensor(forcing),
        }

    def pictures(self, frames: Tensor) -> dict[str, Tensor]:
        """The truth, and the context followed by one sampled prediction (for models without a condition)."""
        if self._condition_dim:
            return {"truth": frames}
        context = frames[:, : self.context]
        predicted = self.model.predict(context, frames.shape[1] - self.context)
        return {"truth": frames, "prediction": torch.cat([context, predicted], dim=1)}
