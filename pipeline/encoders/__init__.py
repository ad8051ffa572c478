"""What turns clips into their two vectors, motion and appearance: one file an encoder, behind one protocol."""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import read_yaml
from kineme.pipeline.run import RECIPE, check_run
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.vectors import Vectors
from kineme.shards.sample import Frames

# A new encoder is a file and a line here.
ENCODERS = {
    "statics-dynamics": "statics_dynamics",
    "sequential-vae": "sequential_vae",
    "motion-histogram": "motion_histogram",
    "video-baseline": "video_baseline",
}
"""Kind of recipe -> the file here whose ``load(folder, device)`` gives its encoder."""


class RunEncoder(Protocol):
    """An encoder with all the pipeline needs of it; also a `kineme.retrieval.vectors.ClipEncoder`.

    Attributes:
        motion_dim: length Dm of a motion vector.
        appearance_dim: length Da of an appearance vector.
        clip_frames: frames T of a clip.
        frame_step: distance of two of them, in stored frames.
        frame_size: height and width that frames are resized to before they are encoded, pixels.
        metric: how its motion vectors are compared.
    """

    motion_dim: int
    appearance_dim: int
    clip_frames: int
    frame_step: int
    frame_size: int
    metric: Metric = "cosine"

    @abstractmethod
    def encode_batch(self, frames: Tensor) -> tuple[Vectors, Vectors]:
        """uint8 frames (B, T, C, H, W) of any size -> motion (B, Dm) and appearance (B, Da), float32."""

    def encode(self, frames: Frames) -> tuple[Vectors, Vectors]:
        """uint8 frames (B, T, H, W, 3) of any size -> motion (B, Dm) and appearance (B, Da), float32."""
        return self.encode_batch(torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 2))


def load_encoder(folder: Path, device: torch.device | None = None) -> RunEncoder:
    """The encoder of a run folder, or of the encoder folder of an index.

    Args:
        folder: with a recipe.yaml, and for a trained encoder its weights.
        device: where it computes; the GPU if there is one.

    Raises:
        RunError: the folder holds no recipe, one of a kind that encodes nothing, or no readable weights.
    """
    check_run(folder)
    kind = read_yaml(folder / RECIPE).get("kind")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise RunError(f"{folder}: a {kind} run encodes no clips; give a run of one of these: {', '.join(ENCODERS)}")
    encoder: RunEncoder = import_module(f"{__name__}.{ENCODERS[kind]}").load(folder, device)
    return encoder
