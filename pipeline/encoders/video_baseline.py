"""The encoder of a video baseline, whatever it was trained for."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kineme.models.video_baseline import VideoBaseline
from kineme.pipeline.encoders import RunEncoder
from kineme.pipeline.frames import to_model
from kineme.pipeline.recipe import VideoBaselineRecipe
from kineme.pipeline.run import Run, load_run
from kineme.retrieval.vectors import Vectors


class VideoBaselineEncoder(RunEncoder):
    """A trained video baseline.

    motion is P. appearance is what the encoder's third stage sees, averaged over time and place: the statics branch
    behind it is not trained in these runs, so its S would be a random mixture of just that.
    """

    def __init__(self, run: Run) -> None:
        recipe, model = run.recipe, run.task.model
        assert isinstance(recipe, VideoBaselineRecipe)
        assert isinstance(model, VideoBaseline)
        self.clip_frames = recipe.model.clip_frames
        self.frame_step = recipe.data.frame_step
        self.frame_size = recipe.model.frame_size
        self.motion_dim = recipe.model.dynamics_dim
        self.appearance_dim = model.pooled_dim
        self._model = model
        self._device = run.device

    @torch.inference_mode()
    def encode_batch(self, frames: Tensor) -> tuple[Vectors, Vectors]:
        """See `RunEncoder`."""
        dynamics, pooled = self._model.encode(to_model(frames.to(self._device), self.frame_size))
        return dynamics.cpu().numpy(), pooled.cpu().numpy()


def load(folder: Path, device: torch.device | None) -> VideoBaselineEncoder:
    """The encoder of a folder with a video-baseline recipe. Raises a RunError if its weights cannot be read."""
    return VideoBaselineEncoder(load_run(folder, device))
