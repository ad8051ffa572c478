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
from typing import Any

from kineme.pipeline.run import environment


@dataclass(frozen=True)
class Row:
    """A row of a table: what is trained for it, and what its metrics are called."""

    name: str
    recipe: str
    settings: tuple[str, ...]


def kineme(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("kineme")), *arguments], check=True)


def train_once(row: Row, seed: int, shards: Path, work: Path, settings: Iterable[str]) -> Path:
    """The run folder of a row and seed, trained unless it has been, resumed where it was stopped."""
    run, done = work / f"{row.name}-{seed}", work / f"{row.name}-{seed}" / "trained"
    given = [*row.settings, f"training.seed={seed}", *settings]
    what = " ".join([row.recipe, *given])
    if not done.exists():
        options = [part for setting in given for part in ("--set", setting)]
        resume = ["--resume"] if (run / "checkpoints" / "last.ckpt").exists() else []
        kineme("train", row.recipe, "--data", str(shards), "--out", str(run), *options, *resume)
        done.write_text(what)
    elif done.read_text() != what:
        raise SystemExit(f"{run}: was trained as {done.read_text()}, not as {what}; give another --work")
    return run


def evaluate_once(run: Path, shards: Path, protocol: str, out: Path, options: Iterable[str] = ()) -> None:
    """The JSON of a protocol on a run, unless it is there."""
    if not out.exists():
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
        raise SystemExit("no run has been measured yet")
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
