"""Recipes: the shipped ones, and what a mistake in one is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import (
    KINDS,
    SequentialVAERecipe,
    changed_settings,
    dump_recipe,
    load_recipe,
    shipped_recipes,
)
from kineme.pipeline.tasks import make_task

VAE = "kind: sequential-vae\n"


def refusal(text: str | bytes, folder: Path, *settings: str) -> str:
    """The one line that refuses a recipe."""
    path = folder / "mine.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RunError) as error:
        load_recipe(path, list(settings))
    line = str(error.value)
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_and_comes_back(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.kind == name.split("/")[0]
    written = tmp_path / "written.yaml"
    written.write_text(dump_recipe(recipe))
    assert load_recipe(written) == recipe
    assert type(load_recipe(written)) is type(recipe)


def test_every_kind_is_shipped_and_can_be_built() -> None:
    assert {type(load_recipe(name)) for name in shipped_recipes()} == set(KINDS.values())
    recipe = load_recipe("sequential-vae/moving-digits-cpu")
    assert make_task(recipe).frame_size == recipe.model.frame_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modl: {}", "unknown key modl (did you mean model?); known here: data, optimizer, training, kind, model"),
        ("optimizer: {learn: 1, lrr: 2}", "unknown key optimizer.learn; known here: lr, warmup_steps"),
        ("optimizer: {lrr: 2}", "unknown key optimizer.lrr (did you mean lr?)"),
        ("clip_frames: 8", "unknown key clip_frames (did you mean data.clip_frames?)"),
        ("model: {frame_siz: 64}", "unknown key model.frame_siz (did you mean frame_size?)"),
        (
            "questions: [{by: motion, label: a, leaveout: b}]",
            "unknown key questions.0.leaveout (did you mean leave_out?",
        ),
        ("optimizer: {lr: 0}", "optimizer.lr is 0: input should be greater than 0"),
        ("optimizer: {lr: quick}", "optimizer.lr is 'quick': input should be a valid number"),
        ("model: {frame_size: 60}", "model.frame_size is 60: input should be a multiple of 32"),
        ("training: {precision: fp8}", "training.precision is 'fp8': input should be 'auto', '32-true'"),
        ("data: 5", "data is 5: "),
        (
            "objective: {decoder_stage: {read_back: 1}}",
            "objective.decoder_stage: block_error is 0 and read_back 1, but after 1 of the run no stage follows",
        ),
        (
            "questions: [{by: motion, label: a}, {by: motion, label: a, leave_out: b}]",
            "questions: motion/a is asked twice",
        ),
        ("questions: [{by: sound, label: a}]", "questions.0.by is 'sound': input should be 'motion' or 'appearance'"),
    ],
)
def test_a_mistake_is_named(text: str, expected: str, tmp_path: Path) -> None:
    assert refusal(VAE + text, tmp_path).startswith(expected)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("teacher_forcing={start: 0.2, floor: 0.5}", "objective.teacher_forcing: start is 0.2 and floor 0.5, but"),
        ("condition_mean=[0, 0]", "objective: condition_mean has 2 numbers and condition_std 0: give both, or neither"),
    ],
)
def test_settings_of_an_objective_that_go_together(setting: str, expected: str, tmp_path: Path) -> None:
    line = refusal("kind: kernel-predictor", tmp_path, f"objective.{setting}")
    assert line.startswith(expected)


def test_nested_sections_know_their_keys(tmp_path: Path) -> None:
    line = refusal("kind: frame-predictor\nobjective: {kl: {cycle: 2}}", tmp_path)
    assert line == "unknown key objective.kl.cycle (did you mean cycles?); known here: kind, beta, cycles, ratio"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "kind: sequential-vea",
            f"kind is 'sequential-vea', but a recipe is one of {', '.join(KINDS)} (did",
        ),
        ("kind: [1]", "kind is [1], but a recipe is one of"),
        ("data: {}", f"kind is None, but a recipe is one of {', '.join(KINDS)}"),
        ("kind: [unclosed", "not YAML: "),
        (b"kind: \x80\x81 binary", "not YAML: "),
        ("- a\n- list", "a recipe is a YAML mapping of keys to values, this is list"),
        ("", "a recipe is a YAML mapping of keys to values, this is NoneType"),
    ],
)
def test_what_is_no_recipe(text: str | bytes, expected: str, tmp_path: Path) -> None:
    assert refusal(text, tmp_path).startswith(expected)


def test_an_unknown_name_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"did you mean sequential-vae/sprites\?"):
        load_recipe("sequential-vae/sprite")
    with pytest.raises(RunError, match=r"there is no such recipe file; shipped ones are .*sequential-vae/sprites"):
        load_recipe(tmp_path / "absent.yaml")


def test_settings_change_a_recipe() -> None:
    recipe = load_recipe(
        "sequential-vae/moving-digits-cpu",
        ["optimizer.lr=0.25", "training.minutes=null", "data.augment={horizontal_flip: {p: 0.5}}", "encode_frames=7"],
    )
    assert recipe.optimizer.lr == 0.25
    assert recipe.training.minutes is None
    assert recipe.data.augment == {"horizontal_flip": {"p": 0.5}}
    assert isinstance(recipe, SequentialVAERecipe)
    assert recipe.encode_frames == 7
    # What was not set stays.
    assert recipe.optimizer.warmup_steps == load_recipe("sequential-vae/moving-digits-cpu").optimizer.warmup_steps


def test_what_two_recipes_differ_by() -> None:
    name = "sequential-vae/sprites"
    one, other = load_recipe(name), load_recipe(name, ["optimizer.lr=0.5", "objective.decoder_stage={after: 0.5}"])
    assert changed_settings(one, one) == {}
    assert changed_settings(one, other) == {
        "optimizer.lr": f"0.5, was {one.optimizer.lr}",
        "objective.decoder_stage.after": "0.5, was 1.0",
    }


def test_the_last_setting_holds() -> None:
    assert load_recipe("sequential-vae/sprites", ["training.seed=1", "training.seed=2"]).training.seed == 2


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("optimizer.lr", "--set optimizer.lr: expected key=value"),
        ("=3", "--set =3: expected key=value"),
        ("kind.x=3", "--set kind.x=3: kind is a value, not a section"),
        ("optimizer.lr=[", "--set optimizer.lr=[: the value is not YAML"),
        ("optimizer.lrr=1", "unknown key optimizer.lrr (did you mean lr?)"),
        ("training.epochs=0", "training.epochs is 0: input should be greater than or equal to 1"),
    ],
)
def test_a_bad_setting(setting: str, expected: str, tmp_path: Path) -> None:
    assert refusal(VAE, tmp_path, setting).startswith(expected)
