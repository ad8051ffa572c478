"""Training through Lightning: a run folder from a recipe and shards, resumable, stopped by epochs or by minutes."""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model, to_uint8
from kineme.pipeline.interrupts import DeferredInterrupt
from kineme.pipeline.recipe import OptimizerSection, Recipe, dump_recipe, load_recipe
from kineme.pipeline.run import CHECKPOINT, RECIPE, save_weights, write_environment
from kineme.pipeline.tasks import make_task
from kineme.shards.augment import make_augmentation
from kineme.shards.loader import ClipBatch, ClipLoader, clip_loader

SAVE_EVERY_S = 60.0


def train(recipe: Recipe, shards: Path, run: Path, *, resume: bool = False, accelerator: str = "auto") -> None:
    """Train a recipe on shards and leave a run folder.

    Args:
        recipe: what to train, and for how long.
        shards: ingested clips.
        run: folder to write; must not hold a run already unless ``resume``.
        resume: go on from the last checkpoint of ``run``; its recipe may ask for more epochs or minutes, not for
            another model.
        accelerator: as Lightning names it: auto, cpu, gpu.

    Raises:
        RunError: ``run`` holds a run already, or none to resume.
        DataError: the shards do not fit the recipe.
    """
    checkpoint = _find_checkpoint(recipe, run, resume)
    if accelerator == "gpu" and not torch.accelerator.is_available():
        raise RunError("--accelerator gpu: torch finds none here; use cpu, or auto to take what there is")
    if accelerator not in ("auto", "cpu", "gpu"):
        raise RunError(f"--accelerator {accelerator}: use auto, cpu or gpu")
    _quieten()
    L.seed_everything(recipe.training.seed, verbose=False)
    cpu_only = accelerator == "cpu" or not torch.cuda.is_available()
    terminal = sys.stdout.isatty()
    interrupt = DeferredInterrupt()
    trainer = L.Trainer(
        accelerator=accelerator,
        max_epochs=recipe.training.epochs,
        precision=_precision(recipe.training.precision, cpu_only),
        gradient_clip_val=recipe.optimizer.gradient_clip,
        logger=False,
        callbacks=[RunKeeper(recipe, run, interrupt), *([RichProgressBar()] if terminal else [])],
        enable_progress_bar=terminal,
        enable_checkpointing=False,
        enable_model_summary=False,
        # The loader shares out the clips itself.
        use_distributed_sampler=False,
    )
    loader = _make_loader(recipe, shards, trainer, cpu_only)
    if checkpoint is not None:
        # Lightning 2.6 does so, too, but not from a checkpoint at the end of an epoch.
        loader.load_state_dict(torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)["data"])
    module = TrainingModule(recipe)
    # Not before everything was found to fit, so that a refused run leaves nothing in the way of the next try.
    _make_folder(recipe, run)
    trainer.loggers = [_csv_logger(run, checkpoint), TensorBoardLogger(run, "metrics", version="")]
    # Small data are logged once an epoch, or a short run would have no curve at all.
    trainer.log_every_n_steps = min(20, len(loader))
    try:
        with interrupt:
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # What Lightning makes of an interrupt.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def _make_loader(recipe: Recipe, shards: Path, trainer: L.Trainer, cpu_only: bool) -> ClipLoader:
    data = recipe.data
    # On a CPU the network needs the cores more than reading the cache does.
    from_cache = data.cache and data.cache_gb is None and data.endless is None
    return clip_loader(
        shards,
        batch_size=data.batch_size,
        clip_frames=data.clip_frames,
        frame_step=data.frame_step,
        split=data.split,
        shuffle=True,
        seed=recipe.training.seed,
        workers=0 if cpu_only and from_cache else data.workers,
        cache=shards / ".cache" if data.cache else None,
        cache_gb=data.cache_gb,
        endless=data.endless,
        resident=trainer.strategy.root_device if data.resident else None,
        drop_last=True,
        rank=trainer.global_rank,
        ranks=trainer.world_size,
    )


class TrainingModule(L.LightningModule):
    """A task under Lightning. How far the run has come, by epochs or by minutes, drives every schedule."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.task = make_task(recipe)
        self.model = self.task.model
        self.augment = make_augmentation(recipe.data.augment)
        self.elapsed_s = 0.0
        self._tick: float | None = None

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
        return torch.optim.Adam(self.model.parameters(), lr=self.recipe.optimizer.lr)

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        lr = learning_rate(self.recipe.optimizer, self.trainer.global_step, self.progress)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        self.log("lr", lr)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Losses of one batch, all logged."""
        frames = self.augment(to_model(batch.frames, self.task.frame_size))
        parts = self.task.losses(frames, batch.actions, self.progress)
        self.log_dict({name: value.detach() for name, value in parts.items()}, batch_size=len(batch))
        return parts["loss"]

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time used, so that a resumed run has the rest of its minutes, and which clip comes next."""
        checkpoint["elapsed_s"] = self.elapsed_s
        checkpoint["data"] = self.trainer.train_dataloader.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the time used."""
        self.elapsed_s = checkpoint["elapsed_s"]


class RunKeeper(L.Callback):
    """Saves weights and checkpoint, draws samples, and where no bar can be shown prints a line an epoch.

    Whatever ends a run, it is saved between two steps, and the checkpoint says which clip comes next.
    """

    def __init__(self, recipe: Recipe, run: Path, interrupt: DeferredInterrupt) -> None:
        self.recipe = recipe
        self.run = run
        self.interrupt = interrupt
        self._saved = time.monotonic()
        self._frames: Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Stop or save where it is time to, and remember a few clips to draw."""
        assert isinstance(module, TrainingModule)
        if self._frames is None:
            self._frames = to_model(batch.frames[:6], module.task.frame_size)
        module.count_time()
        # One clock for all ranks: they save together.
        over, interrupted, due = trainer.strategy.broadcast(
            (module.out_of_time, self.interrupt.pending, time.monotonic() - self._saved > SAVE_EVERY_S)
        )
        if interrupted:
            raise KeyboardInterrupt
        if over or due:
            self._save(trainer, module)
        if over:
            # Saved before Lightning hears of it: it would count the epoch as done.
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """One line, and now and then a picture."""
        if trainer.is_global_zero and not sys.stdout.isatty() and isinstance(module, TrainingModule):
            parts = "  ".join(f"{name} {float(v):.4g}" for name, v in sorted(trainer.callback_metrics.items()))
            print(f"epoch {trainer.current_epoch}  {module.elapsed_s:.0f} s  {parts}", flush=True)
        if trainer.current_epoch % self.recipe.training.picture_every_epochs == 0:
            self._draw(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save what was reached."""
        if not trainer.should_stop:
            self._save(trainer, module)
        self._draw(trainer, module)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Save what was reached when the user interrupts."""
        if isinstance(exception, KeyboardInterrupt):
            self._save(trainer, module)

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

    def _draw(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        from kineme.pipeline.pictures import film_strips, save_picture

        if self._frames is None or not trainer.is_global_zero or not isinstance(module, TrainingModule):
            return
        module.model.eval()
        with torch.no_grad():
            strips = module.task.pictures(self._frames)
        module.model.train()
        clips, captions = [], []
        for clip in range(len(self._frames)):
            for name, frames in strips.items():
                clips.append(to_uint8(frames[clip : clip + 1])[0].numpy())
                captions.append(name)
        save_picture(film_strips(clips, captions), self.run / "samples" / f"epoch-{trainer.current_epoch:04d}.png")


def learning_rate(optimizer: OptimizerSection, step: int, progress: float) -> float:
    """Linear warm-up over the first steps, times a half cosine over the whole run down to the final fraction."""
    warmup = min(1.0, (step + 1) / optimizer.warmup_steps) if optimizer.warmup_steps else 1.0
    final = optimizer.final_lr_fraction
    return optimizer.lr * warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def _find_checkpoint(recipe: Recipe, run: Path, resume: bool) -> Path | None:
    """The checkpoint to resume from, or None for a run that starts anew."""
    checkpoint = run / CHECKPOINT
    if resume:
        if not checkpoint.is_file():
            raise RunError(f"{run}: nothing to resume, {CHECKPOINT} is missing; train without --resume")
        before = load_recipe(run / RECIPE)
        if (before.kind, before.model) != (recipe.kind, recipe.model):
            raise RunError(f"{run}: was trained as another {before.kind} model; resume it with its own {run / RECIPE}")
    elif checkpoint.exists():
        raise RunError(f"{run}: holds a run already; go on with --resume, or choose another --out")
    return checkpoint if resume else None


def _make_folder(recipe: Recipe, run: Path) -> None:
    for folder in (run, run / "checkpoints", run / "samples"):
        folder.mkdir(parents=True, exist_ok=True)
    (run / RECIPE).write_text(dump_recipe(recipe))
    write_environment(run)


def _csv_logger(run: Path, checkpoint: Path | None) -> CSVLogger:
    """A logger that goes on with metrics.csv when resuming; by itself Lightning's deletes it."""
    metrics = run / "metrics" / "metrics.csv"
    before = metrics.read_bytes() if checkpoint is not None and metrics.is_file() else None
    logger = CSVLogger(run, "metrics", version="")
    _ = logger.experiment
    if before is not None:
        metrics.write_bytes(before)
    return logger


def _precision(wanted: str, cpu_only: bool) -> Any:
    """bf16 wherever the hardware computes in it; elsewhere it is emulated and slower than fp32."""
    if wanted != "auto":
        return wanted
    if cpu_only:
        capable = bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    else:
        capable = torch.cuda.is_bf16_supported()
    return "bf16-mixed" if capable else "32-true"


def _quieten() -> None:
    """Lightning's advertisements and advice are for its developers, not for ours."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
