"""Run a protocol and wrap its figures with what they rest on: data, device, time and versions."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols import TEST_SPLIT, protocols
from kineme.pipeline.run import environment, load_run
from kineme.shards.manifest import Manifest


def evaluate_run(folder: Path, shards: Path, protocol: str | None = None, split: str = TEST_SPLIT) -> dict[str, object]:
    """{protocol, recipe, metrics, split, data, device, seconds, date, command, versions} of a run on a split.

    Args:
        folder: run folder.
        shards: ingested data.
        protocol: by name; the one for this kind of run if not given.
        split: of the shards, or what a label picks out: ``actor=daria``.

    Raises:
        RunError: no such protocol, or one for another kind of run.
        DataError: the shards hold no clips of the split.
    """
    run = load_run(folder)
    kind = run.recipe.kind
    known = protocols()
    fitting = [name for name, (measures, _) in known.items() if measures == kind]
    name = protocol or fitting[0]
    if name not in known:
        raise RunError(f"--protocol {name}: there is none of that name; use one of {', '.join(known)}")
    if name not in fitting:
        raise RunError(
            f"--protocol {name}: measures {known[name][0]} runs, {folder} is {kind}; use {', '.join(fitting)}"
        )
    started = time.monotonic()
    metrics = known[name][1](run, shards, split)
    surroundings = environment()
    return {
        "protocol": name,
        "recipe": run.recipe.model_dump(mode="json"),
        "metrics": metrics,
        "split": split,
        "data": {"shards": shards.name, "dataset": Manifest.load(shards).dataset, "clips": metrics["clips"]},
        "device": surroundings["device"],
        "seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "command": surroundings["command"],
        "versions": surroundings["versions"],
    }
