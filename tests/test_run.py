"""Run folders read back: what is missing, damaged or of another recipe is named in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.run import load_run
from kineme.pipeline.training import train


@pytest.fixture
def copy(encoder_run: Path, tmp_path: Path) -> Path:
    """A run that a test may spoil."""
    return Path(shutil.copytree(encoder_run, tmp_path / "copy"))


def refusal(run: Path) -> str:
    with pytest.raises(RunError) as error:
        load_run(run, torch.device("cpu"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_copied_run_is_whole(copy: Path, encoder_run: Path) -> None:
    here, there = load_run(copy), load_run(encoder_run)
    assert here.recipe == there.recipe
    moved = here.task.model.state_dict()
    assert all(torch.equal(value, moved[name]) for name, value in there.task.model.state_dict().items())


def test_weights_of_another_recipe_name_what_differs(copy: Path) -> None:
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("f_dim: 5", "f_dim: 6").replace("width: 2", "width: 3"))
    line = refusal(copy)
    assert "f_dim 5 in the weights, 6 in the recipe; width 2 in the weights, 3 in the recipe" in line
    assert "hidden_dim" not in line


def test_weights_of_another_kind(copy: Path, predictor_run: Path) -> None:
    shutil.copy(predictor_run / "checkpoints" / "weights.pt", copy / "checkpoints" / "weights.pt")
    assert "kind frame-predictor in the weights, sequential-vae in the recipe" in refusal(copy)


@pytest.mark.parametrize("change", ["renamed", "cut"])
def test_weights_of_another_version(change: str, copy: Path) -> None:
    """The same recipe, but a network that had other tensors for it."""
    path = copy / "checkpoints" / "weights.pt"
    saved = torch.load(path, weights_only=True)
    tensor = saved["weights"].pop("f_mean.weight")
    saved["weights"] |= {"f_head.weight": tensor} if change == "renamed" else {"f_mean.weight": tensor[1:]}
    torch.save(saved, path)
    named = "f_head.weight" if change == "renamed" else "f_mean.weight"
    assert f"the weights are of another version of kineme, {named} is missing here or there" in refusal(copy)


def test_a_checkpoint_of_another_version_is_not_resumed(copy: Path, digits: Path) -> None:
    path = copy / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["model.f_head.weight"] = saved["state_dict"].pop("model.f_mean.weight")
    torch.save(saved, path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"of another version of kineme, model\.f_head\.weight is missing here or there"):
        train(load_recipe(copy / "recipe.yaml"), digits / "shards", copy, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut short", "text", "empty", "a checkpoint", "a list"])
def test_damaged_weights(damage: str, copy: Path) -> None:
    weights = copy / "checkpoints" / "weights.pt"
    whole = weights.read_bytes()
    if damage == "cut short":
        weights.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        weights.write_text("these are no weights\n")
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "a checkpoint":
        shutil.copy(copy / "checkpoints" / "last.ckpt", weights)
    else:
        torch.save([1, 2], weights)
    assert f"{weights}: not readable as weights" in refusal(copy)


def test_missing_parts(copy: Path) -> None:
    # A run may lie in a folder of shards.
    (copy / "manifest.json").touch()
    load_run(copy)
    (copy / "manifest.json").unlink()
    (copy / "checkpoints" / "weights.pt").unlink()
    assert "checkpoints/weights.pt is missing" in refusal(copy)
    (copy / "recipe.yaml").unlink()
    assert "no run here, recipe.yaml is missing" in refusal(copy)
    (copy / "manifest.json").touch()
    assert "a folder of shards, no run; give it as --data" in refusal(copy)
