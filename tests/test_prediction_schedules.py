"""The schedule study: what its runs share, what it measures, and how its command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import call
from PIL import Image
from predictions import untrained
from tiny_runs import PREDICTOR, STATICS_DYNAMICS, make_recipe
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from kineme.models.distributions import Gaussian
from kineme.models.next_frames import predict
from kineme.models.schedules import kl_weight, teacher_forcing_ratio
from kineme.pipeline.recipe import changed_settings
from kineme.pipeline.run import load_run
from kineme.pipeline.run_keeper import RunKeeper
from kineme.pipeline.studies import prediction_schedules
from kineme.pipeline.studies.prediction_schedules import (
    ANNEALING,
    FUTURES,
    TEACHER_FORCING,
    Cell,
    measure,
    study_recipe,
    summary,
    table,
)
from kineme.pipeline.validation import held_out_batches

CPU = torch.device("cpu")


def test_schedules_are_those_that_their_names_say() -> None:
    expected = {
        "always": lambda done: 1.0,
        "early": lambda done: 1.0 if done < 0.1 else 0.0 if done > 0.4 else (0.4 - done) / 0.3,
        "late": lambda done: 1.0 if done < 0.6 else 0.0 if done > 0.9 else (0.9 - done) / 0.3,
        "never": lambda done: 0.0,
    }
    base = study_recipe("frame-predictor/folder")
    for forcing, ratio in expected.items():
        settings = Cell("none", forcing, 0).recipe(base).objective.teacher_forcing.model_dump()
        for step in range(41):
            assert teacher_forcing_ratio(step / 40, **settings) == pytest.approx(ratio(step / 40), abs=1e-9)
    halfway = [kl_weight(0.375, **Cell(kind, "always", 0).recipe(base).objective.kl.model_dump()) for kind in ANNEALING]
    # Of 1e-4: all of it; three quarters of the first half; the end of the rise in the second of four cycles.
    assert halfway == pytest.approx([1e-4, 0.75e-4, 1e-4])


def test_runs_differ_by_their_schedules_and_seed_alone() -> None:
    base = study_recipe("frame-predictor/folder", ["data.batch_size=7"], epochs=3)
    recipes = {
        (kind, forcing, seed): Cell(kind, forcing, seed).recipe(base)
        for kind in ANNEALING
        for forcing in TEACHER_FORCING
        for seed in (0, 1)
    }
    texts = {recipe.model_dump_json() for recipe in recipes.values()}
    assert len(texts) == len(recipes) == 24
    first = next(iter(recipes.values()))
    changed = {name for recipe in recipes.values() for name in changed_settings(first, recipe)}
    assert changed == {
        "objective.kl.kind",
        "training.seed",
        *(f"objective.teacher_forcing.{name}" for name in ("start", "decay_begin", "decay_step")),
    }


def test_some_videos_are_held_out_whatever_the_recipe_says() -> None:
    assert study_recipe("frame-predictor/folder").data.held_out == 0.05
    assert study_recipe("frame-predictor/folder", ["data.held_out=0.2"]).data.held_out == 0.2


def test_runs_end_by_what_is_given() -> None:
    name = "frame-predictor/moving-digits-cpu"
    ends = [
        (recipe.training.epochs, recipe.training.minutes)
        for recipe in (study_recipe(name), study_recipe(name, minutes=0.5), study_recipe(name, epochs=7))
    ]
    assert ends == [(1000, 2), (1000, 0.5), (7, None)]


def halved(frames: torch.Tensor) -> torch.Tensor:
    """Stored frames of 64 x 64 pixels as the network of 32 x 32 sees them."""
    return frames.reshape(*frames.shape[:3], 32, 2, 32, 2).float().mean(dim=(-3, -1)) / 255


@pytest.fixture
def z_run(tmp_path: Path) -> Path:
    """An untrained kernel predictor with a learned prior."""
    (tmp_path / "z").mkdir()
    model = "{frame_size: 32, width: 4, kernels: 2, reach: 2, latent_dim: 2}"
    return untrained(f"kind: kernel-predictor\nmodel: {model}\ndata: {{clip_frames: 6}}\n", tmp_path / "z").folder


def normal(gaussian: Gaussian, clip: int) -> Normal:
    return Normal(gaussian.mean[clip], (gaussian.logvar[clip] / 2).exp())


@pytest.mark.parametrize("kind", ["predictor_run", "z_run"])
def test_measures_against_a_slow_reference(
    kind: str, digits: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = load_run(request.getfixturevalue(kind), CPU)
    batches = held_out_batches(make_recipe(PREDICTOR, tmp_path, "data.held_out=0.8").data, digits / "shards")
    model = run.task.model
    futures, divergences, errors = [], [], []
    with torch.no_grad():
        for seed in range(FUTURES):
            torch.manual_seed(seed)
            for batch in batches:
                frames = halved(batch.frames)
                drawn = predict(model, frames[:, :2], 4)
                for clip, future in zip(drawn, frames[:, 2:], strict=True):
                    squared = [((one - other) ** 2).mean() for one, other in zip(clip, future, strict=True)]
                    futures.append(sum(10 * torch.log10(1 / value) for value in squared) / 4)
        torch.manual_seed(0)
        for batch in batches:
            frames = halved(batch.frames)
            output = model(frames, context=2, teacher_forcing=False)
            for clip in range(len(frames)):
                posterior = normal(output.posterior, clip)
                prior = Normal(0.0, 1.0) if output.prior is None else normal(output.prior, clip)
                divergences.append(torch_kl(posterior, prior).sum(-1).mean())
                errors.append(((output.predicted[clip] - frames[clip, 1:]) ** 2).mean())
    expected = {
        name: float(torch.stack(values).mean())
        for name, values in (("psnr", futures), ("kl", divergences), ("reconstruction", errors))
    }
    assert measure(run, batches) == pytest.approx(expected, rel=1e-4)


def test_the_figures_of_seeds_are_their_means() -> None:
    runs = [{"psnr": 20.0, "kl": 3.0}, {"psnr": 21.0, "kl": 2.0}, {"psnr": 20.5, "kl": 7.0}]
    assert summary(runs[:1]) == runs[0]
    assert summary(runs) == {"psnr": 20.5, "kl": 4.0, "psnr_lowest": 20.0, "psnr_highest": 21.0}


def test_the_table_has_a_line_for_each_pair_of_schedules() -> None:
    figures = {
        "psnr": 20.5,
        "psnr_lowest": 20.0,
        "psnr_highest": 21.0,
        "kl": 4.0,
        "reconstruction": 0.01,
        "epochs": 9.0,
    }
    metrics = {
        f"{kind}/{forcing}/{name}": value
        for kind in ANNEALING
        for forcing in TEACHER_FORCING
        for name, value in figures.items()
    }
    head, *lines = table(metrics)
    assert head.split() == ["KL", "annealing", "teacher", "forcing", *figures]
    assert [line.split()[:2] for line in lines] == [
        [kind, forcing] for kind in ANNEALING for forcing in TEACHER_FORCING
    ]
    assert all(line.split()[2:] == ["20.50", "20.00", "21.00", "4.000", "0.01000", "9.0"] for line in lines)


@pytest.fixture
def arguments(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Of the command: two pairs of schedules, runs of one epoch."""
    monkeypatch.setattr(prediction_schedules, "ANNEALING", ("cyclical",))
    monkeypatch.setattr(
        prediction_schedules, "TEACHER_FORCING", {name: TEACHER_FORCING[name] for name in ("always", "early")}
    )
    make_recipe(PREDICTOR, tmp_path, "data.held_out=0.5")
    settings = ["--set", "data.held_out=0.5", "--set", "data.batch_size=2"]
    recipe = ["--recipe", tmp_path / "tiny.yaml", "--epochs", 1, *settings]
    return ["study", "prediction-schedules", "--data", digits / "shards", "--out", tmp_path / "out", *recipe]


def steps_of(run: Path) -> int:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def test_the_command_writes_figures_and_picture_and_goes_on(
    arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    end, steps = RunKeeper.on_train_batch_end, 0

    def interrupt(self, trainer, module, *rest):  # type: ignore[no-untyped-def]
        nonlocal steps
        end(self, trainer, module, *rest)
        steps += self.run.name == "cyclical-early-0"
        if steps == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunKeeper, "on_train_batch_end", interrupt)
        assert call(patch, *arguments) == 130
    finished = out / "runs" / "cyclical-always-0"
    assert (finished / "figures.json").is_file()
    assert steps_of(out / "runs" / "cyclical-early-0") == 2
    assert not (out / "prediction-schedules.json").exists()
    before = (finished / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    capsys.readouterr()

    assert call(monkeypatch, *arguments) == 0
    assert (finished / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert steps_of(out / "runs" / "cyclical-early-0") == steps_of(finished) > 2
    result = json.loads((out / "prediction-schedules.json").read_text())
    assert result["protocol"] == "prediction-schedules"
    assert result["command"].startswith("kineme study prediction-schedules")
    assert {"recipe", "device", "date", "versions"} <= result.keys()
    assert result["data"]["dataset"] == "moving-digits"
    metrics = result["metrics"]
    assert 0 < metrics["clips"] < 20
    assert metrics["seeds"] == 1
    assert {name.rsplit("/", 1)[0] for name in metrics} == {"cyclical/always", "cyclical/early", "clips", "seeds"}
    for forcing in ("always", "early"):
        kept = json.loads((out / "runs" / f"cyclical-{forcing}-0" / "figures.json").read_text())
        assert result["runs"][f"cyclical-{forcing}-0"] == kept
        assert kept.keys() == {"psnr", "kl", "reconstruction", "epochs"}
        for name, value in kept.items():
            assert metrics[f"cyclical/{forcing}/{name}"] == pytest.approx(value, abs=1e-5)
    picture = Image.open(out / "prediction-schedules.png")
    assert picture.size == (660, 320)
    assert len(picture.getcolors(1 << 20) or []) > 20
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:-1] == table(metrics)
    assert lines[-1] == f"{out}: prediction-schedules.json and prediction-schedules.png are there"

    # Another seed joins those that are there.
    assert call(monkeypatch, *arguments, "--seeds", 2) == 0
    assert (finished / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    runs = json.loads((out / "prediction-schedules.json").read_text())["runs"]
    assert len(runs) == 4
    assert runs["cyclical-always-0"] == result["runs"]["cyclical-always-0"] != runs["cyclical-always-1"]

    # Runs that share something else are not mixed with these.
    capsys.readouterr()
    assert call(monkeypatch, *arguments, "--set", "optimizer.lr=0.5") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its runs share other settings, optimizer.lr is 0.5, was 0.001; give those or another --out" in line
    other = ["--recipe", "kernel-predictor/folder", "--set", "model.latent_dim=8", "--set", "data.clip_frames=6"]
    assert call(monkeypatch, *arguments, *other) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its runs share other settings, kind is kernel-predictor, was frame-predictor; give those or" in line


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--minutes", 1], "--minutes 1 and --epochs 1: a run ends by one of them"),
        (["--seeds", 0], "--seeds 0: at least 1 is needed"),
        (["--set", "objective.kl.kind=none"], "--set objective.kl.kind=none: the study sets that itself"),
        (["--set", "objective.teacher_forcing.start=0.5"], "the study sets that itself"),
        (["--set", "training.seed=4"], "the study sets that itself"),
        (["--set", "data.held_out=1e-9"], "holds out none of 20 clips"),
        (["--recipe", "OTHER"], "other/tiny.yaml: has no KL term to anneal; give a recipe of frame-predictor, or of"),
        (["--recipe", "kernel-predictor/pushing"], "has no KL term to anneal; give a recipe of frame-predictor, or of"),
        (["--out", "FILE/below"], "FILE"),
        (["--out", "FOREIGN"], "FOREIGN: holds runs, but no settings.json of this study; give another --out"),
        (["--out", "ODD"], "settings.json: not written by this study; give another --out"),
    ],
)
def test_an_error_of_the_user_is_one_line_and_two(
    more: list[object],
    expected: str,
    arguments: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("FOREIGN/runs").mkdir(parents=True)
    Path("ODD").mkdir()
    Path("ODD/settings.json").write_text("[]")
    if more[-1] == "OTHER":
        Path("other").mkdir()
        make_recipe(STATICS_DYNAMICS, Path("other"))
        more = ["--recipe", "other/tiny.yaml"]
    assert call(monkeypatch, *arguments, *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kineme: ")
    assert expected in line
    assert not Path("out").exists()


def test_help_has_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "study", "prediction-schedules", "--help") == 0
    assert "Example: kineme study prediction-schedules" in capsys.readouterr().out
