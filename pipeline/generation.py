"""What trained runs draw: the frames that come next, and one clip's content with another's motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kineme.models.next_frames import predict as draw_next
from kineme.models.sequential_vae import SequentialVAE
from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.clips import NamedClip, read_clip
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


@torch.inference_mode()
def predict(
    run: Run, clip: Path, *, context: int, horizon: int, actions: Path | None = None, seed: int = 0
) -> tuple[Frames, float]:
    """The first ``context`` frames of a clip followed by ``horizon`` drawn ones, and their frame rate.

    Args:
        run: a frame-predictor run.
        clip: a video.
        context: true frames to start from, at least 1.
        horizon: frames to draw, at least 1.
        actions: NumPy file (context + horizon, A), for runs trained with actions.
        seed: of the drawn latents.

    Returns:
        (context + horizon, H, W, 3) uint8 at the model's frame size.

    Raises:
        RunError: another kind of run, a number below 1, or actions that do not fit.
        DataError: the clip cannot be read or is shorter than the context.
    """
    task = prediction_task(run)
    for name, value in (("context", context), ("horizon", horizon)):
        if value < 1:
            raise RunError(f"--{name} {value}: at least 1 is needed")
    read = _read(run, clip, context, task.frame_size)
    stored = _load_actions(actions, context + horizon, task.model.condition_dim, run.device)
    truth = _on(run, read)
    torch.manual_seed(seed)
    drawn = draw_next(task.model, truth, horizon, task.condition(stored))
    return to_uint8(torch.cat([truth, drawn], dim=1))[0].numpy(), read.fps


@torch.inference_mode()
def swap(run: Run, *, statics: Path, dynamics: Path) -> tuple[dict[str, Frames], float]:
    """What ``statics`` shows, moving as ``dynamics`` does.

    The decoder gets f of the one clip and z_t of the other in a sequential VAE, S and p_t in a statics/dynamics run.

    Returns:
        Film strips by name, (T, H, W, 3) uint8: both clips and the result; and the frame rate of ``dynamics``.

    Raises:
        RunError: a run of another kind.
        DataError: a clip cannot be read or is too short.
    """
    recipe, model = run.recipe, run.task.model
    if isinstance(recipe, SequentialVAERecipe):
        clip_frames = recipe.encode_frames
    elif isinstance(recipe, StaticsDynamicsRecipe):
        clip_frames = recipe.model.clip_frames
    else:
        raise RunError(
            f"{run.folder}: a {recipe.kind} run has no statics to swap; give a run of a statics-dynamics or "
            "sequential-vae recipe"
        )
    reads = {
        name: _read(run, path, clip_frames, recipe.model.frame_size)
        for name, path in (("statics", statics), ("dynamics", dynamics))
    }
    shown, moving = (_on(run, reads[name]) for name in ("statics", "dynamics"))
    if isinstance(model, SequentialVAE):
        drawn = model.decode(model.encode(shown)[0].mean, model.encode(moving)[1].mean)
    else:
        assert isinstance(model, StaticsDynamics)
        drawn = model.draw(model.encode(moving).frame_dynamics, model.encode(shown).statics)
    strips = {name: read.frames for name, read in reads.items()}
    return {**strips, "result": to_uint8(drawn)[0].numpy()}, reads["dynamics"].fps


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
    read = _read(run, clip, recipe.model.clip_frames, recipe.model.frame_size)
    strips = run.task.pictures(TrainingClips(_on(run, read), None, None, ()))
    # A clip by itself has no next one to take the motion from.
    return {name: to_uint8(strip)[0].numpy() for name, strip in strips.items() if name != "motion of the next"}


def _read(run: Run, clip: Path, frames: int, size: int) -> NamedClip:
    """A clip at the rate of those that the run was trained on, where they have one; else at its own."""
    data = run.recipe.data
    return read_clip(
        clip, clip_frames=frames, frame_size=size, fps=None if data.fps is None else data.fps / data.frame_step
    )


def _on(run: Run, clip: NamedClip) -> Tensor:
    frames = torch.from_numpy(np.ascontiguousarray(clip.frames)).movedim(-1, 1)[None]
    return to_model(frames.to(run.device), clip.frames.shape[1])


def _load_actions(path: Path | None, frames: int, dim: int, device: torch.device) -> Tensor | None:
    if path is None and not dim:
        return None
    if path is None:
        raise RunError(f"--actions is missing: the run was trained with {dim} numbers a frame; give ({frames}, {dim})")
    if not dim:
        raise RunError(f"--actions {path}: the run was trained without actions; leave them out")
    if not path.is_file():
        raise RunError(f"{path}: there is no such file of actions")
    try:
        actions = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RunError(f"{path}: not a NumPy array of numbers: {error}") from None
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "iuf":
        raise RunError(f"{path}: not one array of numbers; write it with numpy.save")
    if actions.ndim != 2 or len(actions) < frames or actions.shape[1] != dim:
        raise RunError(f"{path}: actions of shape {actions.shape}, but {frames} frames need ({frames}, {dim})")
    return torch.from_numpy(actions[None, :frames].astype(np.float32)).to(device)
