"""Run a protocol and wrap its figures with what they rest on: data, device, time and versions."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols import TEST_SPLIT, Protocol, protocols
from kineme.pipeline.run import environment, load_run, training_environment
from kineme.shards.manifest import Manifest


def evaluate_run(
    folder: Path,
    shards: Path,
    protocol: str | None = None,
    split: str | None = None,
    options: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """{protocol, recipe, training, metrics, split, data, device, seconds, date, ...} of a run on a split.

    Args:
        folder: run folder.
        shards: ingested data.
        protocol: by name; the first one for this kind of run if not given.
        split: of the shards, or what a label picks out: ``actor=daria``; the protocol's own, mostly "test", if None.
        options: keyword arguments of the protocol by name, as text that is read as YAML.

    Raises:
        RunError: no such protocol, or one for another kind of run; an option it has not, or of another type.
        DataError: the shards hold no clips of the split.
    """
    run = load_run(folder)
    dataset = Manifest.load(shards).dataset
    kind = run.recipe.kind
    known = protocols()
    fitting = [name for name, (kinds, _) in known.items() if kind in kinds]
    name = protocol or fitting[0]
    if name not in known:
        raise RunError(f"--protocol {name}: there is none of that name; use one of {', '.join(known)}")
    if name not in fitting:
        raise RunError(
            f"--protocol {name}: measures {' and '.join(known[name][0])} runs, {folder} is {kind}; "
            f"use {', '.join(fitting)}"
        )
    measure = known[name][1]
    arguments = _arguments(name, measure, options or {})
    if split is None:
        default = inspect.signature(measure).parameters["split"].default
        split = TEST_SPLIT if default is inspect.Parameter.empty else default
    started = time.monotonic()
    metrics = measure(run, shards, split, **arguments)
    surroundings = environment()
    return {
        "protocol": name,
        "recipe": run.recipe.model_dump(mode="json"),
        "training": training_environment(folder),
        "metrics": metrics,
        "split": split,
        "options": dict(options or {}),
        "data": {"shards": shards.name, "dataset": dataset, "clips": metrics["clips"]},
        "device": surroundings["device"],
        "seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "command": surroundings["command"],
        "versions": surroundings["versions"],
    }


def _arguments(protocol: str, measure: Protocol, options: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments of a protocol, as their annotations want them."""
    keywords = [p.name for p in inspect.signature(measure).parameters.values() if p.kind is p.KEYWORD_ONLY]
    types = get_type_hints(measure, include_extras=True)
    arguments = {}
    for name, text in options.items():
        if name not in keywords:
            known = ", ".join(keywords) or "none"
            raise RunError(f"--option {name}: {protocol} has no such option; it has {known}")
        try:
            arguments[name] = TypeAdapter(types[name]).validate_python(yaml.safe_load(text))
        except (ValidationError, yaml.YAMLError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "not YAML"
            raise RunError(f"--option {name}={text}: {reason[:1].lower()}{reason[1:]}") from None
    return arguments
