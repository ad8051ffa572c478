"""How often a judge is right about the true clips of a split."""

from __future__ import annotations

from pathlib import Path

import torch

from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.judged import accuracies, ask, joined, true_clips
from kineme.pipeline.run import Run


@torch.inference_mode()
def measure_accuracy(run: Run, shards: Path, split: str) -> Metrics:
    """judge/LABEL_accuracy of every label, and ``clips``.

    Raises:
        RunError: another kind of run; a clip lacks a label, or has a value that the judge was not trained on.
        DataError: the shards hold no clips of the split.
    """
    answers, targets = [], []
    for frames, values in true_clips(run, shards, split):
        answers.append(ask(run, frames))
        targets.append(values)
    figures = accuracies(joined(answers), joined(targets), "judge")
    return {"clips": sum(len(next(iter(values.values()))) for values in targets), **figures}
