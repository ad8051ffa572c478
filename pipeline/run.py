"""The run folder: where a training keeps its recipe and weights, and how they are read back.

recipe.yaml       every setting, defaults written out
environment.json  versions, device and the command
checkpoints/      last.ckpt (to resume, with the optimiser) and weights.pt (to use)
metrics/          metrics.csv (steps, epochs with their fractions, what was logged) and TensorBoard's event files
samples/          film strips drawn during training, and curves.png: all of metrics.csv over the epochs
"""

from __future__ import annotations

import json
import pickle
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor, nn

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import Recipe, dump_recipe, load_recipe, network_settings
from kineme.pipeline.tasks import Task, make_task
from kineme.shards.manifest import MANIFEST

RECIPE = "recipe.yaml"
ENVIRONMENT = "environment.json"
WEIGHTS = "checkpoints/weights.pt"
CHECKPOINT = "checkpoints/last.ckpt"
METRICS = "metrics/metrics.csv"
CURVES = "samples/curves.png"

# What torch.load and our reading of its result raise on bytes that are no weights of ours.
_DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class Run:
    """A trained run, ready to use: its recipe and its task with the weights loaded, in evaluation mode."""

    folder: Path
    recipe: Recipe
    task: Task
    device: torch.device


def pick_device(name: str | None = None) -> torch.device:
    """The named device, else the GPU if there is one, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def device_name(device: torch.device) -> str:
    """How a result names its device: the GPU's product name, or the CPU's with the number of threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def environment() -> dict[str, object]:
    """Versions and machine, for results and run folders."""
    packages = (
        "kineme",
        "torch",
        "torchvision",
        "lightning",
        "decord",
        "webdataset",
        "faiss-cpu",
        "numpy",
        "opencv-python-headless",
    )
    return {
        "command": " ".join(["kineme", *sys.argv[1:]]),
        "device": device_name(pick_device()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def save_weights(folder: Path, recipe: Recipe, task: Task) -> None:
    """Write checkpoints/weights.pt whole or not at all."""
    path = folder / WEIGHTS
    temporary = path.with_suffix(".tmp")
    torch.save({"recipe": dump_recipe(recipe), "weights": task.model.state_dict()}, temporary)
    temporary.replace(path)


def check_run(folder: Path) -> None:
    """Refuse a folder that holds no recipe, by RunError."""
    if (folder / RECIPE).is_file():
        return
    if folder.is_file():
        raise RunError(f"{folder}: a file, no run; give the folder that kineme train made")
    if (folder / MANIFEST).is_file():
        raise RunError(f"{folder}: a folder of shards, no run; give it as --data, and a run that was trained on it")
    raise RunError(f"{folder}: no run here, {RECIPE} is missing; train one with kineme train RECIPE --out {folder}")


def load_run(folder: Path, device: torch.device | None = None) -> Run:
    """Read a run folder, or the encoder folder of an index, which has the same two files.

    Raises:
        RunError: a file is missing or damaged, or the weights belong to another recipe or another version's network.
    """
    device = device or pick_device()
    check_run(folder)
    recipe = load_recipe(folder / RECIPE)
    if not (folder / WEIGHTS).is_file():
        raise RunError(f"{folder}: {WEIGHTS} is missing; let kineme train finish its first epoch, or copy it here")
    try:
        saved = torch.load(folder / WEIGHTS, map_location=device, weights_only=True)
        trained, weights = network_settings(_parse(saved["recipe"])), saved["weights"]
    except _DAMAGE as error:
        raise RunError(f"{folder / WEIGHTS}: not readable as weights ({type(error).__name__}); copy it again") from None
    wanted = network_settings(recipe)
    if trained != wanted:
        differing = sorted(key for key in trained.keys() | wanted.keys() if trained.get(key) != wanted.get(key))
        what = "; ".join(
            f"{key} {trained.get(key)} in the weights, {wanted.get(key)} in the recipe" for key in differing
        )
        raise RunError(
            f"{folder}: the weights come from another recipe ({what}): put their own recipe.yaml beside them"
        )
    task = make_task(recipe)
    check_version(folder, weights, task.model)
    task.model.load_state_dict(weights)
    task.model.to(device).eval()
    return Run(folder, recipe, task, device)


def check_version(folder: Path, weights: Mapping[str, Tensor], network: nn.Module) -> None:
    """Refuse weights of a run that have not the names and shapes of the network's, by RunError."""
    given, own = (
        {(name, tensor.shape) for name, tensor in tensors.items()} for tensors in (weights, network.state_dict())
    )
    if given != own:
        raise RunError(
            f"{folder}: the weights are of another version of kineme, {min(given ^ own)[0]} is missing here or there "
            "or of another shape: train the run anew, or use the version that trained it"
        )


def _parse(recipe: str) -> Recipe:
    parsed: Recipe = TypeAdapter(Recipe).validate_python(yaml.safe_load(recipe))
    return parsed


def write_environment(folder: Path) -> None:
    """Write environment.json."""
    (folder / ENVIRONMENT).write_text(json.dumps(environment(), indent=2) + "\n")


def training_environment(folder: Path) -> dict[str, str]:
    """``command`` and ``device`` of the training that a run folder comes from; nothing where that is not noted."""
    try:
        noted = json.loads((folder / ENVIRONMENT).read_text())
        return {name: str(noted[name]) for name in ("command", "device")}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
