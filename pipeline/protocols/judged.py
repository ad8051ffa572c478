"""Clips before the judge: true ones, and those that a sequential VAE decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kineme.models.sequential_vae import SequentialVAE
from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model
from kineme.pipeline.generation import sequential_vae_of
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.chosen_clips import BATCH
from kineme.pipeline.recipe import SequentialVAERecipe
from kineme.pipeline.run import Run, load_run
from kineme.pipeline.tasks.judge import JudgeTask
from kineme.shards.loader import clip_loader

Answers = dict[str, Tensor]
"""The judge's log-probabilities, float64 on the CPU: of each label by name, (N, values)."""


@dataclass(frozen=True)
class Judging:
    """A sequential VAE and the judge of what it draws.

    Attributes:
        model: whose clips are judged.
        judge: a run of their judge.
        motion: the label of the judge that the motion z must decide; its others belong to the content f.
    """

    model: SequentialVAE
    judge: Run
    motion: str

    def answers(self, frames: Tensor) -> Answers:
        """See :func:`ask`."""
        return ask(self.judge, frames)

    def clips(self, shards: Path, split: str) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """See :func:`true_clips`."""
        return true_clips(self.judge, shards, split)


def load_judging(run: Run, folder: Path | None, motion: str) -> Judging:
    """A run beside its judge.

    Args:
        run: of a sequential-vae recipe.
        folder: of the judge's run.
        motion: the label that the motion decides.

    Raises:
        RunError: another kind of run; no folder given, no judge in it, one of other clips or without that label.
    """
    model, recipe = sequential_vae_of(run), run.recipe
    assert isinstance(recipe, SequentialVAERecipe)
    if folder is None:
        raise RunError(
            "--option judge=RUN is missing: train a judge with kineme train judge/sprites --data SHARDS --out RUN"
        )
    judge = load_run(folder, run.device)
    labels = tuple(judge_task(judge).model.config.classes)
    drawn = {
        "model.frame_size": recipe.model.frame_size,
        "data.clip_frames": recipe.encode_frames,
        "data.frame_step": recipe.data.frame_step,
    }
    for setting, value in drawn.items():
        section, name = setting.split(".")
        judged = getattr(getattr(judge.recipe, section), name)
        if judged != value:
            raise RunError(
                f"{folder}: judges clips of {name} {judged}, {run.folder} draws {value}; "
                f"train a judge with --set {setting}={value}"
            )
    if motion not in labels:
        raise RunError(f"--option motion={motion}: is no label of the judge's; it has {', '.join(labels)}")
    return Judging(model, judge, motion)


def judge_task(run: Run) -> JudgeTask:
    """The task of a judge's run. Raises a RunError for a run of another kind."""
    if not isinstance(run.task, JudgeTask):
        raise RunError(f"{run.folder}: a {run.recipe.kind} run judges nothing; give a run of a judge recipe")
    return run.task


def true_clips(judge: Run, shards: Path, split: str) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """All clips of a split: frames (B, T, C, H, W) in [0, 1] on the device, and the true values of each label, (B,).

    Raises:
        RunError: another kind of run; a clip lacks a label, or has a value that the judge was not trained on.
        DataError: no clips of the split, clips too short, or damaged shards.
    """
    task, data = judge_task(judge), judge.recipe.data
    loader = clip_loader(
        shards, batch_size=BATCH, clip_frames=data.clip_frames, frame_step=data.frame_step, split=split
    )
    for batch in loader:
        yield to_model(batch.frames.to(judge.device), task.frame_size), task.targets(batch.records)


def ask(judge: Run, frames: Tensor) -> Answers:
    """The judge's answers on frames (N, T, C, H, W) in [0, 1]."""
    return {label: answer.double().cpu() for label, answer in judge_task(judge).model(frames.float()).items()}


def joined(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of several batches, name by name, as those of all clips."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def accuracies(answers: Answers, targets: dict[str, Tensor], prefix: str) -> Metrics:
    """``PREFIX/LABEL_accuracy``: how often the likeliest value is the true one, of each label in ``answers``."""
    return {
        f"{prefix}/{label}_accuracy": (answer.argmax(dim=-1) == targets[label]).double().mean().item()
        for label, answer in answers.items()
    }


def mean_and_spread(draws: Sequence[Metrics]) -> Metrics:
    """The mean of each figure over draws; its standard deviation under ``NAME/spread`` where there are several."""
    metrics: Metrics = {}
    for name in draws[0]:
        values = torch.tensor([draw[name] for draw in draws], dtype=torch.float64)
        metrics[name] = values.mean().item()
        if len(draws) > 1:
            metrics[f"{name}/spread"] = values.std().item()
    return metrics
