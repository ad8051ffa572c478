"""A task under Lightning: stages and learning rates, steps that are left out, time used."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kineme.pipeline.collapse_watch import CollapseWatch
from kineme.pipeline.frames import to_model
from kineme.pipeline.optimisation import check_stages, learning_rate, stage_at, stage_progress
from kineme.pipeline.recipe import Recipe
from kineme.pipeline.tasks import TrainingClips, make_task
from kineme.shards.augment import make_augmentation
from kineme.shards.loader import ClipBatch


class TrainingModule(L.LightningModule):
    """A task under Lightning. How far the run has come, by epochs or by minutes, drives every schedule.

    A step whose loss or gradient is not finite is left out: weights, Adam's moments and the running statistics of batch
    norms stay as they were. For the schedules it counts as a step.

    Adam keeps its moments from stage to stage. It leaves alone what has no gradient: the moments of parameters that a
    stage freezes rest, and parameters that a later stage is the first to train start from none. No stage takes up the
    moments of another objective unless it goes on training the same parameters.

    Attributes:
        elapsed_s: seconds of training, those before a resume included.
        epochs: how many are done with the present step, a fraction.
        nonfinite_steps: steps left out so far.
        nonfinite_in_a_row: those left out since the last step that was taken.
        collapse: watches the ranks, variances and KL that the task reports.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.task = make_task(recipe)
        check_stages(self.task.stages)
        self.model = self.task.model
        self.augment = make_augmentation(recipe.data.augment)
        self.elapsed_s = 0.0
        self.epochs = 0.0
        self.nonfinite_steps = 0
        self.nonfinite_in_a_row = 0
        self.collapse = CollapseWatch()
        self._stage = 0
        self._stage_began = 0
        self._tick: float | None = None
        self._norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        self._statistics: list[Tensor] = []
        if recipe.training.channels_last:
            to_channels_last(self.model)
        if recipe.training.compile:
            for part in self.task.compiled_parts():
                part.compile()

    @property
    def progress(self) -> float:
        """Done fraction of the training, in [0, 1]."""
        training = self.recipe.training
        done = self.trainer.global_step / self.trainer.estimated_stepping_batches
        if training.minutes is not None:
            done = max(done, self.elapsed_s / (60 * training.minutes))
        return float(min(1.0, done))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as every paper here uses it."""
        return torch.optim.Adam([dict(group) for group in self.task.parameter_groups()])

    def on_train_start(self) -> None:
        """Random numbers of its own for each process: or all would draw the same windows, pairs and augmentations."""
        if self.global_rank:
            # Not before: Lightning seeds every process alike when it sets up DDP.
            torch.manual_seed(self.recipe.training.seed + self.global_rank)

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        stages, step, progress = self.task.stages, self.trainer.global_step, self.progress
        if stage_at(stages, progress) != self._stage:
            self._stage, self._stage_began = stage_at(stages, progress), step
        done = stage_progress(stages, self._stage, progress)
        lr = learning_rate(stages[self._stage].optimizer, step - self._stage_began, done)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group["lr_scale"]
        self._statistics = [buffer.clone() for norm in self._norms for buffer in norm.buffers()]
        self.epochs = self.trainer.current_epoch + (batch_idx + 1) / self.trainer.num_training_batches
        # Lightning's own "epoch" would be the whole number.
        counts = {"epoch": self.epochs, "stage": self._stage + 1.0, "nonfinite_steps": float(self.nonfinite_steps)}
        self.log_dict({"lr": lr, **counts})

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Losses of one batch, all logged."""
        frames = self.augment(to_model(batch.frames, self.task.frame_size))
        clips = TrainingClips(frames, batch.actions, batch.keypoints, batch.records)
        parts = self.task.losses(clips, self.progress)
        self.collapse.note(parts)
        self.log_dict({name: value.detach() for name, value in parts.items()}, batch_size=len(batch))
        loss = parts["loss"]
        # A loss that is not finite on one rank spoils the averaged gradient of all, and all leave the step out.
        return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to the norm of the stage's optimizer section, or leave the step out where the norm is not finite.

        Gradients are unscaled here, and averaged over the ranks: the norm is the same on each, and so is the decision.
        In 16-mixed the scaler skips such a step, too, and lowers its scale; the first few of a run are how it finds it.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not norm.isfinite():
            optimizer.zero_grad(set_to_none=True)
            buffers = [buffer for module in self._norms for buffer in module.buffers()]
            for buffer, before in zip(buffers, self._statistics, strict=True):
                buffer.copy_(before)
            self.nonfinite_steps += 1
            self.nonfinite_in_a_row += 1
            return
        self.nonfinite_in_a_row = 0
        limit = self.task.stages[self._stage].optimizer.gradient_clip
        if limit is not None:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)

    @property
    def out_of_time(self) -> bool:
        """Whether the minutes are used up."""
        minutes = self.recipe.training.minutes
        return minutes is not None and self.elapsed_s >= 60 * minutes

    def count_time(self) -> None:
        """Add the time since the last step, called after each."""
        now = time.monotonic()
        self.elapsed_s += now - (self._tick or now)
        self._tick = now

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """What is done within does not count as time of training."""
        started = time.monotonic()
        yield
        if self._tick is not None:
            self._tick += time.monotonic() - started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run goes on with: the time used, the stage and its first step, and which clip is next."""
        checkpoint["elapsed_s"] = self.elapsed_s
        checkpoint["stage"] = {"index": self._stage, "began": self._stage_began}
        checkpoint["nonfinite_steps"] = self.nonfinite_steps
        checkpoint["data"] = self.trainer.train_dataloader.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what was kept."""
        self.elapsed_s = checkpoint["elapsed_s"]
        self._stage, self._stage_began = checkpoint["stage"]["index"], checkpoint["stage"]["began"]
        self.nonfinite_steps = checkpoint["nonfinite_steps"]


def to_channels_last(model: nn.Module) -> None:
    """Lay out weights of four dimensions as channels_last, of five as channels_last_3d; their values stay."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.dim() in layouts:
            parameter.data = parameter.data.to(memory_format=layouts[parameter.dim()])
