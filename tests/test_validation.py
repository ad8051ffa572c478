"""Validation during training: on clips that are never trained on, and without a trace in what is trained."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import ENCODER, PREDICTOR, make_recipe, make_run

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.run import load_run
from kineme.pipeline.tasks import TrainingClips, make_task
from kineme.pipeline.training import train
from kineme.pipeline.training_module import TrainingModule
from kineme.pipeline.validation import evaluating, held_out_batches, mean_figures, validate
from kineme.shards.batch import ClipBatch, collate
from kineme.shards.errors import DataError
from kineme.shards.records import read_records
from kineme.shards.stored import Clip

CPU = torch.device("cpu")
# How many of the 20 videos that is depends on their bytes, and so on the encoder; some are on either side.
HALF = ("data.held_out=0.5", "data.batch_size=2", "training.picture_every_epochs=9")
KERNELS = PREDICTOR.replace("frame-predictor", "kernel-predictor").replace(
    "model: {frame_size: 32, width: 2, feature_dim: 6, hidden_dim: 8, latent_dim: 3}",
    "model: {frame_size: 32, width: 4, kernels: 2, reach: 2}",
)


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def psnrs_of(run: Path) -> list[float]:
    return [float(row["validation/psnr"]) for row in rows_of(run) if row.get("validation/psnr")]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "weights.pt", weights_only=True)["weights"]


@pytest.fixture(scope="module")
def validated_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(PREDICTOR, digits, tmp_path_factory.mktemp("validated"), *HALF)


def test_every_epoch_is_validated_and_logged(
    validated_run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(validated_run)
    found = [row for row in rows if row["validation/psnr"]]
    assert [float(row["epoch"]) for row in found] == [1.0, 2.0]
    last = max(int(row["step"]) for row in rows)
    assert [int(row["step"]) for row in found] == [last // 2, last]
    again = make_run(PREDICTOR, digits, tmp_path, *HALF)
    assert psnrs_of(again) == psnrs_of(validated_run)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [f"validation/psnr {value:.4g}" in line for line, value in zip(lines, psnrs_of(again), strict=True)] == [
        True,
        True,
    ]
    # The weights at the end are those that were validated last.
    run = load_run(again, CPU)
    held_out = held_out_batches(run.recipe.data, digits / "shards")
    assert validate(run.task, held_out, CPU) == {"psnr": pytest.approx(psnrs_of(again)[-1], rel=1e-6)}


def test_held_out_clips_are_never_trained_on(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: set[str] = set()
    step = TrainingModule.training_step

    def watch(self: TrainingModule, batch: ClipBatch, batch_idx: int) -> torch.Tensor:
        trained.update(record.key for record in batch.records)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", watch)
    make_run(PREDICTOR, digits, tmp_path, "data.held_out=0.5", "data.batch_size=1")
    recipe = make_recipe(PREDICTOR, tmp_path, *HALF)
    held_out = {record.key for batch in held_out_batches(recipe.data, digits / "shards") for record in batch.records}
    assert trained
    assert held_out
    assert not trained & held_out
    assert trained | held_out == {r.key for r in read_records(digits / "shards") if r.split == "train"}


@pytest.fixture(scope="module")
def endless(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' shards, beside them what it takes to draw clips without end."""
    root = tmp_path_factory.mktemp("endless")
    shutil.copytree(digits / "shards", root / "shards")
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    classes = np.arange(5, dtype=np.uint8)
    np.savez(root / "shards" / "endless.npz", dataset=np.array("moving-mnist"), images=images, classes=classes)
    return root


def test_validation_changes_nothing_that_is_trained(endless: Path, tmp_path: Path) -> None:
    """Clips that are drawn are the same with and without clips held out. The predictor draws z and what is fed back."""
    runs = []
    for share in (0.5, 0.0):
        folder = tmp_path / str(share)
        folder.mkdir()
        settings = (f"data.held_out={share}", "data.endless=8", "objective.teacher_forcing={start: 0.5, floor: 0.5}")
        runs.append(make_run(PREDICTOR, endless, folder, *settings))
    with_it, without = runs
    assert len(psnrs_of(with_it)) == 2
    assert psnrs_of(without) == []
    one, other = weights_of(with_it), weights_of(without)
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_run_that_stops_within_an_epoch_is_validated_there(digits: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        steps = iter(range(1, 1000))
        # A clock by which every step takes ten seconds.
        patch.setattr(TrainingModule, "count_time", lambda self: setattr(self, "elapsed_s", 10.0 * next(steps)))
        settings = ("data.held_out=0.5", "data.batch_size=1", "training.epochs=3", "training.minutes=0.25")
        run = make_run(PREDICTOR, digits, tmp_path, *settings)
    (row,) = [row for row in rows_of(run) if row["validation/psnr"]]
    assert int(row["step"]) == 1
    assert 0 < float(row["epoch"]) < 1
    with Image.open(run / "samples" / "curves.png") as picture:
        assert min(picture.size) > 100


def test_a_resumed_run_is_validated_further(validated_run: Path, digits: Path, tmp_path: Path) -> None:
    run = make_run(PREDICTOR, digits, tmp_path, *HALF, "training.epochs=1")
    train(load_recipe(validated_run / "recipe.yaml"), digits / "shards", run, resume=True, accelerator="cpu")
    assert [float(row["epoch"]) for row in rows_of(run)] == [float(row["epoch"]) for row in rows_of(validated_run)]
    assert len(psnrs_of(run)) == 2


@pytest.mark.parametrize(("text", "settings"), [(PREDICTOR, ()), (ENCODER, HALF)])
def test_without_clips_or_figures_there_is_no_validation(
    text: str, settings: tuple[str, ...], digits: Path, tmp_path: Path
) -> None:
    run = make_run(text, digits, tmp_path, *settings, "training.epochs=1")
    assert not any(name.startswith("validation") for row in rows_of(run) for name in row)


def test_time_of_validation_is_no_time_of_training(tmp_path: Path) -> None:
    module = TrainingModule(make_recipe(PREDICTOR, tmp_path))
    module.count_time()
    time.sleep(0.02)
    with module.clock_stopped():
        time.sleep(0.3)
    module.count_time()
    assert 0.02 <= module.elapsed_s < 0.25


def test_figures_are_means_over_clips_of_whatever_batches(digits: Path, tmp_path: Path) -> None:
    recipe = make_recipe(KERNELS, tmp_path, "data.held_out=0.5")
    torch.manual_seed(0)
    task = make_task(recipe)
    clips = [
        Clip(frames.permute(0, 2, 3, 1).numpy(), record, None, None)
        for batch in held_out_batches(recipe.data, digits / "shards")
        for frames, record in zip(batch.frames, batch.records, strict=True)
    ]
    one_by_one = [validate(task, [collate([clip])], CPU)["psnr"] for clip in clips]
    uneven = validate(task, [collate(clips[:1]), collate(clips[1:])], CPU)["psnr"]
    assert uneven == pytest.approx(np.mean(one_by_one), rel=1e-5)


def test_measured_in_evaluation_mode_without_gradients(digits: Path, tmp_path: Path) -> None:
    recipe = make_recipe(PREDICTOR, tmp_path, "data.held_out=0.5")
    task = make_task(recipe)

    def look(clips: TrainingClips) -> dict[str, torch.Tensor]:
        return {"training": torch.tensor(task.model.training), "gradients": torch.tensor(torch.is_grad_enabled())}

    found = mean_figures(task, look, held_out_batches(recipe.data, digits / "shards"), CPU)
    assert found == {"training": 0, "gradients": 0}
    assert task.model.training


def test_seeds_draw_other_futures_and_leave_the_random_numbers_alone(validated_run: Path, digits: Path) -> None:
    run = load_run(validated_run, CPU)
    held_out = held_out_batches(run.recipe.data, digits / "shards")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = [validate(run.task, held_out, CPU, seed=seed)["psnr"] for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert found[0] == found[1] != found[2]


def test_at_most_so_many_clips_the_first_ones(digits: Path, tmp_path: Path) -> None:
    """Under another share nearly all of the training clips are held out: more than one batch."""
    data = make_recipe(PREDICTOR, tmp_path, "data.held_out=0.999999").data
    keys = [record.key for record in read_records(digits / "shards") if record.split == "train"]
    batches = held_out_batches(data, digits / "shards", most=16)
    assert [record.key for batch in batches for record in batch.records] == keys[:16]
    assert sum(len(batch) for batch in held_out_batches(data, digits / "shards")) == 20


def test_all_is_afterwards_as_it_was() -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Sequential(torch.nn.Dropout()))
    network[0].eval()
    modes = [part.training for part in network.modules()]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with evaluating(network, torch.device("cpu")):
        torch.rand(5)
        assert not any(part.training for part in network.modules())
        assert not torch.is_grad_enabled()
    assert [part.training for part in network.modules()] == modes
    assert torch.is_grad_enabled()
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("data.held_out=1e-9", DataError, "holds out none of 20 clips"),
        ("data.held_out=0.999999", DataError, "leaves none of 20 clips"),
        ("data.held_out=1", RunError, r"data\.held_out is 1: input should be less than 1"),
    ],
)
def test_what_cannot_be_held_out_is_one_line_and_leaves_no_folder(
    setting: str, error: type[Exception], message: str, digits: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as refusal:
        make_run(PREDICTOR, digits, tmp_path, setting)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()
