"""A run that was stopped in the middle goes on with the very next clip, however it was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_runs import ENCODER, make_recipe, make_run

from kineme.pipeline.interrupts import DeferredInterrupt
from kineme.pipeline.training import train
from kineme.pipeline.training_module import TrainingModule
from kineme.shards.loader import clip_loader

STEPS = 5
"""Batches in an epoch of the digits."""


def uninterrupted(digits: Path, epochs: int) -> list[list[str]]:
    """The keys of every batch, from the loader alone."""
    loader = clip_loader(
        digits / "shards", batch_size=4, clip_frames=6, split="train", shuffle=True, seed=3, drop_last=True
    )
    return [[record.key for record in batch.records] for _ in range(epochs) for batch in loader]


@contextmanager
def watched(stop_in_step: int | None = None) -> Iterator[list[list[str]]]:
    """Collect the keys of every step; in the middle of one of them, press Ctrl-C."""
    seen: list[list[str]] = []
    step = TrainingModule.training_step

    def watch(self: TrainingModule, batch, batch_idx):  # type: ignore[no-untyped-def]
        seen.append([record.key for record in batch.records])
        if self.trainer.global_step == stop_in_step:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", watch)
        yield seen


@pytest.mark.parametrize(
    ("stop", "settings"), [(0, ()), (4, ()), (7, ()), (9, ()), (7, ("data.cache=false", "data.workers=2"))]
)
def test_an_interrupt_in_the_middle_of_a_step(
    stop: int, settings: tuple[str, ...], digits: Path, tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with watched(stop) as before, pytest.raises(KeyboardInterrupt):
        make_run(ENCODER, digits, tmp_path, *settings)
    assert signal.getsignal(signal.SIGINT) is handler
    run = tmp_path / "run"
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == stop + 1 == len(before)
    with watched() as after:
        train(make_recipe(ENCODER, tmp_path, *settings), digits / "shards", run, resume=True, accelerator="cpu")
    assert before + after == uninterrupted(digits, 2)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 10


def test_minutes_that_run_out_in_the_middle_of_an_epoch(digits: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        steps = iter(range(1, 1000))
        # A clock by which every step takes ten seconds.
        patch.setattr(TrainingModule, "count_time", lambda self: setattr(self, "elapsed_s", 10.0 * next(steps)))
        with watched() as before:
            run = make_run(ENCODER, digits, tmp_path, "training.epochs=3", f"training.minutes={65 / 60}")
    assert len(before) == 7
    with watched() as after:
        recipe = make_recipe(ENCODER, tmp_path, "training.epochs=3")
        train(recipe, digits / "shards", run, resume=True, accelerator="cpu")
    assert before + after == uninterrupted(digits, 3)


def test_a_killed_run(digits: Path, tmp_path: Path) -> None:
    """SIGKILL leaves the last checkpoint, here of the step before; what was done after it is done again."""
    program = """
import sys
from pathlib import Path
import torch
from kineme.pipeline import run_keeper, training, training_module
from kineme.pipeline.recipe import load_recipe

torch.set_num_threads(1)
run_keeper.SAVE_EVERY_S = 0.0
recipe, shards, run = map(Path, sys.argv[1:])
step = training_module.TrainingModule.training_step

def watch(self, batch, batch_idx):
    print("step", *(record.key for record in batch.records), flush=True)
    return step(self, batch, batch_idx)

training_module.TrainingModule.training_step = watch
training.train(load_recipe(recipe, ["training.epochs=1000"]), shards, run, accelerator="cpu")
"""
    make_recipe(ENCODER, tmp_path)
    run = tmp_path / "run"
    command = [sys.executable, "-c", program, str(tmp_path / "tiny.yaml"), str(digits / "shards"), str(run)]
    killed: list[list[str]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step"):
                killed.append(line.split()[1:])
            if len(killed) == STEPS + 3:
                process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert saved > STEPS
    with watched() as after:
        epochs = saved // STEPS + 2
        recipe = make_recipe(ENCODER, tmp_path, f"training.epochs={epochs}")
        train(recipe, digits / "shards", run, resume=True, accelerator="cpu")
    assert killed[:saved] + after == uninterrupted(digits, epochs)


def test_the_second_interrupt_does_not_wait() -> None:
    with DeferredInterrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.pending
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
