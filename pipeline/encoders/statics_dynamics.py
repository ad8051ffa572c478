"""The encoder of a trained statics/dynamics run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.encoders import RunEncoder
from kineme.pipeline.frames import to_model
from kineme.pipeline.recipe import StaticsDynamicsRecipe
from kineme.pipeline.run import Run, load_run
from kineme.retrieval.vectors import Vectors


class StaticsDynamicsEncoder(RunEncoder):
    """motion is the video dynamics P, appearance what is read from the video statics S (thesis chapter 7)."""

    def __init__(self, run: Run) -> None:
        recipe, model = run.recipe, run.task.model
        assert isinstance(recipe, StaticsDynamicsRecipe)
        assert isinstance(model, StaticsDynamics)
        self.clip_frames = recipe.model.clip_frames
        self.frame_step = recipe.data.frame_step
        self.frame_size = recipe.model.frame_size
        self.motion_dim = recipe.model.dynamics_dim
        self.appearance_dim = recipe.model.appearance_dim or recipe.model.latent_channels
        self._model = model
        self._device = run.device

    @torch.inference_mode()
    def encode_batch(self, frames: Tensor) -> tuple[Vectors, Vectors]:
        """See `RunEncoder`."""
        statics, dynamics = self._model.video_encoder(to_model(frames.to(self._device), self.frame_size))
        return dynamics.cpu().numpy(), self._model.appearance(statics).cpu().numpy()

    @torch.inference_mode()
    def frame_dynamics(self, frames: Tensor) -> Vectors:
        """p_1..p_T in a row: uint8 frames (B, T, C, H, W) -> (B, T * frame_dim) float32."""
        encoding = self._model.encode(to_model(frames.to(self._device), self.frame_size))
        vectors: Vectors = encoding.frame_dynamics.flatten(1).cpu().numpy()
        return vectors


def load(folder: Path, device: torch.device | None) -> StaticsDynamicsEncoder:
    """The encoder of a folder with a statics-dynamics recipe. Raises a RunError if its weights cannot be read."""
    return StaticsDynamicsEncoder(load_run(folder, device))
