"""Runs that start from the weights of another run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import BASELINE, ENCODER, PREDICTOR, STATICS_DYNAMICS, make_recipe, make_run
from toy_tasks import OneStage

from kineme.pipeline import cli
from kineme.pipeline.errors import RunError
from kineme.pipeline.initial_weights import start_from
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.tasks import make_task
from kineme.pipeline.training import train

STILL = "optimizer.lr=1e-30"
"""A rate that float32 weights do not notice, unless they are zero."""


def weights(run: Path) -> dict[str, torch.Tensor]:
    saved: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "weights.pt", weights_only=True)["weights"]
    return saved


def learnt(run: Path) -> dict[str, torch.Tensor]:
    """The weights without the statistics of batch norms, which move at any rate."""
    return {name: value for name, value in weights(run).items() if "running" not in name and "tracked" not in name}


def test_all_of_an_equal_network(
    encoder_run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(ENCODER, digits, tmp_path, f"training.init={encoder_run}", STILL, "training.seed=8")
    given = weights(encoder_run)
    torch.testing.assert_close(learnt(run), learnt(encoder_run), rtol=0, atol=1e-25)
    assert f"{encoder_run}: {len(given)} of {len(given)} tensors start from there" in capsys.readouterr().out
    assert load_recipe(run / "recipe.yaml").training.init == str(encoder_run)


def test_what_fits_of_another_network(encoder_run: Path, tmp_path: Path) -> None:
    """Counted by hand, tensor by tensor; the rest keeps its fresh weights."""
    recipe = make_recipe(ENCODER.replace("f_dim: 5", "f_dim: 6"), tmp_path)
    torch.manual_seed(1)
    task = make_task(recipe)
    fresh = {name: value.clone() for name, value in task.model.state_dict().items()}
    given = weights(encoder_run)
    line = start_from(task, recipe.kind, encoder_run)
    taken = 0
    for name, value in task.model.state_dict().items():
        fits = name in given and given[name].shape == value.shape
        taken += fits
        assert torch.equal(value, given[name] if fits else fresh[name]), name
    assert 0 < taken < len(fresh)
    assert line == f"{encoder_run}: {taken} of {len(fresh)} tensors start from there"


def test_another_kind_is_refused(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a sequential-vae run and has nothing a frame-predictor run") as error:
        make_run(PREDICTOR, digits, tmp_path, f"training.init={encoder_run}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_nothing_that_fits_is_refused(encoder_run: Path, tmp_path: Path) -> None:
    recipe = make_recipe(ENCODER, tmp_path)
    with pytest.raises(RunError, match=r"none of its .* tensors has name and shape of one of the") as error:
        start_from(OneStage(recipe), recipe.kind, encoder_run)
    assert "\n" not in str(error.value)


def test_a_transformer_that_is_not_trained_must_come_from_there(
    statics_run: Path, digits: Path, tmp_path: Path
) -> None:
    untrained = "objective.transformer.fraction=0"
    (tmp_path / "baseline").mkdir()
    baseline = make_run(BASELINE, digits, tmp_path / "baseline", "training.epochs=1")
    for init, settings in ((baseline, ()), (statics_run, ("model.width=5", "model.latent_channels=12"))):
        with pytest.raises(RunError, match=r"gives no transformer\..* of this size, and .*fraction 0 trains none"):
            make_run(STATICS_DYNAMICS, digits, tmp_path, f"training.init={init}", untrained, *settings)
    make_run(STATICS_DYNAMICS, digits, tmp_path, f"training.init={statics_run}", untrained, "training.epochs=1")


def test_no_run_there(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent: no run here, recipe\.yaml is missing"):
        make_run(ENCODER, digits, tmp_path, f"training.init={tmp_path / 'absent'}")


def test_a_resumed_run_does_not_start_again(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    """It does not even look: the other run may be gone by then."""
    run = make_run(ENCODER, digits, tmp_path, f"training.init={encoder_run}", "training.epochs=1")
    reached = learnt(run)
    recipe = make_recipe(ENCODER, tmp_path, "training.init=gone", STILL)
    train(recipe, digits / "shards", run, resume=True, accelerator="cpu")
    torch.testing.assert_close(learnt(run), reached, rtol=0, atol=1e-25)


def test_the_command_line(encoder_run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_recipe(ENCODER, tmp_path)
    # A name that YAML would read as something else.
    other = tmp_path / "a: [run"
    other.symlink_to(encoder_run)
    arguments = [tmp_path / "tiny.yaml", "--data", digits / "shards", "--out", tmp_path / "run", "--init", other]
    arguments += ["--accelerator", "cpu", "--minutes", "0.001"]
    monkeypatch.setattr(sys, "argv", ["kineme", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert load_recipe(tmp_path / "run" / "recipe.yaml").training.init == str(other)
