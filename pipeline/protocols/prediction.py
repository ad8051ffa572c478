"""How near predicted frames are to the true ones, beside copying the last one, and beside a run without actions.

Only predicted frames count, never the context: each frame is compared, then the mean is taken over frames and clips.
The measures are those of `kineme.pipeline.frame_errors`: ``psnr`` takes the squared error of a whole frame, all its
channels in one; ``psnr_channelwise`` is the mean of each channel's; ``mse`` and ``mae`` are summed over the pixels.

Of a model that draws a future from noise:

    psnr, ...            of one draw
    psnr_mean_of_n       of the mean of N drawn pictures: what squared error rewards, blurred where futures differ
    psnr_best_of_n       of the draw, of N, that has the highest mean over the frames of its clip (SVG, Denton and
                         Fergus 2018); for SSIM that with the highest mean SSIM. It knows the truth: it says whether the
                         truth is among the draws, not how good one of them is.
    spread_over_error    how far N draws lie apart beside how wrong their mean is: 1 where the model is as sure as it
                         should be, below 1 where it is too sure (spread-skill ratio, Fortin et al. 2014, "Why should
                         ensemble spread match the RMSE of the ensemble mean?"); over all pixels, frames and clips.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kineme.pipeline.errors import RunError
from kineme.pipeline.frame_errors import mae, mse, psnr, psnr_channelwise, ssim
from kineme.pipeline.frames import to_model
from kineme.pipeline.generation import prediction_task
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.judged import joined
from kineme.pipeline.protocols.object_error import has_objects, object_errors
from kineme.pipeline.recipe_sections import Count, Seed
from kineme.pipeline.run import Run, load_run
from kineme.pipeline.tasks import TrainingClips
from kineme.pipeline.tasks.prediction import PredictionTask
from kineme.shards.loader import clip_loader

BATCH = 32
SAMPLES = 10
MEASURES = {"psnr": psnr, "psnr_channelwise": psnr_channelwise, "ssim": ssim, "mse": mse, "mae": mae}

SPREAD, ERROR = "variance_about_mean_of_n", "mse_mean_of_n"
"""How far a further draw, and the truth, lie from the mean of N draws: as `mse`."""

Curves = dict[str, Tensor]
"""Errors by name, frame by frame: (B, T - context) each."""


@torch.inference_mode()
def measure_prediction(
    run: Run,
    shards: Path,
    split: str,
    *,
    samples: Count | None = None,
    without_actions: Path | None = None,
    seed: Seed = 0,
) -> Metrics:
    """Figures ``prediction/NAME``, ``prediction/NAME/frame_1`` and so on for each predicted frame; ``clips, samples``.

    psnr, psnr_channelwise, ssim, mse and mae of one draw; psnr and ssim ``_mean_of_n`` and ``_best_of_n``, and
    ``spread_over_error``, where there are several; psnr, ssim, mse and mae ``_copy_last``, the last context frame again
    and again, and ``gain_over_copy_last``, psnr less this; ``psnr_linear``, the change between the last two context
    frames carried on, pixel by pixel, cut to [0, 1], where there are two. With ``without_actions`` also
    ``psnr_without_actions``, the other run's, and ``action_gain``, psnr less this.

    Of simulated pushing, see `kineme.pipeline.protocols.object_error`: ``objects``, how many pushed ones are looked for
    in the last predicted frame; ``object_error_px``, their mean distance from where they should be, pixels of the
    stored frame; ``objects_found``, the share of them that is seen at all; ``object_error_px_truth``, that distance in
    the true frame; ``object_error_px_still``, had they stayed where the context left them; and with the other run
    ``object_error_px_without_actions`` and ``objects_found_without_actions``.

    Args:
        run: one that predicts frames.
        shards: ingested data.
        split: what is measured.
        samples: N, futures drawn of each clip, the first of which is the one draw; 10 if left out, 1 for a model that
            always draws the same.
        without_actions: folder of a run that is told no actions, on clips and frames like this one's.
        seed: of the noise; the first draws do not depend on how many follow.

    Raises:
        RunError: another kind of run; several samples of a model that draws the same; a run without actions where there
            should be some, or with actions where there should be none, or of other clips.
        DataError: the shards hold no clips of the split.
    """
    task, data = prediction_task(run), run.recipe.data
    noise_dim = task.model.noise_dim
    count = samples or (SAMPLES if noise_dim else 1)
    if count > 1 and not noise_dim:
        raise RunError(f"--option samples={count}: {run.folder} always draws the same future; leave it out")
    other = None if without_actions is None else _other_task(run, without_actions)
    loader = clip_loader(
        shards, batch_size=BATCH, clip_frames=data.clip_frames, frame_step=data.frame_step, split=split
    )
    # One for each draw of a clip, and one for the other run: none depends on how many there are.
    other_noise, *noises = (
        torch.Generator().manual_seed(int(state)) for state in np.random.SeedSequence(seed).generate_state(1 + count)
    )
    curves: list[Curves] = []
    objects: list[dict[str, Tensor]] = []
    for batch in loader:
        frames = to_model(batch.frames.to(run.device), task.frame_size)
        actions = None if batch.actions is None else batch.actions.to(run.device)
        clips = TrainingClips(frames, actions, batch.keypoints, batch.records)
        seen, future = frames[:, : task.context], frames[:, task.context :]
        draws = (_draw(task, clips, noise) for noise in noises)
        drawn = {"": next(draws)}
        errors = {name: measure(drawn[""], future) for name, measure in MEASURES.items()}
        if count > 1:
            errors |= several(drawn[""], draws, future)
        errors |= baselines(seen, future)
        errors["gain_over_copy_last"] = errors["psnr"] - errors["psnr_copy_last"]
        if other is not None:
            drawn["_without_actions"] = _draw(other, clips, other_noise)
            errors["psnr_without_actions"] = psnr(drawn["_without_actions"], future)
            errors["action_gain"] = errors["psnr"] - errors["psnr_without_actions"]
        curves.append(errors)
        if batch.keypoints is not None and has_objects(batch.records[0].dataset):
            ends = {suffix: frames[:, -1] for suffix, frames in drawn.items()}
            places = batch.keypoints[:, [task.context - 1, -1]]
            height, width = batch.frames.shape[-2:]
            objects.append(object_errors(seen[:, -1], future[:, -1], ends, places, (height, width)))
    return {"clips": sum(len(of_batch["psnr"]) for of_batch in curves), "samples": count, **figures_of(curves, objects)}


def several(first: Tensor, others: Iterable[Tensor], future: Tensor) -> Curves:
    """Curves of the mean picture, and of the best draw of each clip, of all draws (B, T, C, H, W) of a future.

    And `SPREAD` and `ERROR`, of which spread_over_error is made. The draws are had one after the other; what is kept
    is the sum of them.
    """
    # Of differences from the first: sums of the draws themselves would lose what they differ by.
    nothing = torch.zeros_like(first)
    total, squares, count = nothing, mse(nothing, nothing), 1
    best = {name: MEASURES[name](first, future) for name in ("psnr", "ssim")}
    for drawn in others:
        total = total + (drawn - first)
        squares = squares + mse(drawn, first)
        count += 1
        for name, so_far in best.items():
            curve = MEASURES[name](drawn, future)
            better = curve.mean(dim=1) > so_far.mean(dim=1)
            best[name] = torch.where(better[:, None], curve, so_far)
    mean = first + total / count
    variance = (squares - count * mse(total / count, nothing)) / (count - 1)
    return {
        **{f"{name}_mean_of_n": MEASURES[name](mean, future) for name in best},
        **{f"{name}_best_of_n": curve for name, curve in best.items()},
        # A further draw lies from the mean of N as far as from the mean of all, and that from it a share of 1 / N.
        SPREAD: variance * (1 + 1 / count),
        ERROR: mse(mean, future),
    }


def baselines(seen: Tensor, future: Tensor) -> Curves:
    """Curves of what needs no model, from the context (B, N, C, H, W) and the frames that follow it."""
    last = seen[:, -1:]
    copied = last.expand_as(future)
    curves = {f"{name}_copy_last": MEASURES[name](copied, future) for name in ("psnr", "ssim", "mse", "mae")}
    if seen.shape[1] > 1:
        steps = torch.arange(1, future.shape[1] + 1, device=seen.device).view(1, -1, 1, 1, 1)
        curves["psnr_linear"] = psnr((last + steps * (last - seen[:, -2:-1])).clamp(0, 1), future)
    return curves


def _draw(task: PredictionTask, clips: TrainingClips, noise: torch.Generator) -> Tensor:
    """The frames after the context, (B, T - context, C, S, S), from noise that is the same on every device."""
    batch, time = clips.frames.shape[:2]
    behind = torch.randn(batch, time - 1, task.model.noise_dim, generator=noise)
    return task.predict(clips, behind.to(clips.frames.device))


def figures_of(curves: list[Curves], objects: list[dict[str, Tensor]]) -> Metrics:
    """Figures ``prediction/NAME`` and ``prediction/NAME/frame_1`` ... from errors by batch, and those of objects."""
    metrics: Metrics = {}
    figures = joined(curves)
    if SPREAD in figures:
        spread, error = figures.pop(SPREAD).mean(dim=0), figures.pop(ERROR).mean(dim=0)
        metrics["prediction/spread_over_error"] = (spread.mean() / error.mean()).sqrt().item()
        for step, value in enumerate((spread / error).sqrt().tolist(), start=1):
            metrics[f"prediction/spread_over_error/frame_{step}"] = value
    for name, curve in figures.items():
        metrics[f"prediction/{name}"] = curve.mean().item()
        for step, value in enumerate(curve.mean(dim=0).tolist(), start=1):
            metrics[f"prediction/{name}/frame_{step}"] = value
    if objects:
        of_objects = joined(objects)
        metrics["prediction/objects"] = len(of_objects["object_error_px"])
        # Where none was pushed there is nothing to take a mean of.
        if metrics["prediction/objects"]:
            metrics |= {f"prediction/{name}": values.mean().item() for name, values in of_objects.items()}
    return metrics


def _other_task(run: Run, folder: Path) -> PredictionTask:
    """The task of the run without actions, beside ``run``; raises a RunError where it is none, or of other clips."""
    given = f"--option without_actions={folder}"
    own, other_run = prediction_task(run), load_run(folder, run.device)
    other = prediction_task(other_run)
    if not own.model.condition_dim:
        raise RunError(f"{given}: {run.folder} has no actions itself; measure a run that was trained with them")
    if other.model.condition_dim:
        raise RunError(
            f"{given}: was trained with {other.model.condition_dim} numbers a frame; train one with "
            "--set model.condition_dim=0"
        )
    data, other_data = run.recipe.data, other_run.recipe.data
    for setting, value, of_run in (
        ("objective.context", other.context, own.context),
        ("model.frame_size", other.frame_size, own.frame_size),
        ("data.frame_step", other_data.frame_step, data.frame_step),
        ("data.clip_frames", other_data.clip_frames, data.clip_frames),
    ):
        if value != of_run:
            raise RunError(
                f"{given}: has {setting} {value}, {run.folder} has {of_run}; train one with --set {setting}={of_run}"
            )
    return other
