"""The encoder of a trained sequential VAE."""

from __future__ import annotations

import zlib
from pathlib import Path

import torch
from torch import Tensor

from kineme.models.sequential_vae import SequentialVAE
from kineme.pipeline.encoders import RunEncoder
from kineme.pipeline.frames import to_model
from kineme.pipeline.recipe import SequentialVAERecipe
from kineme.pipeline.run import Run, load_run
from kineme.retrieval.vectors import Vectors


class SequentialVAEEncoder(RunEncoder):
    """A trained sequential VAE.

    appearance is the posterior mean of the content f. motion is that of z_1..z_T, flattened: with
    ``motion_vector: states`` as it is, with ``changes`` the T-1 differences z_{t+1} - z_t, which forget where in the
    frame something moves and keep how. With ``drawn``, motion is a draw from the posterior: the means of clips that
    move alike are a small part of a deviation apart, and that part, which tells who moves, would decide their order; in
    a draw it counts as little as the posterior makes of it. The same frames always give the same draw, frames that
    differ by a bit another one.
    """

    def __init__(self, run: Run) -> None:
        recipe, model = run.recipe, run.task.model
        assert isinstance(recipe, SequentialVAERecipe)
        assert isinstance(model, SequentialVAE)
        self.clip_frames = recipe.encode_frames
        self.frame_step = recipe.data.frame_step
        self.frame_size = recipe.model.frame_size
        self._changes = recipe.motion_vector == "changes"
        self._drawn = recipe.motion_vector == "drawn"
        self.motion_dim = (self.clip_frames - self._changes) * recipe.model.z_dim
        self.appearance_dim = recipe.model.f_dim
        self._model = model
        self._device = run.device

    @torch.inference_mode()
    def encode_batch(self, frames: Tensor) -> tuple[Vectors, Vectors]:
        """See `RunEncoder`."""
        f, z = self._model.encode(to_model(frames.to(self._device), self.frame_size))
        motion = z.sample(_noise_of(frames, z.mean)) if self._drawn else z.mean
        if self._changes:
            motion = motion.diff(dim=1)
        return motion.flatten(1).cpu().numpy(), f.mean.cpu().numpy()


def _noise_of(frames: Tensor, like: Tensor) -> Tensor:
    """Standard normal noise of the shape and device of ``like``, for each clip by the bytes of its frames."""
    seeds = [zlib.crc32(clip.cpu().contiguous().numpy().tobytes()) for clip in frames]
    noises = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(noises).to(like.device)


def load(folder: Path, device: torch.device | None) -> SequentialVAEEncoder:
    """The encoder of a folder with a sequential-vae recipe. Raises a RunError if its weights cannot be read."""
    return SequentialVAEEncoder(load_run(folder, device))
