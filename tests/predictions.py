"""Predictions as tests ask for them."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_runs import make_recipe
from torch import Tensor

from kineme.pipeline.prediction import Prediction
from kineme.pipeline.recipe import dump_recipe
from kineme.pipeline.run import Run, load_run, save_weights
from kineme.pipeline.tasks import make_task

CPU = torch.device("cpu")


def untrained(text: str, folder: Path, *settings: str) -> Run:
    """A run of a recipe with fresh weights, the same each time."""
    recipe = make_recipe(text, folder, *settings)
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "recipe.yaml").write_text(dump_recipe(recipe))
    torch.manual_seed(0)
    save_weights(folder / "run", recipe, make_task(recipe))
    return load_run(folder / "run", CPU)


def films(prediction: Prediction) -> Tensor:
    """All its frames, (N, T, 3, S, S)."""
    return torch.stack(list(prediction.frames), dim=1)
