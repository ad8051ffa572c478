"""Validation during training: a task's figures on clips that are held out, the same clips and draws each time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from kineme.pipeline.frames import to_model
from kineme.pipeline.recipe_sections import DataSection
from kineme.pipeline.tasks import Task, TrainingClips, Validates
from kineme.shards.batch import ClipBatch
from kineme.shards.hold_out import HoldOut
from kineme.shards.loader import clip_loader

MOST_CLIPS = 64
_BATCH = 16


def held_out_batches(data: DataSection, shards: Path, most: int = MOST_CLIPS) -> list[ClipBatch]:
    """Clips that ``data.held_out`` keeps out of the training, the first ones of the shards; none where it is 0.

    A clip is the first frames of a stored one, never augmented.

    Args:
        data: the recipe's section.
        shards: ingested clips.
        most: clips to read, a multiple of 16.

    Raises:
        DataError: none is held out, or they cannot be read or are too short.
    """
    if not data.held_out:
        return []
    loader = clip_loader(
        shards,
        batch_size=_BATCH,
        clip_frames=data.clip_frames,
        frame_step=data.frame_step,
        split=data.split,
        hold_out=HoldOut(data.held_out, taken=True),
    )
    return list(islice(loader, most // _BATCH))


def validate(task: Task, batches: Sequence[ClipBatch], device: torch.device, *, seed: int = 0) -> dict[str, float]:
    """What `Validates.validate` finds, by `mean_figures`; nothing without clips, or from a task that has none."""
    if not batches or not isinstance(task, Validates):
        return {}
    return mean_figures(task, task.validate, batches, device, seed=seed)


def mean_figures(
    task: Task,
    measure: Callable[[TrainingClips], Mapping[str, Tensor]],
    batches: Sequence[ClipBatch],
    device: torch.device,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Means over all clips, in the weights' precision, without gradients and in evaluation mode.

    The random numbers that are drawn after it are those that would have been drawn without it.

    Args:
        task: its network lies on ``device``.
        measure: from clips to named scalars, each a mean over the clips.
        batches: the clips, wherever they lie; at least one.
        device: where to compute.
        seed: of the numbers that ``measure`` draws.
    """
    sums: dict[str, float] = defaultdict(float)
    with evaluating(task.model, device, seed=seed):
        for batch in (batch.to(device) for batch in batches):
            frames = to_model(batch.frames, task.frame_size)
            clips = TrainingClips(frames, batch.actions, batch.keypoints, batch.records)
            for name, value in measure(clips).items():
                sums[name] += len(batch) * value.item()
    total = sum(len(batch) for batch in batches)
    return {name: value / total for name, value in sums.items()}


@contextmanager
def evaluating(model: nn.Module, device: torch.device, *, seed: int = 0) -> Iterator[None]:
    """Evaluation mode, no gradients and random numbers of their own, for a while; afterwards all is as before."""
    # Part by part: a task may keep a frozen one in evaluation mode.
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        for part in training:
            part.training = True
