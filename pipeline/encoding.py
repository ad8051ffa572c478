"""From clips to vectors: the encoders of trained runs, behind the protocol that retrieval knows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kineme.models.sequential_vae import SequentialVAE
from kineme.pipeline.clips import read_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model
from kineme.pipeline.recipe import SequentialVAERecipe
from kineme.pipeline.run import RECIPE, WEIGHTS, Run, load_run
from kineme.retrieval.vectors import ClipEncoder, ClipVectors, Vectors
from kineme.shards.loader import clip_loader
from kineme.shards.sample import ClipRecord, Frames


class SequentialVAEEncoder:
    """A trained sequential VAE as a `ClipEncoder`.

    appearance is the posterior mean of the content f. motion is that of z_1..z_T, flattened: with
    ``motion_vector: states`` as it is, with ``changes`` the T-1 differences z_{t+1} - z_t, which forget where in the
    frame something moves and keep how.
    """

    def __init__(self, run: Run) -> None:
        recipe, model = run.recipe, run.task.model
        if not isinstance(recipe, SequentialVAERecipe) or not isinstance(model, SequentialVAE):
            raise RunError(f"{run.folder}: a {recipe.kind} run encodes no clips; give a run of a sequential-vae recipe")
        self.clip_frames = recipe.encode_frames
        self.frame_step = recipe.data.frame_step
        self.frame_size = recipe.model.frame_size
        self._changes = recipe.motion_vector == "changes"
        self.motion_dim = (self.clip_frames - self._changes) * recipe.model.z_dim
        self.appearance_dim = recipe.model.f_dim
        self._model = model
        self._device = run.device

    @torch.inference_mode()
    def encode_batch(self, frames: Tensor) -> tuple[Vectors, Vectors]:
        """uint8 frames (B, T, C, H, W) -> motion (B, motion_dim) and appearance (B, appearance_dim), float32."""
        f, z = self._model.encode(to_model(frames.to(self._device), self.frame_size))
        motion = z.mean.diff(dim=1) if self._changes else z.mean
        return motion.flatten(1).cpu().numpy(), f.mean.cpu().numpy()

    def encode(self, frames: Frames) -> tuple[Vectors, Vectors]:
        """uint8 frames (B, T, H, W, 3) -> motion and appearance, float32 (the `ClipEncoder` protocol)."""
        return self.encode_batch(torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 2))


def load_encoder(run: Path, device: torch.device | None = None) -> SequentialVAEEncoder:
    """The encoder of a run folder, or of the encoder folder of an index.

    Raises:
        RunError: the folder holds no run, or one that encodes nothing.
    """
    return SequentialVAEEncoder(load_run(run, device))


def encoder_files(run: Path) -> dict[str, Path]:
    """What an index must copy to encode queries by itself: name in its encoder folder -> file."""
    return {name: run / name for name in (RECIPE, WEIGHTS)}


def encode_shards(
    encoder: SequentialVAEEncoder, shards: Path, *, split: str | None = None, batch_size: int = 64, workers: int = 0
) -> tuple[ClipVectors, list[ClipRecord]]:
    """Encode every clip of the shards, in their order."""
    loader = clip_loader(
        shards,
        batch_size=batch_size,
        clip_frames=encoder.clip_frames,
        frame_step=encoder.frame_step,
        split=split,
        workers=workers,
    )
    motion, appearance, records = [], [], []
    for batch in loader:
        m, a = encoder.encode_batch(batch.frames)
        motion.append(m)
        appearance.append(a)
        records.extend(batch.records)
    vectors = ClipVectors([record.key for record in records], np.concatenate(motion), np.concatenate(appearance))
    return vectors, records


def read_query_clip(
    path: Path, encoder: ClipEncoder, *, fps: float | None = None, stored_size: int | None = None
) -> Frames:
    """A query's frames, sampled and sized as the indexed clips were; says on stderr what it took.

    Args:
        path: a video.
        encoder: what will encode it; it resizes to its own frame size itself.
        fps: rate of the indexed clips; the video's own if not given.
        stored_size: size of the indexed clips' frames, pixels; the encoder's if not given.
    """
    size = stored_size or encoder.frame_size
    clip = read_clip(path, clip_frames=encoder.clip_frames, frame_size=size, fps=fps)
    taken = f"{len(clip.frames)} frames, resized to {size}x{size} px, at {clip.fps:g} frames a second"
    more = f"; the video holds {clip.clips} such clips, this is the first" if clip.clips > 1 else ""
    print(f"{path}: the query is {taken}{more}", file=sys.stderr)
    return clip.frames
