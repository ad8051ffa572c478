"""Recipes: everything a training run needs to know beside its data, as typed models read from YAML.

An unknown key is an error that names the nearest known one; so is a value of the wrong type or range.
"""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kineme.pipeline.errors import RunError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SequentialVAEModel(_Section):
    """Sizes of the sequential VAE; see `kineme.models.sequential_vae.SequentialVAEConfig`."""

    frame_size: Annotated[int, Field(ge=32, multiple_of=32)] = 64
    width: Annotated[int, Field(ge=1)] = 32
    f_dim: Annotated[int, Field(ge=1)] = 256
    z_dim: Annotated[int, Field(ge=1)] = 32
    hidden_dim: Annotated[int, Field(ge=1)] = 512
    pooled_content: bool = False
    modulated_decoder: bool = False


class SequentialVAEObjective(_Section):
    """Weights of the objective: beta on both divergences, reached after ``kl_warmup`` of the training; sigma of x."""

    beta: Annotated[float, Field(ge=0)] = 1.0
    sigma: Annotated[float, Field(gt=0)] = 1.0
    kl_warmup: Annotated[float, Field(ge=0, le=1)] = 0.0


class FramePredictorModel(_Section):
    """Sizes of the next-frame CVAE; see `kineme.models.frame_predictor.FramePredictorConfig`."""

    frame_size: Annotated[int, Field(ge=32, multiple_of=32)] = 64
    width: Annotated[int, Field(ge=1)] = 64
    feature_dim: Annotated[int, Field(ge=1)] = 128
    hidden_dim: Annotated[int, Field(ge=1)] = 256
    latent_dim: Annotated[int, Field(ge=1)] = 64
    condition_dim: Annotated[int, Field(ge=0)] = 0
    condition_embedding: Annotated[int, Field(ge=1)] = 32
    predictor_layers: Annotated[int, Field(ge=1)] = 2
    posterior_layers: Annotated[int, Field(ge=1)] = 1


class KLAnnealing(_Section):
    """How the weight of the KL term rises; see `kineme.models.schedules.kl_weight`."""

    kind: Literal["none", "monotonic", "cyclical"] = "none"
    beta: Annotated[float, Field(ge=0)] = 1e-4
    cycles: Annotated[int, Field(ge=1)] = 4
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5


class TeacherForcing(_Section):
    """How often the truth is fed back over the training; see `kineme.models.schedules.teacher_forcing_ratio`."""

    start: Annotated[float, Field(ge=0, le=1)] = 1.0
    decay_begin: Annotated[float, Field(ge=0, le=1)] = 0.0
    decay_step: Annotated[float, Field(ge=0)] = 0.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0


class FramePredictorObjective(_Section):
    """The split of a clip into context and predicted frames, and the two schedules."""

    context: Annotated[int, Field(ge=1)] = 2
    kl: KLAnnealing = KLAnnealing()
    teacher_forcing: TeacherForcing = TeacherForcing()


class DataSection(_Section):
    """What of the shards is trained on.

    ``split`` is a stored split, or a label: ``actor=daria``, ``actor!=daria``. ``cache`` decodes every clip once and
    keeps it, uncompressed, in SHARDS/.cache, which never holds more than ``cache_gb`` (1e9 bytes; left out: half of the
    disk space free without it); clips beyond that are decoded every epoch. ``endless`` draws so many new clips each
    epoch instead, where the shards can. ``resident`` keeps all clips in the memory of the device.
    """

    split: str | None = "train"
    clip_frames: Annotated[int, Field(ge=2)] = 16
    frame_step: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 32
    workers: Annotated[int, Field(ge=0)] = 2
    cache: bool = True
    cache_gb: Annotated[float, Field(ge=0)] | None = None
    endless: Annotated[int, Field(ge=1)] | None = None
    resident: bool = False
    augment: dict[str, dict[str, Any]] = {}


class OptimizerSection(_Section):
    """Adam; the rate rises over ``warmup_steps`` and falls along a half cosine to ``final_lr_fraction`` of itself."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    final_lr_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    gradient_clip: Annotated[float, Field(gt=0)] | None = None


class TrainingSection(_Section):
    """How long, with which random seed and precision. The run ends at ``epochs`` or ``minutes``, whichever is first."""

    epochs: Annotated[int, Field(ge=1)] = 100
    minutes: Annotated[float, Field(gt=0)] | None = None
    seed: int = 0
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    picture_every_epochs: Annotated[int, Field(ge=1)] = 5


class Question(_Section):
    """One retrieval question: does search ``by`` a space bring clips of the same ``label``?

    Clips that share the query's ``leave_out`` label are left out. ``leak`` marks what the space should not know.
    """

    by: Literal["motion", "appearance"]
    label: str
    leave_out: str | None = None
    leak: bool = False


class _Recipe(_Section):
    data: DataSection = DataSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()


class SequentialVAERecipe(_Recipe):
    """A run of the sequential VAE: an encoder of motion and appearance, and a generator for swaps."""

    kind: Literal["sequential-vae"]
    model: SequentialVAEModel = SequentialVAEModel()
    objective: SequentialVAEObjective = SequentialVAEObjective()
    encode_frames: Annotated[int, Field(ge=2)] = 16
    motion_vector: Literal["states", "changes"] = "states"
    questions: list[Question] = []


class FramePredictorRecipe(_Recipe):
    """A run of the next-frame CVAE."""

    kind: Literal["frame-predictor"]
    model: FramePredictorModel = FramePredictorModel()
    objective: FramePredictorObjective = FramePredictorObjective()


Recipe = Annotated[SequentialVAERecipe | FramePredictorRecipe, Field(discriminator="kind")]
KINDS: dict[str, type[_Recipe]] = {"sequential-vae": SequentialVAERecipe, "frame-predictor": FramePredictorRecipe}


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
    settings = _read_yaml(name)
    for override in overrides or []:
        _set(settings, override)
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RunError(
            f"{name}: kind is {kind!r}, but a recipe is one of {', '.join(KINDS)}{_nearest(kind, list(KINDS))}"
        )
    try:
        recipe: Recipe = TypeAdapter(Recipe).validate_python(settings)
    except ValidationError as error:
        raise RunError(f"{name}: {_explain(error, KINDS[kind])}") from None
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default written out, as YAML that `load_recipe` reads back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _read_yaml(name: str | Path) -> dict[str, Any]:
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


def _explain(error: ValidationError, kind: type[_Recipe]) -> str:
    """The first complaint of pydantic in one line, with the nearest known key where a key is unknown."""
    first = error.errors()[0]
    # The discriminator's value leads the location of every error inside a union.
    path = [part for part in first["loc"] if part not in KINDS]
    dotted = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        known = _keys_at(kind, [str(part) for part in path[:-1]])
        return f"unknown key {dotted}{_nearest(str(path[-1]), known)}; known here: {', '.join(known)}"
    return f"{dotted} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


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
