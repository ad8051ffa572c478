"""PSNR of predicted frames on a split, beside copying the last context frame.

Only predicted frames count, never the context. PSNR is of a whole frame with a peak of 1: 10 log10(1 / mean squared
error over its pixels and channels), then the mean over frames and clips, one sample each.
"""

from __future__ import annotations

from pathlib import Path

import torch

from kineme.pipeline.frame_errors import psnr
from kineme.pipeline.frames import to_model
from kineme.pipeline.generation import prediction_task
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.run import Run
from kineme.pipeline.tasks import TrainingClips
from kineme.shards.loader import clip_loader


@torch.inference_mode()
def measure_prediction(run: Run, shards: Path, split: str) -> Metrics:
    """``psnr`` and ``psnr_copy_last`` in dB, the same by predicted frame, and ``clips``."""
    task = prediction_task(run)
    data, context = run.recipe.data, task.context
    loader = clip_loader(shards, batch_size=64, clip_frames=data.clip_frames, frame_step=data.frame_step, split=split)
    torch.manual_seed(0)
    predicted, copied = [], []
    for batch in loader:
        frames = to_model(batch.frames.to(run.device), task.frame_size)
        actions = None if batch.actions is None else batch.actions.to(run.device)
        seen, future = frames[:, :context], frames[:, context:]
        predicted.append(psnr(task.predict(TrainingClips(frames, actions, None, batch.records)), future))
        copied.append(psnr(seen[:, -1:].expand_as(future), future))
    ours, copy_last = torch.cat(predicted), torch.cat(copied)
    metrics: Metrics = {
        "clips": len(ours),
        "psnr": ours.mean().item(),
        "psnr_copy_last": copy_last.mean().item(),
    }
    for step in range(ours.shape[1]):
        metrics[f"psnr/frame_{step + 1}"] = ours[:, step].mean().item()
        metrics[f"psnr_copy_last/frame_{step + 1}"] = copy_last[:, step].mean().item()
    return metrics
