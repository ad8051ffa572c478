"""The next-frame CVAE of the report as a task: teacher forcing over the run."""

from __future__ import annotations

import torch
from torch import Tensor

from kineme.models.frame_predictor import FramePredictor, FramePredictorConfig
from kineme.pipeline.recipe import FramePredictorRecipe
from kineme.pipeline.tasks.prediction import PredictionTask


def frame_predictor_task(recipe: FramePredictorRecipe) -> PredictionTask:
    """Trains `FramePredictor`.

    Teacher forcing is drawn once for the batch, as in the lab's code; a mixed batch would have to be stepped frame by
    frame.
    """

    def forced(frames: Tensor, ratio: float) -> bool:
        return bool(torch.rand(()) < ratio)

    return PredictionTask(recipe, FramePredictor(FramePredictorConfig(**recipe.model.model_dump())), forced)
