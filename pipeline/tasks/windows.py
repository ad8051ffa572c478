"""Windows of ``model.clip_frames`` frames, for tasks whose clips may be longer (``data.clip_frames``)."""

from __future__ import annotations

import torch

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import StaticsDynamicsRecipe, VideoBaselineRecipe


def window_frames(recipe: StaticsDynamicsRecipe | VideoBaselineRecipe) -> int:
    """Frames of a window.

    Raises:
        RunError: the clips of the data section are shorter.
    """
    clip, window = recipe.data.clip_frames, recipe.model.clip_frames
    if clip < window:
        raise RunError(
            f"data.clip_frames is {clip}: a clip must have the {window} frames of model.clip_frames, or more"
        )
    return window


def random_window(clip_frames: int, window: int) -> slice:
    """A window of so many frames that starts at random, every start as likely."""
    start = int(torch.randint(clip_frames - window + 1, ()))
    return slice(start, start + window)
