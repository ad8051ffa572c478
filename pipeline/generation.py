"""What trained runs make of clips that a user names: one's content with another's motion, and what is inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kineme.models.sequential_vae import SequentialVAE
from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.clips import read_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model, to_uint8
from kineme.pipeline.recipe import SequentialVAERecipe, StaticsDynamicsRecipe
from kineme.pipeline.run import Run
from kineme.pipeline.tasks import TrainingClips
from kineme.pipeline.tasks.prediction import PredictionTask
from kineme.shards.sample import Frames


def prediction_task(run: Run) -> PredictionTask:
    """The task of a run that predicts frames.

    Raises:
        RunError: the run is of another kind.
    """
    if not isinstance(run.task, PredictionTask):
        raise RunError(
            f"{run.folder}: a {run.recipe.kind} run predicts no frames; give a run of a frame-predictor or "
            "kernel-predictor recipe"
        )
    return run.task


def sequential_vae_of(run: Run) -> SequentialVAE:
    """The network of a sequential-vae run.

    Raises:
        RunError: the run is of another kind.
    """
    model = run.task.model
    if not isinstance(model, SequentialVAE):
        raise RunError(
            f"{run.folder}: a {run.recipe.kind} run has no f and z to draw; give a run of a sequential-vae recipe"
        )
    return model


def swap(run: Run, *, statics: Path, dynamics: Path) -> tuple[dict[str, Frames], float]:
    """What ``statics`` shows, moving as ``dynamics`` does.

    The decoder gets f of the one clip and z_t of the other in a sequential VAE, S and p_t in a statics/dynamics run.

    Returns:
        Film strips by name, (T, H, W, 3) uint8: both clips and the result; and the frame rate of ``dynamics``.

    Raises:
        RunError: a run of another kind.
        DataError: a clip cannot be read or is too short.
    """
    clip_frames, size = swap_frames(run)
    reads = {
        name: read_clip(path, clip_frames=clip_frames, frame_size=size, fps=clip_rate(run))
        for name, path in (("statics", statics), ("dynamics", dynamics))
    }
    strips = {name: read.frames for name, read in reads.items()}
    return {**strips, "result": swapped(run, strips["statics"], strips["dynamics"])}, reads["dynamics"].fps


def swap_frames(run: Run) -> tuple[int, int]:
    """How many frames a run takes of a clip to swap, and their height and width in pixels.

    Raises:
        RunError: a run of another kind.
    """
    recipe = run.recipe
    if isinstance(recipe, SequentialVAERecipe):
        return recipe.encode_frames, recipe.model.frame_size
    if isinstance(recipe, StaticsDynamicsRecipe):
        return recipe.model.clip_frames, recipe.model.frame_size
    raise RunError(
        f"{run.folder}: a {recipe.kind} run has no statics to swap; give a run of a statics-dynamics or "
        "sequential-vae recipe"
    )


@torch.inference_mode()
def swapped(run: Run, statics: Frames, dynamics: Frames) -> Frames:
    """What one clip shows, moving as another does.

    Args:
        run: one that `swap_frames` takes.
        statics, dynamics: the clips, (T, S, S, 3) uint8 with T and S as `swap_frames` says.

    Returns:
        (T, S, S, 3) uint8.
    """
    model = run.task.model
    shown, moving = as_batch(run, statics), as_batch(run, dynamics)
    if isinstance(model, SequentialVAE):
        drawn = model.decode(model.encode(shown)[0].mean, model.encode(moving)[1].mean)
    else:
        assert isinstance(model, StaticsDynamics)
        drawn = model.draw(model.encode(moving).frame_dynamics, model.encode(shown).statics)
    film: Frames = to_uint8(drawn)[0].numpy()
    return film


@torch.inference_mode()
def look_inside(run: Run, clip: Path) -> dict[str, Frames]:
    """What a statics/dynamics run makes of a clip: the truth, S drawn, S warped to each frame, the reconstructions.

    Returns:
        Film strips by name, (T, H, W, 3) uint8.

    Raises:
        RunError: a run of another kind.
        DataError: the clip cannot be read or is too short.
    """
    recipe = run.recipe
    if not isinstance(recipe, StaticsDynamicsRecipe):
        raise RunError(f"{run.folder}: a {recipe.kind} run has no S and p_t to show; give one of statics-dynamics")
    size, frames = recipe.model.frame_size, recipe.model.clip_frames
    read = read_clip(clip, clip_frames=frames, frame_size=size, fps=clip_rate(run))
    strips = run.task.pictures(TrainingClips(as_batch(run, read.frames), None, None, ()))
    # A clip by itself has no next one to take the motion from.
    return {name: to_uint8(strip)[0].numpy() for name, strip in strips.items() if name != "motion of the next"}


def clip_rate(run: Run) -> float | None:
    """Frames per second of the clips that a run was trained on; None where they had no common rate."""
    data = run.recipe.data
    return None if data.fps is None else data.fps / data.frame_step


def as_batch(run: Run, frames: Frames) -> Tensor:
    """Square frames (T, S, S, 3) uint8 as a batch of one clip on the run's device, (1, T, 3, S, S) in [0, 1]."""
    clip = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1)[None]
    return to_model(clip.to(run.device), frames.shape[1])
