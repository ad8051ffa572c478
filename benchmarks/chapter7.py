"""Table 7.1 of the thesis on Moving MNIST: trains and measures every run of it, and writes one JSON.

    python benchmarks/chapter7.py --shards data/moving-mnist --work runs/chapter7 --seeds 3 --epochs 6

What lies in --work already is not done again: stopped, the same command goes on, and runs may be spread over days and
machines. ``--only written:0,best:0`` does some of them; ``--set`` changes settings of all trainings. With ``--epochs``
the video encoder sees as many clips in every row; the transformer's epochs, in the rows that have one, come on top. The
JSON holds the mean over the seeds that are there, each seed's figures, and under ``runs`` what each was trained with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

from kineme.pipeline.recipe import StaticsDynamicsRecipe, load_recipe
from kineme.pipeline.run import environment

RESULTS = Path(__file__).parent / "results"
AS_WRITTEN = (
    # What is ours in the recipe `cpu` goes back to what the recorded row was trained with.
    "model.motion_layers=0",
    "model.appearance_dim=0",
    "model.reduction=8",
    "objective.prediction={coefficient: 0.25}",
    "optimizer.lr=0.001",
)


@dataclass(frozen=True)
class Row:
    """A row of the table: what is trained for it, and what its metrics are called."""

    name: str
    recipe: str
    settings: tuple[str, ...]


def rows(full: bool) -> list[Row]:
    ours = "statics-dynamics/moving-mnist-layers" if full else "statics-dynamics/cpu"
    written = Row("written", "statics-dynamics/moving-mnist", ()) if full else Row("written", ours, AS_WRITTEN)
    baseline = f"video-baseline/moving-mnist{'' if full else '-cpu'}"
    others = {"classification": "classification", "reconstruction": "reconstruction", "supervised": "displacement"}
    return [
        Row("best", ours, ()),
        written,
        *(Row(name, baseline, (f"objective.kind={kind}",)) for name, kind in others.items()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="Moving MNIST, ingested with its 20 frames")
    parser.add_argument("--work", type=Path, required=True, help="where runs and their figures go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="the recipes at full width, for a GPU")
    parser.add_argument("--epochs", type=int, help="of the video encoder; default: the length in each recipe")
    parser.add_argument("--only", help="NAME:SEED,... such as best:0,written:0; '' only gathers what is there")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, help="default results/chapter7-{cpu,gpu}.json")
    args = parser.parse_args()
    table = rows(args.full)
    wanted = [(row, seed) for seed in range(args.seeds) for row in table]
    chosen = None if args.only is None else set(filter(None, args.only.split(",")))
    for row, seed in wanted:
        if chosen is None or f"{row.name}:{seed}" in chosen:
            measure(row, seed, args.shards, args.work, [*length(row, args.epochs), *args.settings])
    out = args.out or RESULTS / f"chapter7-{'gpu' if args.full else 'cpu'}.json"
    gathered = gather(table, args.seeds, args.work)
    command = "python benchmarks/chapter7.py " + " ".join(sys.argv[1:])
    out.write_text(json.dumps({**gathered, "command": command}, indent=1) + "\n")
    print(out)


def length(row: Row, epochs: int | None) -> list[str]:
    """The settings by which a row's video encoder is trained for so many epochs."""
    if epochs is None:
        return []
    recipe = load_recipe(row.recipe)
    before = recipe.objective.transformer.fraction if isinstance(recipe, StaticsDynamicsRecipe) else 0
    return ["training.minutes=null", f"training.epochs={round(epochs / (1 - before))}"]


def measure(row: Row, seed: int, shards: Path, work: Path, settings: list[str]) -> None:
    """Train and evaluate one run, as far as that has not been done."""
    run, figures = work / f"{row.name}-{seed}", work / f"{row.name}-{seed}.json"
    if figures.exists():
        return
    if not (run / "trained").exists():
        given = [*row.settings, f"training.seed={seed}", *settings]
        options = [part for setting in given for part in ("--set", setting)]
        resume = ["--resume"] if (run / "checkpoints" / "last.ckpt").exists() else []
        kineme("train", row.recipe, "--data", str(shards), "--out", str(run), *options, *resume)
        (run / "trained").touch()
    # Neighbours by pixels and flow are taken from the runs of "best".
    fewer = [] if row.name == "best" else ["--option", "baselines=false"]
    protocol = ["--protocol", "motion-retrieval", *fewer]
    kineme("evaluate", str(run), "--data", str(shards), *protocol, "--out", str(figures))


def kineme(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("kineme")), *arguments], check=True)


def gather(table: list[Row], seeds: int, work: Path) -> dict[str, Any]:
    """The table's metrics out of the figures of the runs that are there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        files = [work / f"{row.name}-{seed}.json" for seed in range(seeds)]
        found[row.name] = [json.loads(file.read_text()) for file in files if file.exists()]
    metrics: dict[str, float] = {}

    def take(name: str, source: str, metric: str) -> None:
        values = [result["metrics"][f"motion_retrieval/{metric}"] for result in found[source]]
        if values:
            metrics[f"motion_retrieval/{name}"] = mean(values)
            metrics[f"motion_retrieval/{name}/seeds"] = len(values)
            metrics[f"motion_retrieval/{name}/least"] = min(values)
            metrics[f"motion_retrieval/{name}/most"] = max(values)

    for quantity in ("displacement", "way_to_oracle"):
        for end in ("", "_low", "_high"):
            for name in ("appearance", "frames", "pixels", "flow", "trajectory"):
                take(f"{quantity}_{name}{end}", "best", f"{quantity}_{name}{end}")
            for source in found:
                take(f"{quantity}_{source}{end}", source, f"{quantity}_motion{end}")
    for name in ("random", "oracle"):
        take(f"displacement_{name}", "best", f"displacement_{name}")
    # The name that the table's published column has for our row.
    take("displacement_motion", "best", "displacement_motion")
    for source in ("best", "written", "supervised"):
        for name in ("r2_position", "r2_displacement", "r2_position_from_displacement"):
            take(f"{name}_{source}", source, name)
    results = [result for several in found.values() for result in several]
    if not results:
        raise SystemExit(f"{work}: no run has been measured there")
    return {
        "protocol": "motion-retrieval",
        "metrics": metrics,
        "device": results[0]["device"],
        "date": datetime.now(UTC).date().isoformat(),
        "data": results[0]["data"],
        "versions": environment()["versions"],
        "runs": {
            source: [
                {key: result[key] for key in ("recipe", "metrics", "device", "seconds", "date", "command")}
                for result in several
            ]
            for source, several in found.items()
        },
    }


if __name__ == "__main__":
    main()
