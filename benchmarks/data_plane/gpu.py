"""What a training step on a GPU waits for: the loader, the copy and the augmentation, beside the network's own work.

The recipe is sequential-vae/sprites at its full width, with every augmentation switched on. Four loops of the same
steps are run in turn, each doing one thing more than the one before:

    step       the network alone, on one batch that lies on the device
    augment    and augments that batch every time
    copy       and copies it from pinned memory every time
    load       and takes a new one from the loader every time: training as it is

The share of the whole step that the difference makes is what training waits for it; what is hidden behind the
network's own work costs nothing and counts as nothing.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from bench import CLIP_FRAMES, SIZE, Bench, Section, run_ingest
from corpus import make_tiny_files

from kineme.pipeline.frames import to_model
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.tasks import TrainingClips, make_task
from kineme.shards.augment import AUGMENTATIONS, make_augmentation
from kineme.shards.loader import ClipBatch, clip_loader

STEPS = 100
_WARM_UP = 20  # more than the loader has ready before it is asked
_CLIPS = 9000  # as many as Sprites has to train on


def measure(bench: Bench, device: torch.device, clips: int = _CLIPS, steps: int = STEPS, width: int = 32) -> Section:
    """Shares of a step, and the time of one."""
    folder = make_tiny_files(bench.work, clips, side=SIZE)
    shards = bench.fresh("gpu")
    run_ingest(bench, folder, clips, out=shards)
    loops = _loops(shards, device, bench.workers, width)
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(bench.rounds + 1):
        for name, step in list(loops.items())[:: 1 if number % 2 == 0 else -1]:
            seconds = _time(step, steps, device)
            if number:  # the first round compiles, fills the cache and starts the workers
                taken[name].append(seconds)
                print(f"  round {number} of {bench.rounds}  {name}: {1000 * seconds:.2f} ms a step", flush=True)
    shutil.rmtree(shards)
    whole = median(taken["load"])
    names = list(loops)
    metrics = {f"gpu/{name}_ms": 1000 * median(seconds) for name, seconds in taken.items()}
    for before, name in itertools.pairwise(names):
        metrics[f"gpu/share/{name}"] = (median(taken[name]) - median(taken[before])) / whole
    metrics["gpu/share/all_three"] = (whole - median(taken["step"])) / whole
    settings = {"clips": clips, "clip_frames": 8, "stored frames": CLIP_FRAMES, "batch_size": 64, "width": width}
    return Section(metrics, {**settings, "workers": bench.workers, "steps": steps, "rounds": bench.rounds}, taken)


def _loops(shards: Path, device: torch.device, workers: int, width: int) -> dict[str, Callable[[], None]]:
    recipe = load_recipe("sequential-vae/sprites", [f"model.width={width}"])
    torch.manual_seed(0)
    task = make_task(recipe)
    model = task.model.to(device)
    augment = make_augmentation({name: {} for name in AUGMENTATIONS})
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.optimizer.lr)
    batches = _endless(shards, recipe.data.batch_size, recipe.data.clip_frames, workers)
    held = next(batches)
    there = held.to(device)
    scaled = to_model(there.frames, task.frame_size)
    reduced = device.type == "cuda" and torch.cuda.is_bf16_supported()

    def train(frames: torch.Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            loss = task.losses(TrainingClips(frames, None, None, []), 0.5)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def prepared(batch: ClipBatch) -> torch.Tensor:
        frames: torch.Tensor = augment(to_model(batch.frames, task.frame_size))
        return frames

    return {
        "step": lambda: train(scaled),
        "augment": lambda: train(prepared(there)),
        "copy": lambda: train(prepared(held.to(device))),
        "load": lambda: train(prepared(next(batches).to(device))),
    }


def _endless(shards: Path, batch_size: int, clip_frames: int, workers: int) -> Iterator[ClipBatch]:
    loader = clip_loader(
        shards,
        batch_size=batch_size,
        clip_frames=clip_frames,
        shuffle=True,
        workers=workers,
        cache=shards / ".cache",
        drop_last=True,
    )
    while True:
        yield from loader


def _time(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Seconds a step."""
    for _ in range(min(_WARM_UP, steps)):
        step()
    _wait(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return (time.perf_counter() - started) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
