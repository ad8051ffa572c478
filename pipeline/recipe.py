"""Recipes: everything a training run needs to know beside its data, as typed models read from YAML.

An unknown key is an error that names the nearest known one; so is a value of the wrong type or range.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe_models import KINDS as KINDS
from kineme.pipeline.recipe_models import FramePredictorRecipe as FramePredictorRecipe
from kineme.pipeline.recipe_models import JudgeRecipe as JudgeRecipe
from kineme.pipeline.recipe_models import KernelPredictorRecipe as KernelPredictorRecipe
from kineme.pipeline.recipe_models import PredictorRecipe as PredictorRecipe
from kineme.pipeline.recipe_models import Recipe as Recipe
from kineme.pipeline.recipe_models import SequentialVAERecipe as SequentialVAERecipe
from kineme.pipeline.recipe_models import StaticsDynamicsRecipe as StaticsDynamicsRecipe
from kineme.pipeline.recipe_models import VideoBaselineRecipe as VideoBaselineRecipe
from kineme.pipeline.recipe_models import network_settings as network_settings
from kineme.pipeline.recipe_prediction import PredictionObjective as PredictionObjective
from kineme.pipeline.recipe_sections import OptimizerSection as OptimizerSection
from kineme.pipeline.recipe_sections import Question as Question

Settings = TypeVar("Settings", bound=BaseModel)


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with kineme, such as ``sequential-vae/sprites``."""
    root = resources.files("kineme.pipeline.recipes")
    return sorted(
        f"{folder.name}/{file.name.removesuffix('.yaml')}"
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    )


def load_recipe(name: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by the name of a shipped one or by the path of a YAML file.

    Args:
        name: ``sequential-vae/sprites``, or a path that ends in .yaml.
        overrides: ``key=value`` with dots for sections, ``optimizer.lr=0.002``; values are read as YAML.

    Raises:
        RunError: there is no such recipe, it is no YAML mapping, a key is unknown or a value is out of its range.
    """
    settings = read_yaml(name)
    change_settings(settings, overrides or [])
    return recipe_of(settings, name)


def recipe_of(settings: dict[str, Any], name: str | Path) -> Recipe:
    """Settings as the recipe of their kind; ``name`` says in an error where they came from.

    Raises:
        RunError: there is no such kind, a key is unknown or a value is out of its range.
    """
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RunError(
            f"{name}: kind is {kind!r}, but a recipe is one of {', '.join(KINDS)}{_nearest(kind, list(KINDS))}"
        )
    # KINDS holds the members of the union Recipe.
    return cast(Recipe, validated(KINDS[kind], settings, name))


def validated(model: type[Settings], settings: dict[str, Any], name: str | Path) -> Settings:
    """Settings as their typed model; ``name`` says in an error where they came from.

    Raises:
        RunError: a key is unknown or a value is out of its range.
    """
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise RunError(f"{name}: {_explain(error, model)}") from None


def dump_recipe(recipe: BaseModel) -> str:
    """The recipe with every default written out, as YAML that `load_recipe` reads back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def changed_settings(before: Recipe, now: Recipe) -> dict[str, str]:
    """What two recipes differ by: ``{"optimizer.lr": "0.002, was 0.001"}``; where it is the kind, that alone."""
    if now.kind != before.kind:
        return {"kind": f"{now.kind}, was {before.kind}"}

    def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in settings.items():
            values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return values

    old, new = flat(before.model_dump(mode="json")), flat(now.model_dump(mode="json"))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {name: f"{new.get(name)}, was {old.get(name)}" for name in names}


def read_yaml(name: str | Path) -> dict[str, Any]:
    """The settings of a recipe as they are written.

    Raises:
        RunError: there is no such recipe, or it is no YAML mapping.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise RunError(f"{path}: there is no such recipe file; shipped ones are {', '.join(shipped_recipes())}")
        text = path.read_bytes()
    else:
        shipped = shipped_recipes()
        if str(name) not in shipped:
            raise RunError(
                f"{name}: no recipe of that name{_nearest(str(name), shipped)}; "
                f"give one of {', '.join(shipped)} or a .yaml file"
            )
        text = resources.files("kineme.pipeline.recipes").joinpath(f"{name}.yaml").read_bytes()
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise RunError(f"{name}: a recipe is a YAML mapping of keys to values, this is {type(settings).__name__}")
    return settings


def change_settings(settings: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set each ``key=value``, with dots for sections; the values are read as YAML.

    Raises:
        RunError: not key=value, no YAML, or a key inside of what is no section.
    """
    for override in overrides:
        _set(settings, override)


def _set(settings: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise RunError(f"--set {override}: expected key=value, such as optimizer.lr=0.002")
    *sections, last = dotted.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise RunError(f"--set {override}: {section} is a value, not a section with keys of its own")
    try:
        settings[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RunError(f"--set {override}: the value is not YAML; quote text that holds brackets or colons") from None


def _explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first complaint of pydantic in one line, with the nearest known key where a key is unknown."""
    first = error.errors()[0]
    path = first["loc"]
    dotted = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        known = _keys_at(kind, [str(part) for part in path[:-1]])
        return f"unknown key {dotted}{_meant(kind, str(path[-1]), known)}; known here: {', '.join(known)}"
    # What a validator of our own raised, without pydantic's words before it; where it has many values, it names them.
    rule = first["msg"].removeprefix("Value error, ")
    names_them = first["type"] == "value_error" and isinstance(first["input"], dict | list)
    value = "" if names_them else f" is {first['input']!r}"
    return f"{dotted}{value}: {rule[0].lower()}{rule[1:]}"


def _meant(kind: type[BaseModel], key: str, known: list[str]) -> str:
    """The key of that name in a section of the recipe, else the nearest of those known."""
    inside = [f"{section}.{key}" for section in ("data", "model", "training") if key in _keys_at(kind, [section])]
    return f" (did you mean {' or '.join(inside)}?)" if inside else _nearest(key, known)


def _keys_at(model: type[BaseModel], sections: list[str]) -> list[str]:
    for section in sections:
        field = model.model_fields.get(section)
        if field is not None:
            annotation = field.annotation
            candidates = [annotation, *get_args(annotation)]
            model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _nearest(word: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
