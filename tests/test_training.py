"""Training: the run folder it leaves, how it stops, how it goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shard_factory import write_shards
from tiny_runs import ENCODER, PREDICTOR, make_recipe, make_run

from kineme.pipeline import cli
from kineme.pipeline.errors import RunError
from kineme.pipeline.optimisation import learning_rate
from kineme.pipeline.recipe import Recipe, load_recipe
from kineme.pipeline.run import load_run
from kineme.pipeline.run_keeper import RunKeeper
from kineme.pipeline.training import train
from kineme.shards.errors import DataError


def checkpoint_of(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)


def steps_of(run: Path) -> list[int]:
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def go_on(recipe: Recipe, digits: Path, run: Path, **options: object) -> None:
    train(recipe, digits / "shards", run, accelerator="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("which", "parts"), [("encoder_run", {"kl_f", "kl_z"}), ("predictor_run", {"kl", "beta"})])
def test_the_run_folder_is_complete(which: str, parts: set[str], request: pytest.FixtureRequest) -> None:
    run: Path = request.getfixturevalue(which)
    loaded = load_run(run)
    assert loaded.recipe == load_recipe(run / "recipe.yaml")
    assert not loaded.task.model.training
    assert {"command", "device", "versions"} <= json.loads((run / "environment.json").read_text()).keys()
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # 20 clips in batches of 4: five steps an epoch, logged at the last of them.
    assert [int(row["step"]) for row in rows] == [4, 9]
    assert parts | {"loss", "lr", "reconstruction"} <= rows[0].keys()
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert list((run / "metrics").glob("events.out.tfevents.*"))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["last.ckpt", "weights.pt"]
    pictures = sorted((run / "samples").glob("*.png"))
    assert pictures
    with Image.open(pictures[-1]) as picture:
        assert min(picture.size) > 100
    saved = checkpoint_of(run)
    assert saved["global_step"] == 10
    weights = torch.load(run / "checkpoints" / "weights.pt", weights_only=True)["weights"]
    assert all(torch.equal(weights[name], saved["state_dict"][f"model.{name}"]) for name in weights)


def test_a_resumed_run_goes_on_to_where_an_uninterrupted_one_ends(
    encoder_run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its noise starts anew from the seed, so its weights come out a little different."""
    recipe = load_recipe(encoder_run / "recipe.yaml")
    half = make_run(ENCODER, digits, tmp_path, "training.epochs=1")
    assert (checkpoint_of(half)["global_step"], steps_of(half)) == (5, [4])
    elapsed = checkpoint_of(half)["elapsed_s"]
    go_on(recipe, digits, half, resume=True)
    assert "goes on with training.epochs 2, was 1\n" in capsys.readouterr().out
    resumed, whole = checkpoint_of(half), checkpoint_of(encoder_run)
    assert resumed["global_step"] == whole["global_step"] == 10
    assert resumed["epoch"] == whole["epoch"]
    assert resumed["elapsed_s"] > elapsed > 0
    # The losses logged before stay, and those after join them.
    assert steps_of(half) == steps_of(encoder_run)
    assert load_run(half).recipe == recipe


def test_the_order_of_clips_goes_on_where_it_stopped(digits: Path, tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {"whole": [], "parts": []}

    def watch(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        start = RunKeeper.on_train_batch_end

        def keep(self, trainer, module, outputs, batch, batch_idx):  # type: ignore[no-untyped-def]
            seen[name] += [record.key for record in batch.records]
            start(self, trainer, module, outputs, batch, batch_idx)

        monkeypatch.setattr(RunKeeper, "on_train_batch_end", keep)

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, "whole")
        make_run(ENCODER, digits, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, "parts")
        run = make_run(ENCODER, digits, tmp_path / "parts", "training.epochs=1")
        go_on(make_recipe(ENCODER, tmp_path), digits, run, resume=True)
    assert len(seen["whole"]) == 40
    assert seen["parts"] == seen["whole"]
    assert seen["whole"][:20] != seen["whole"][20:]


def test_resuming_a_finished_run_changes_nothing(digits: Path, tmp_path: Path) -> None:
    run = make_run(ENCODER, digits, tmp_path, "training.epochs=1")
    before = torch.load(run / "checkpoints" / "weights.pt", weights_only=True)["weights"]
    go_on(load_recipe(run / "recipe.yaml"), digits, run, resume=True)
    after = torch.load(run / "checkpoints" / "weights.pt", weights_only=True)["weights"]
    assert checkpoint_of(run)["global_step"] == 5
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_minutes_stop_a_run_that_has_epochs_left(digits: Path, tmp_path: Path) -> None:
    settings = ("training.epochs=100000", "training.picture_every_epochs=100000", "training.minutes=0.03")
    run = make_run(ENCODER, digits, tmp_path, *settings, "optimizer.warmup_steps=0")
    saved, recipe = checkpoint_of(run), load_recipe(run / "recipe.yaml")
    assert saved["elapsed_s"] >= 1.8
    assert 0 < saved["global_step"] < 500_000
    # The schedule ran on by the minutes: of the epochs next to nothing was done.
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] < 0.99 * recipe.optimizer.lr
    # Nothing of its minutes is left, so resuming does at most one step more.
    go_on(recipe, digits, run, resume=True)
    assert checkpoint_of(run)["global_step"] <= saved["global_step"] + 1


def test_streamed_shards_train_as_well(digits: Path, tmp_path: Path) -> None:
    run = make_run(
        ENCODER, digits, tmp_path, "data.cache=false", "training.epochs=4", "data.workers=0", "optimizer.warmup_steps=0"
    )
    assert checkpoint_of(run)["global_step"] == 20
    recipe = load_recipe(run / "recipe.yaml")
    lr = checkpoint_of(run)["optimizer_states"][0]["param_groups"][0]["lr"]
    assert lr == pytest.approx(learning_rate(recipe.optimizer, 19, 19 / 20))


def losses_of(run: Path) -> list[float]:
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("settings", [["data.cache=false"], ["data.resident=true"], ["data.cache_gb=0.0001"]])
def test_where_the_clips_come_from_does_not_matter(
    settings: list[str], encoder_run: Path, digits: Path, tmp_path: Path
) -> None:
    """The last bound holds some of the digits' shards or none; the others are decoded every epoch."""
    run = make_run(ENCODER, digits, tmp_path, *settings)
    assert losses_of(run) == pytest.approx(losses_of(encoder_run), rel=1e-5)


def test_a_label_instead_of_a_split(digits: Path, tmp_path: Path) -> None:
    run = make_run(ENCODER, digits, tmp_path, "data.split=wall_hit!=none", "data.batch_size=1", "training.epochs=1")
    assert checkpoint_of(run)["global_step"] == 40
    with pytest.raises(DataError, match=r"no clip has a label 'wallhit' \(did you mean wall_hit\?\)"):
        make_run(ENCODER, digits, tmp_path / "run", "data.split=wallhit=none")


def test_endless_clips(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    write_shards(tmp_path / "shards", [])
    arrays = {"dataset": np.array("moving-mnist"), "images": images, "classes": np.arange(5, dtype=np.uint8)}
    np.savez(tmp_path / "shards" / "endless.npz", **arrays)
    run = make_run(ENCODER, tmp_path, tmp_path, "data.endless=9")
    # Two whole batches of four in each of two epochs.
    assert checkpoint_of(run)["global_step"] == 4


def test_the_command_line_s_shorthands(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_recipe(ENCODER, tmp_path, "training.epochs=1")
    arguments = ["--data", digits / "shards", "--out", tmp_path / "run", "--accelerator", "cpu"]
    limits = ["--cache-gb", "0.5", "--minutes", "0.001"]
    monkeypatch.setattr(sys, "argv", ["kineme", "train", *map(str, [tmp_path / "tiny.yaml", *arguments, *limits])])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    recipe = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert (recipe.data.cache_gb, recipe.training.minutes) == (0.5, 0.001)


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise what a Ctrl-C raises, at the end of a step."""
    end = RunKeeper.on_train_batch_end

    def stop(self, trainer, module, outputs, batch, batch_idx):  # type: ignore[no-untyped-def]
        end(self, trainer, module, outputs, batch, batch_idx)
        if trainer.global_step == steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunKeeper, "on_train_batch_end", stop)


def test_an_interrupt_leaves_a_run_that_loads_and_goes_on(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_after(7, patch)
        with pytest.raises(KeyboardInterrupt):
            make_run(ENCODER, digits, tmp_path)
    signal.signal(signal.SIGINT, handler)  # Lightning ignores further ones while it shuts down
    run = tmp_path / "run"
    assert checkpoint_of(run)["global_step"] == 7
    load_run(run)
    go_on(make_recipe(ENCODER, tmp_path), digits, run, resume=True)
    assert checkpoint_of(run)["global_step"] == 10


def test_ctrl_c_on_the_command_line(digits: Path, tmp_path: Path) -> None:
    make_recipe(ENCODER, tmp_path)
    command = [
        sys.executable,
        "-c",
        "from kineme.pipeline.cli import main; main()",
        "train",
        str(tmp_path / "tiny.yaml"),
    ]
    command += ["--data", str(digits / "shards"), "--out", str(tmp_path / "run"), "--accelerator", "cpu"]
    command += ["--set", "training.epochs=100000", "--set", "training.picture_every_epochs=100000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        # The first line is printed at the end of the first epoch.
        assert process.stdout.readline().startswith("epoch 0")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("kineme: ")]
    assert "interrupted" in line
    load_run(tmp_path / "run")
    assert checkpoint_of(tmp_path / "run")["global_step"] >= 5


def test_an_existing_run_is_refused(encoder_run: Path, digits: Path) -> None:
    with pytest.raises(RunError, match="holds a run already; go on with --resume"):
        go_on(load_recipe(encoder_run / "recipe.yaml"), digits, encoder_run)


def test_nothing_to_resume(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        go_on(make_recipe(ENCODER, tmp_path), digits, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", [ENCODER.replace("f_dim: 5", "f_dim: 6"), PREDICTOR])
def test_resuming_with_another_model_is_refused(text: str, encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    before = (encoder_run / "recipe.yaml").read_text()
    with pytest.raises(RunError, match="was trained as another sequential-vae model"):
        go_on(make_recipe(text, tmp_path), digits, encoder_run, resume=True)
    assert (encoder_run / "recipe.yaml").read_text() == before


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (["data.batch_size=21"], DataError, "20 clips are fewer than one batch of 21"),
        (["data.clip_frames=9"], DataError, "has 8 frames"),
        (["data.split=validation"], DataError, "no clips of split 'validation'"),
        (["data.augment={flip: {}}"], DataError, "horizontal_flip"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_no_folder(
    settings: list[str], error: type[Exception], message: str, digits: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as refusal:
        make_run(ENCODER, digits, tmp_path, *settings)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("accelerator", ["abacus", *([] if torch.accelerator.is_available() else ["gpu"])])
def test_an_accelerator_that_is_not_there(accelerator: str, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"--accelerator {accelerator}"):
        train(make_recipe(ENCODER, tmp_path), digits / "shards", tmp_path / "run", accelerator=accelerator)


def test_a_clip_must_be_longer_than_its_context(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be longer than objective\.context"):
        make_run(PREDICTOR, digits, tmp_path, "objective.context=6")
