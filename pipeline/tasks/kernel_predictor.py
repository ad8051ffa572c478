"""The kernel predictor as a task: the squared error of its frames, and scheduled sampling over the run."""

from __future__ import annotations

import torch
from torch import Tensor

from kineme.models.kernel_predictor import KernelPredictor, KernelPredictorConfig
from kineme.models.schedules import teacher_forcing_ratio
from kineme.pipeline.recipe import KernelPredictorRecipe
from kineme.pipeline.tasks.prediction import PredictionTask


def kernel_predictor_task(recipe: KernelPredictorRecipe) -> PredictionTask:
    """Trains `KernelPredictor` on the squared error, averaged over the pixels and colours of frames 1 .. T-1.

    Whether the truth is fed is drawn for each clip and frame (scheduled sampling, Bengio et al. 2015).
    """
    model = KernelPredictor(KernelPredictorConfig(**recipe.model.model_dump()))
    objective = recipe.objective

    def losses(frames: Tensor, condition: Tensor | None, context: int, progress: float) -> dict[str, Tensor]:
        forcing = teacher_forcing_ratio(progress, **objective.teacher_forcing.model_dump())
        forced = torch.rand(frames.shape[0], frames.shape[1] - 1, device=frames.device) < forcing
        drawn = model(frames, context=context, condition=condition, teacher_forcing=forced)
        error = (drawn - frames[:, 1:].float()).square().mean()
        return {"loss": error, "teacher_forcing": frames.new_tensor(forcing)}

    return PredictionTask(recipe, model, losses)
