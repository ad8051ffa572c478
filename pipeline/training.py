"""Training through Lightning: a run folder from a recipe and shards, resumable, stopped by epochs or by minutes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from kineme.pipeline.compiling import compiling
from kineme.pipeline.errors import RunError
from kineme.pipeline.initial_weights import start_from
from kineme.pipeline.interrupts import DeferredInterrupt
from kineme.pipeline.recipe import Recipe, changed_settings, dump_recipe, load_recipe, network_settings
from kineme.pipeline.run import CHECKPOINT, METRICS, RECIPE, check_version, write_environment
from kineme.pipeline.run_keeper import RunKeeper
from kineme.pipeline.tasks import complete_recipe
from kineme.pipeline.training_module import TrainingModule
from kineme.pipeline.validation import held_out_batches
from kineme.shards.hold_out import HoldOut
from kineme.shards.loader import ClipLoader, clip_loader


def train(recipe: Recipe, shards: Path, run: Path, *, resume: bool = False, accelerator: str = "auto") -> None:
    """Train a recipe on shards and leave a run folder.

    Args:
        recipe: what to train, and for how long. The run folder gets it with what only the shards know filled in.
        shards: ingested clips.
        run: folder to write; must not hold a run already unless ``resume``.
        resume: go on from the last checkpoint of ``run``; not as another model, and what else differs from the recipe
            that it began with is printed.
        accelerator: as Lightning names it: auto, cpu, gpu.

    Raises:
        RunError: ``run`` holds a run already, or none to resume; ``training.init`` names none that fits; torch.compile
            cannot work here; the losses stopped being finite.
        DataError: the shards do not fit the recipe.
    """
    recipe = complete_recipe(recipe, shards)
    before = _recipe_before(recipe, run, resume)
    checkpoint = None if before is None else run / CHECKPOINT
    if accelerator == "gpu" and not torch.accelerator.is_available():
        raise RunError("--accelerator gpu: torch finds none here; use cpu, or auto to take what there is")
    if accelerator not in ("auto", "cpu", "gpu"):
        raise RunError(f"--accelerator {accelerator}: use auto, cpu or gpu")
    _quieten()
    L.seed_everything(recipe.training.seed, verbose=False)
    cpu_only = accelerator == "cpu" or not torch.cuda.is_available()
    terminal = sys.stdout.isatty()
    interrupt = DeferredInterrupt()
    # By every process, though one validates: if they cannot be read, all stop here.
    held_out = held_out_batches(recipe.data, shards)
    trainer = L.Trainer(
        accelerator=accelerator,
        max_epochs=recipe.training.epochs,
        precision=_precision(recipe.training.precision, cpu_only),
        **_processes(cpu_only),
        logger=False,
        callbacks=[RunKeeper(recipe, run, interrupt, held_out), *([RichProgressBar()] if terminal else [])],
        enable_progress_bar=terminal,
        enable_checkpointing=False,
        enable_model_summary=False,
        # The loader shares out the clips itself.
        use_distributed_sampler=False,
    )
    loader = _make_loader(recipe, shards, trainer, cpu_only)
    module = TrainingModule(recipe)
    if before is not None:
        saved = torch.load(run / CHECKPOINT, map_location="cpu", mmap=True, weights_only=True)
        check_version(run, saved["state_dict"], module)
        # Lightning 2.6 does so, too, but not from a checkpoint at the end of an epoch.
        loader.load_state_dict(saved["data"])
        changed = changed_settings(before, recipe)
        if changed and trainer.is_global_zero:
            print(f"goes on with {'; '.join(f'{name} {values}' for name, values in changed.items())}", flush=True)
    if recipe.training.init is not None and before is None:
        started = start_from(module.task, recipe.kind, Path(recipe.training.init))
        if trainer.is_global_zero:
            print(started, flush=True)
    # Not before everything was found to fit, so that a refused run leaves nothing in the way of the next try.
    _make_folder(recipe, run)
    trainer.loggers = [_csv_logger(run, checkpoint), TensorBoardLogger(run, "metrics", version="")]
    # Small data are logged once an epoch, or a short run would have no curve at all.
    trainer.log_every_n_steps = min(20, len(loader))
    try:
        with interrupt, compiling("training.compile is true", "set it to false"):
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
        hold_out=HoldOut(data.held_out),
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


def _recipe_before(recipe: Recipe, run: Path, resume: bool) -> Recipe | None:
    """The recipe of the run that is gone on with, or None for a run that starts anew."""
    if not resume:
        if (run / CHECKPOINT).exists():
            raise RunError(f"{run}: holds a run already; go on with --resume, or choose another --out")
        return None
    if not (run / CHECKPOINT).is_file():
        raise RunError(f"{run}: nothing to resume, {CHECKPOINT} is missing; train without --resume")
    before = load_recipe(run / RECIPE)
    if network_settings(before) != network_settings(recipe):
        raise RunError(f"{run}: was trained as another {before.kind} model; resume it with its own {run / RECIPE}")
    return before


def _make_folder(recipe: Recipe, run: Path) -> None:
    for folder in (run, run / "checkpoints", run / "samples"):
        folder.mkdir(parents=True, exist_ok=True)
    (run / RECIPE).write_text(dump_recipe(recipe))
    write_environment(run)


def _processes(cpu_only: bool) -> dict[str, Any]:
    """Devices, nodes and strategy: DDP where there are several devices, or processes that torchrun started."""
    given, processes = {}, 1 if cpu_only else torch.cuda.device_count()
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        # Lightning takes its rank from there, but not how many there are.
        processes, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        given = {"devices": here, "num_nodes": processes // here}
    if processes < 2:
        return given
    # Stages freeze parts of a network, and DDP waits for the gradients of all of it unless told to look.
    return {**given, "strategy": DDPStrategy(find_unused_parameters=True)}


def _csv_logger(run: Path, checkpoint: Path | None) -> CSVLogger:
    """A logger that goes on with metrics.csv when resuming; by itself Lightning's deletes it."""
    metrics = run / METRICS
    before = metrics.read_bytes() if checkpoint is not None and metrics.is_file() else None
    logger = CSVLogger(run, "metrics", version="")
    experiment = logger.experiment
    if before:
        metrics.write_bytes(before)
        # Of what an earlier stage logged, too: Lightning takes a file's other columns for an error.
        experiment.metrics_keys = before.decode().splitlines()[0].split(",")
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
