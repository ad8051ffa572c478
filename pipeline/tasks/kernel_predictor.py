"""The kernel predictor as a task: scheduled sampling over the run."""

from __future__ import annotations

import torch
from torch import Tensor

from kineme.models.kernel_predictor import KernelPredictor, KernelPredictorConfig
from kineme.pipeline.recipe import KernelPredictorRecipe
from kineme.pipeline.tasks.prediction import PredictionTask


def kernel_predictor_task(recipe: KernelPredictorRecipe) -> PredictionTask:
    """Trains `KernelPredictor`.

    Whether the truth is fed is drawn for each clip and frame (scheduled sampling, Bengio et al. 2015).
    """

    def forced(frames: Tensor, ratio: float) -> Tensor:
        return torch.rand(frames.shape[0], frames.shape[1] - 1, device=frames.device) < ratio

    return PredictionTask(recipe, KernelPredictor(KernelPredictorConfig(**recipe.model.model_dump())), forced)
