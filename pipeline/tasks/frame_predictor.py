"""The next-frame CVAE as a task: KL annealing and teacher forcing over the run."""

from __future__ import annotations

import torch
from torch import Tensor

from kineme.models.frame_predictor import FramePredictor, FramePredictorConfig
from kineme.models.predictor_loss import predictor_loss
from kineme.models.schedules import kl_weight, teacher_forcing_ratio
from kineme.pipeline.recipe import FramePredictorRecipe
from kineme.pipeline.tasks.prediction import PredictionTask


def frame_predictor_task(recipe: FramePredictorRecipe) -> PredictionTask:
    """Trains `FramePredictor` on `predictor_loss`.

    Teacher forcing is drawn once for the batch, as in the lab's code; a mixed batch would have to be stepped frame by
    frame.
    """
    model = FramePredictor(FramePredictorConfig(**recipe.model.model_dump()))
    objective = recipe.objective

    def losses(frames: Tensor, condition: Tensor | None, context: int, progress: float) -> dict[str, Tensor]:
        forcing = teacher_forcing_ratio(progress, **objective.teacher_forcing.model_dump())
        beta = kl_weight(progress, **objective.kl.model_dump())
        forced = bool(torch.rand(()) < forcing)
        output = model(frames, context=context, condition=condition, teacher_forcing=forced)
        parts = predictor_loss(output, frames, beta)
        return {
            "loss": parts.loss,
            "reconstruction": parts.reconstruction,
            "kl": parts.kl,
            "beta": frames.new_tensor(beta),
            "teacher_forcing": frames.new_tensor(forcing),
        }

    return PredictionTask(recipe, model, losses)
