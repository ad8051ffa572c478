"""The trainings behind a table: rows and seeds, each trained and measured once, stopped and taken up again."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any, NoReturn

from kineme.pipeline.recipe import changed_settings, load_recipe
from kineme.pipeline.run import CHECKPOINT, RECIPE, environment
from kineme.pipeline.tasks import complete_recipe

DONE = "trained"


@dataclass(frozen=True)
class Row:
    """A row of a table: what is trained for it, and what its metrics are called."""

    name: str
    recipe: str
    settings: tuple[str, ...]


def kineme(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("kineme")), *arguments], check=True)


def refuse(reason: str) -> NoReturn:
    """End with one line about what the user gave, and exit code 2."""
    print(reason, file=sys.stderr)
    raise SystemExit(2)


def train_once(row: Row, seed: int, shards: Path, work: Path, settings: Iterable[str]) -> Path:
    """The run folder of a row and seed, trained unless it has been, resumed where it was stopped."""
    run = work / f"{row.name}-{seed}"
    given = [*row.settings, f"training.seed={seed}", *settings]
    if (run / RECIPE).exists():
        wanted = complete_recipe(load_recipe(row.recipe, given), shards)
        changed = changed_settings(load_recipe(run / RECIPE), wanted)
        if changed:
            told = "; ".join(f"{name} is to be {values}" for name, values in changed.items())
            refuse(f"{run}: {told}; give another --work")
    if not (run / DONE).exists():
        options = [part for setting in given for part in ("--set", setting)]
        resume = ["--resume"] if (run / CHECKPOINT).exists() else []
        kineme("train", row.recipe, "--data", str(shards), "--out", str(run), *options, *resume)
        (run / DONE).write_text(" ".join([row.recipe, *given]))
    return run


def evaluate_once(run: Path, shards: Path, protocol: str, out: Path, options: Iterable[str] = ()) -> None:
    """The JSON of a protocol on a run, unless there is one that was made with these options since it was trained."""
    asked = dict(option.split("=", 1) for option in options)
    made = json.loads(out.read_text())["options"] if out.exists() else None
    if made != asked or out.stat().st_mtime < (run / DONE).stat().st_mtime:
        given = [part for option in options for part in ("--option", option)]
        kineme("evaluate", str(run), "--data", str(shards), "--protocol", protocol, *given, "--out", str(out))


def over_seeds(name: str, values: list[float]) -> dict[str, float]:
    """The mean of a metric over the seeds that are there, how many they are, the least and the most of them."""
    if not values:
        return {}
    return {name: mean(values), f"{name}/seeds": len(values), f"{name}/least": min(values), f"{name}/most": max(values)}


def table(metrics: dict[str, float], found: dict[str, list[dict[str, Any]]], protocol: str) -> dict[str, Any]:
    """What is recorded of a table: its metrics, and under ``runs``, by row, what was measured of each run."""
    results = [result for several in found.values() for result in several]
    if not results:
        refuse("no run has been measured yet: name some with --only, or leave it out for all")
    kept = ("protocol", "recipe", "metrics", "device", "seconds", "date", "command")
    return {
        "protocol": protocol,
        "metrics": metrics,
        "device": results[0]["device"],
        "date": datetime.now(UTC).date().isoformat(),
        "data": results[0]["data"],
        "versions": environment()["versions"],
        "runs": {row: [{key: result[key] for key in kept} for result in several] for row, several in found.items()},
        "command": shlex.join(["python", *sys.argv]),
    }


def read(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The JSON of those files that are there."""
    return [json.loads(file.read_text()) for file in files if file.exists()]
