"""What a run folder gets while it is trained: weights and checkpoints, samples, and lines for who looks on."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model, to_uint8
from kineme.pipeline.interrupts import DeferredInterrupt
from kineme.pipeline.recipe import Recipe
from kineme.pipeline.run import CHECKPOINT, CURVES, METRICS, save_weights
from kineme.pipeline.tasks import TrainingClips
from kineme.pipeline.training_module import TrainingModule
from kineme.pipeline.validation import evaluating, validate
from kineme.shards.loader import ClipBatch

SAVE_EVERY_S = 60.0
NONFINITE_LIMIT = 20
"""Steps in a row that are not finite before a run is given up."""
_DRAWN = 6


class RunKeeper(L.Callback):
    """Saves weights and checkpoint, validates, draws samples and curves, says so where a representation has collapsed,
    and where no bar can be shown prints a line an epoch.

    Whatever ends a run, it is saved between two steps, and the checkpoint says which clip comes next.
    """

    def __init__(
        self, recipe: Recipe, run: Path, interrupt: DeferredInterrupt, held_out: Sequence[ClipBatch] = ()
    ) -> None:
        self.recipe = recipe
        self.run = run
        self.interrupt = interrupt
        self.held_out = held_out
        self._saved = time.monotonic()
        self._clips: TrainingClips | None = None
        self._collapsed: list[str] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Stop or save where it is time to, and remember a few clips to draw."""
        assert isinstance(module, TrainingModule)
        if self._clips is None:
            frames = to_model(batch.frames[:_DRAWN], module.task.frame_size)
            actions, keypoints = (None if t is None else t[:_DRAWN] for t in (batch.actions, batch.keypoints))
            self._clips = TrainingClips(frames, actions, keypoints, batch.records[:_DRAWN])
        module.count_time()
        # One clock for all ranks: they save, stop and go to the next stage together.
        module.elapsed_s, over, interrupted, due = trainer.strategy.broadcast(
            (
                module.elapsed_s,
                module.out_of_time,
                self.interrupt.pending,
                time.monotonic() - self._saved > SAVE_EVERY_S,
            )
        )
        if interrupted:
            raise KeyboardInterrupt
        given_up = module.nonfinite_in_a_row >= NONFINITE_LIMIT
        if over or due or given_up:
            self._save(trainer, module)
        if given_up:
            raise RunError(
                f"{self.run}: loss or gradient was not finite in {NONFINITE_LIMIT} steps in a row, all left out: "
                "lower optimizer.lr, set a lower optimizer.gradient_clip, or train with training.precision=32-true"
            )
        if over:
            # Saved before Lightning hears of it: it would count the epoch as done.
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Validation, one line, one more for each representation that has collapsed, now and then pictures.

        An epoch that is not finished because the minutes are over comes here, too.
        """
        assert isinstance(module, TrainingModule)
        self._collapsed = module.collapse.take()
        # One process alone, and none waits for another meanwhile: the network is used without its DDP wrapper.
        if not trainer.is_global_zero:
            return
        with module.clock_stopped():
            figures = self._validate(trainer, module)
            if not sys.stdout.isatty():
                found = {**trainer.callback_metrics, **figures}
                parts = "  ".join(f"{name} {float(v):.4g}" for name, v in sorted(found.items()) if name != "epoch")
                print(f"epoch {trainer.current_epoch}  {module.elapsed_s:.0f} s  {parts}", flush=True)
            self._warn(f"epoch {trainer.current_epoch}")
            if trainer.current_epoch % self.recipe.training.picture_every_epochs == 0:
                self._draw(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save what was reached."""
        if not trainer.should_stop:
            self._save(trainer, module)
        if trainer.is_global_zero:
            self._draw(trainer, module)
            self._warn("end of the run")

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Save what was reached when the user interrupts."""
        if isinstance(exception, KeyboardInterrupt):
            self._save(trainer, module)

    def _warn(self, when: str) -> None:
        for line in self._collapsed:
            print(f"{when}: {line}", file=sys.stderr, flush=True)

    def _save(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self._saved = time.monotonic()
        if trainer.is_global_zero:
            save_weights(self.run, self.recipe, module.task)
        # Beside and renamed, so that a crash while writing leaves the checkpoint before.
        temporary = self.run / f"{CHECKPOINT}.tmp"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.run / CHECKPOINT)

    def _validate(self, trainer: L.Trainer, module: TrainingModule) -> dict[str, float]:
        """The figures of the held-out clips, logged."""
        found = validate(module.task, self.held_out, module.device)
        figures = {f"validation/{name}": value for name, value in found.items()}
        if figures:
            for logger in trainer.loggers:
                logger.log_metrics({**figures, "epoch": module.epochs}, trainer.global_step - 1)
                logger.save()
        return figures

    def _draw(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        from kineme.pipeline.pictures import film_strips, save_picture
        from kineme.pipeline.training_curves import draw_curves

        if self._clips is None or not isinstance(module, TrainingModule):
            return
        with evaluating(module.model, module.device):
            pictures = module.task.pictures(self._clips)
        clips, captions = [], []
        for clip in range(len(self._clips.frames)):
            for name, frames in pictures.items():
                clips.append(to_uint8(frames[clip : clip + 1])[0].numpy())
                captions.append(name)
        strips = film_strips(clips, captions, frames_per_clip=None)
        save_picture(strips, self.run / "samples" / f"epoch-{trainer.current_epoch:04d}.png")
        draw_curves({"": self.run / METRICS}, self.run / CURVES)
