"""Steps whose loss or gradient is not finite leave no trace, and too many in a row end the run."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from tiny_runs import ENCODER, make_recipe, make_run
from torch import Tensor
from toy_tasks import OneStage, after_each_step, moments_of, training_on, weights_of

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import Recipe
from kineme.pipeline.tasks import TrainingClips
from kineme.pipeline.training import train
from kineme.pipeline.training_module import TrainingModule
from kineme.shards.loader import clip_loader

BAD = (0, 3, 4, 7)
Spoil = Callable[[Any, TrainingClips], Tensor]


def nan_loss(task: Any, clips: TrainingClips) -> Tensor:
    return OneStage.losses(task, clips, 0)["loss"] * torch.nan


def infinite_loss(task: Any, clips: TrainingClips) -> Tensor:
    """Of a finite gradient."""
    return OneStage.losses(task, clips, 0)["loss"] + torch.inf


def nan_gradient(task: Any, clips: TrainingClips) -> Tensor:
    """Of a finite loss: the slope of the root at zero."""
    return OneStage.losses(task, clips, 0)["loss"] + (0 * task.model.first.bias).sqrt().sum()


def nan_input(task: Any, clips: TrainingClips) -> Tensor:
    """Which goes into the running statistics of the batch norm."""
    return (task.model(clips.frames * torch.nan).float() - 1).square().mean()


def spoilt(how: Spoil, steps: Container[int]) -> type[OneStage]:
    class Spoilt(OneStage):
        calls = 0

        def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
            self.calls += 1
            bad = self.calls - 1 in steps
            return {"loss": how(self, clips)} if bad else super().losses(clips, progress)

    return Spoilt


class Watch(L.Callback):
    """Everything that a step may change, after every step, and before the first."""

    def __init__(self) -> None:
        self.states: list[tuple[dict[str, Tensor], list[dict[str, Tensor]]]] = []
        self.counts: list[int] = []

    def look(self, trainer: Any, module: Any) -> None:
        self.states.append((weights_of(module), moments_of(trainer)))
        self.counts.append(module.nonfinite_steps)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.look(trainer, module)

    def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
        self.look(trainer, module)


def equal(one: Any, other: Any) -> bool:
    (weights, moments), (weights2, moments2) = one, other
    pairs = [(weights, weights2), *zip(moments, moments2, strict=True)]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


def check(watch: Watch, bad: Container[int]) -> None:
    assert len(watch.states) == 11
    for step in range(10):
        assert equal(watch.states[step], watch.states[step + 1]) == (step in bad), step
    assert watch.counts == [sum(earlier in bad for earlier in range(step)) for step in range(11)]
    assert all(value.isfinite().all() for value in watch.states[-1][0].values())


@pytest.mark.parametrize("clip", ["null", "0.01"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("how", [nan_loss, infinite_loss, nan_gradient, nan_input])
def test_a_step_that_is_not_finite_leaves_all_as_it_was(
    how: Spoil, precision: str, clip: str, digits: Path, tmp_path: Path
) -> None:
    watch = Watch()
    with training_on(spoilt(how, BAD)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "on_train_start", lambda module: watch.look(module.trainer, module))
        with after_each_step(watch.look):
            run = make_run(
                ENCODER, digits, tmp_path, f"training.precision={precision}", f"optimizer.gradient_clip={clip}"
            )
    check(watch, BAD)
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        # Counted when a step begins: at the last ones of the two epochs.
        assert [float(row["nonfinite_steps"]) for row in csv.DictReader(file)] == [2, 4]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["nonfinite_steps"] == 4


def test_the_scaler_of_16_mixed_agrees(digits: Path, tmp_path: Path) -> None:
    """On a CPU, where only this plugin gives the precision of GPUs."""
    recipe = make_recipe(ENCODER, tmp_path, "optimizer.gradient_clip=0.01")
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
        callbacks=[watch],
        **dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False),
    )
    with training_on(spoilt(nan_gradient, BAD)):
        module = TrainingModule(recipe)
    loader = clip_loader(digits / "shards", batch_size=4, clip_frames=6, split="train", shuffle=True, drop_last=True)
    trainer.fit(module, loader)
    check(watch, BAD)
    assert scaler.get_scale() == 256.0 / 2 ** len(BAD)


def test_clipping_takes_the_norm_of_the_recipe(digits: Path, tmp_path: Path) -> None:
    """Adam's first step forgets the length of a gradient, its moments do not."""
    norms = {}
    for clip in ("null", "0.001"):
        watch = Watch()
        (tmp_path / clip).mkdir()
        with training_on(OneStage), after_each_step(watch.look):
            make_run(ENCODER, digits, tmp_path / clip, f"optimizer.gradient_clip={clip}")
        first = torch.cat([kept["exp_avg"].flatten() for kept in watch.states[0][1]]) / 0.1
        norms[clip] = float(first.norm())
    assert norms["null"] > 0.1
    assert norms["0.001"] == pytest.approx(0.001, rel=1e-2)


def test_twenty_in_a_row_end_the_run(digits: Path, tmp_path: Path) -> None:
    watch = Watch()
    with training_on(spoilt(nan_loss, range(3, 1000))), after_each_step(watch.look):
        with pytest.raises(RunError, match=r"not finite in 20 steps in a row.*lower optimizer\.lr") as error:
            make_run(ENCODER, digits, tmp_path, "training.epochs=50")
        assert "\n" not in str(error.value)
        assert len(watch.states) == 23
        saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 23
    assert all(torch.equal(value, saved["state_dict"][f"model.{name}"]) for name, value in watch.states[2][0].items())
    # Mended, it goes on where it stopped.
    recipe: Recipe = make_recipe(ENCODER, tmp_path, "training.epochs=5")
    with training_on(OneStage):
        train(recipe, digits / "shards", tmp_path / "run", resume=True, accelerator="cpu")
    ended = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (ended["global_step"], ended["nonfinite_steps"]) == (25, 20)


PROGRAM = """
import hashlib, json, os, sys
from pathlib import Path
import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from toy_tasks import TwoStages, training_on
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.training_module import TrainingModule
from kineme.shards.loader import clip_loader

class OnOneRank(TwoStages):
    "Not finite on one rank alone in steps 1 and 5, of which the second is in the second stage."
    calls = 0

    def losses(self, clips, progress):
        self.calls += 1
        parts = super().losses(clips, progress)
        if (self.calls - 1, int(os.environ.get("LOCAL_RANK", 0))) in [(1, 1), (5, 0)]:
            parts["loss"] = parts["loss"] + torch.inf
        return parts

class Watch(L.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, *rest):
        state = module.model.state_dict()
        # Those of a batch norm belong to a rank.
        weights = b"".join(state[name].numpy().tobytes() for name in sorted(state) if not name.startswith("norm."))
        self.seen.append([module.nonfinite_steps, hashlib.sha256(weights).hexdigest()])

if __name__ == "__main__":
    recipe, shards, out = map(Path, sys.argv[1:])
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    L.seed_everything(3, verbose=False)
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy=DDPStrategy(find_unused_parameters=True), max_epochs=4,
        use_distributed_sampler=False, callbacks=[watch], **quiet,
    )
    loader = clip_loader(
        shards, batch_size=5, clip_frames=6, split="train", shuffle=True, drop_last=True,
        rank=trainer.global_rank, ranks=trainer.world_size,
    )
    with training_on(OnOneRank):
        module = TrainingModule(load_recipe(recipe))
    trainer.fit(module, loader)
    (out / f"{trainer.global_rank}.json").write_text(json.dumps(watch.seen))
"""


def test_two_ranks_leave_out_the_same_steps(digits: Path, tmp_path: Path) -> None:
    make_recipe(ENCODER, tmp_path)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "tiny.yaml"), str(digits / "shards"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one == other
    assert [count for count, _ in one] == [0, 1, 1, 1, 1, 2, 2, 2]
    changed = [before != after for (_, before), (_, after) in itertools.pairwise(one)]
    assert changed == [False, True, True, True, False, True, True]
