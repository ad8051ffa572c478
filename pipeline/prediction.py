"""What comes next in a clip that a user names: one future or several, drawn frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kineme.models.compiled_predictor import CompiledPredictor
from kineme.models.next_frames import NextFramePredictor, rollout
from kineme.pipeline.action_files import read_actions
from kineme.pipeline.clips import Beginning, read_beginning
from kineme.pipeline.compiling import compiling
from kineme.pipeline.errors import RunError
from kineme.pipeline.generation import as_batch, clip_rate, prediction_task
from kineme.pipeline.run import Run
from kineme.shards.errors import DataError
from kineme.shards.sample import Frames

MOST_HELD = 1000
"""The longest horizon that is drawn without ``stream``."""


@dataclass(frozen=True)
class Prediction:
    """Futures of a clip. They are drawn while ``frames`` is read, and it can be read once.

    Attributes:
        context: frames given, the first ones.
        horizon: frames drawn after them.
        seeds: one for each future.
        frames: context + horizon frames of all futures, each (len(seeds), 3, S, S) in [0, 1] at the model's size.
        truth: as many of these frames as the clip has, (T, S, S, 3) uint8; None where it ends with the context, and for
            a stream.
        fps: rate of the frames.
        notes: what was made of the clip before the model saw it, a line each.
    """

    context: int
    horizon: int
    seeds: Sequence[int]
    frames: Iterator[Tensor]
    truth: Frames | None
    fps: float
    notes: Sequence[str]


def predict(
    run: Run,
    clip: Path,
    *,
    context: int | None = None,
    horizon: int | None = None,
    actions: Path | None = None,
    samples: int = 1,
    seed: int = 0,
    stream: bool = False,
    compiled: bool = False,
) -> Prediction:
    """The first frames of a clip, followed by what a run draws.

    What is held while the frames are read does not grow with their number, but for a row of actions each.

    Args:
        run: of a kind that predicts frames.
        clip: a video, sampled at the rate of the clips that the run was trained on, or a folder of numbered images, a
            frame each.
        context: true frames to start from, at least 1; the number that the run was trained with if not given.
        horizon: frames to draw, at least 1; if not given, what is left of a clip of the training after the context.
        actions: NumPy file of at least context + horizon rows, for a run trained with actions. Row t is what is stored
            with frame t: the action taken there, which leads to frame t + 1, and the state there.
        samples: futures to draw, at least 1, from the seeds ``seed``, ``seed`` + 1 and so on.
        seed: of the noise; the same seed draws the same frames on the same device.
        stream: allow a horizon beyond `MOST_HELD`, and read no truth.
        compiled: let torch compile the step from frame to frame: a minute or more before the first, for many of them.

    Raises:
        RunError: another kind of run, a number out of its range, several samples of a run that always draws the same,
            or actions that do not fit.
        DataError: the clip cannot be read or is shorter than the context.
    """
    task = prediction_task(run)
    context, horizon = _lengths(run, task.context, context, horizon)
    if horizon > MOST_HELD and not stream:
        raise RunError(
            f"--horizon {horizon}: more than {MOST_HELD} frames are drawn with --stream only, which writes an .mp4 "
            "while they come"
        )
    if samples < 1:
        raise RunError(f"--samples {samples}: at least 1 is needed")
    if not 0 <= seed < 2**32:
        raise RunError(f"--seed {seed}: a number from 0 to 4294967295 is needed")
    if samples > 1 and not task.model.noise_dim:
        raise RunError(
            f"--samples {samples}: {run.folder} always draws the same future, for it was trained with model.latent_dim "
            "0; leave it out"
        )
    condition = task.condition(_actions(actions, context + horizon, task.model.condition_dim, run.device))
    read = read_beginning(
        clip, most_frames=context if stream else context + horizon, frame_size=task.frame_size, fps=clip_rate(run)
    )
    if len(read.frames) < context:
        raise DataError(
            f"{clip}: has {count_of(len(read.frames), 'frame')} at {read.fps:g} a second, fewer than --context "
            f"{context}; lower it, or give a longer clip"
        )
    if actions is not None and not _same_rate(read):
        raise RunError(
            f"{clip}: {read.source_fps:g} frames a second are sampled at the {read.fps:g} of the training, and "
            f"{actions} has a row for each frame of one of them; give a clip of {read.fps:g} frames a second"
        )
    model: NextFramePredictor = CompiledPredictor(task.model) if compiled else task.model
    seeds = range(seed, seed + samples)
    return Prediction(
        context=context,
        horizon=horizon,
        seeds=seeds,
        frames=draw_futures(run, model, read.frames[:context], horizon, condition, seeds),
        truth=read.frames if len(read.frames) > context else None,
        fps=read.fps,
        notes=_notes(clip, read),
    )


def count_of(number: int, thing: str) -> str:
    """Such as "1 frame" or "3 frames"."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


@torch.inference_mode()
def draw_futures(
    run: Run, model: NextFramePredictor, seen: Frames, horizon: int, condition: Tensor | None, seeds: Sequence[int]
) -> Iterator[Tensor]:
    """`Prediction.frames`. Each future is drawn by itself: in a batch, rounding would depend on how many there are.

    Args:
        run: the model's.
        model: the predictor.
        seen: the context, (T, S, S, 3) uint8.
        horizon: frames to draw.
        condition: as of `kineme.models.next_frames.rollout`.
        seeds: one for each future.
    """
    given = as_batch(run, seen)
    for frame in given[0]:
        yield frame.expand(len(seeds), *frame.shape)
    futures = [
        rollout(model, given, horizon, condition, generator=torch.Generator(run.device).manual_seed(seed))
        for seed in seeds
    ]
    with compiling("--compile is given", "leave it out"):
        for drawn in zip(*futures, strict=True):
            yield torch.cat(drawn)


def _lengths(run: Run, trained: int, context: int | None, horizon: int | None) -> tuple[int, int]:
    """Context and horizon as given, or as the run was trained."""
    context = trained if context is None else context
    clip_frames = run.recipe.data.clip_frames
    if horizon is None and context >= clip_frames:
        raise RunError(
            f"--context {context}: the clips of the training have {clip_frames} frames, so that none is left to draw; "
            "lower it, or give --horizon, too"
        )
    horizon = clip_frames - context if horizon is None else horizon
    for name, value in (("context", context), ("horizon", horizon)):
        if value < 1:
            raise RunError(f"--{name} {value}: at least 1 is needed")
    return context, horizon


def _actions(path: Path | None, frames: int, dim: int, device: torch.device) -> Tensor | None:
    if path is None and not dim:
        return None
    if path is None:
        raise RunError(f"--actions is missing: the run was trained with {dim} numbers a frame; give ({frames}, {dim})")
    if not dim:
        raise RunError(f"--actions {path}: the run was trained without actions; leave them out")
    return torch.from_numpy(read_actions(path, frames, dim))[None].to(device)


def _notes(clip: Path, read: Beginning) -> list[str]:
    """What the model does not see as it is in the file."""
    notes = []
    (height, width), size = read.source_size, read.frames.shape[1]
    if (height, width) != (size, size):
        what = "" if height == width else "its middle square "
        done = f"resized to {size}x{size}" if min(height, width) != size else "is taken"
        notes.append(f"{clip}: {width}x{height} pixels, {what}{done}")
    if not _same_rate(read):
        own = f"{read.source_fps:g} frames a second"
        notes.append(
            f"{clip}: {own}, sampled at {read.fps:g}, the rate the run was trained at"
            if read.source_fps > read.fps
            else f"{clip}: {own}, fewer than the {read.fps:g} the run was trained at: frames are repeated, so that it "
            "moves in jerks; a clip of a higher rate is predicted better"
        )
    return notes


def _same_rate(read: Beginning) -> bool:
    # Rates such as 30000/1001 come rounded.
    return math.isclose(read.source_fps, read.fps, rel_tol=1e-3)
