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
from pathlib import Path
from typing import Any

from table_runs import Row, evaluate_once, over_seeds, read, table, train_once

from kineme.pipeline.recipe import StaticsDynamicsRecipe, load_recipe

RESULTS = Path(__file__).parent / "results"
AS_WRITTEN = (
    # What is ours in the recipe `cpu` goes back to what the recorded row was trained with.
    "model.motion_layers=0",
    "model.appearance_dim=0",
    "model.reduction=8",
    "objective.prediction={coefficient: 0.25}",
    "optimizer.lr=0.001",
)


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
    wanted_rows = rows(args.full)
    wanted = [(row, seed) for seed in range(args.seeds) for row in wanted_rows]
    chosen = None if args.only is None else set(filter(None, args.only.split(",")))
    for row, seed in wanted:
        if chosen is None or f"{row.name}:{seed}" in chosen:
            measure(row, seed, args.shards, args.work, [*length(row, args.epochs), *args.settings])
    out = args.out or RESULTS / f"chapter7-{'gpu' if args.full else 'cpu'}.json"
    out.write_text(json.dumps(gather(wanted_rows, args.seeds, args.work), indent=1) + "\n")
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
    figures = work / f"{row.name}-{seed}.json"
    if figures.exists():
        return
    run = train_once(row, seed, shards, work, settings)
    # Neighbours by pixels and flow are taken from the runs of "best".
    evaluate_once(run, shards, "motion-retrieval", figures, [] if row.name == "best" else ["baselines=false"])


def gather(rows: list[Row], seeds: int, work: Path) -> dict[str, Any]:
    """The table's metrics out of the figures of the runs that are there."""
    found = {row.name: read(work / f"{row.name}-{seed}.json" for seed in range(seeds)) for row in rows}
    metrics: dict[str, float] = {}

    def take(name: str, source: str, metric: str) -> None:
        values = [result["metrics"][f"motion_retrieval/{metric}"] for result in found[source]]
        metrics.update(over_seeds(f"motion_retrieval/{name}", values))

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
    return table(metrics, found, "motion-retrieval")


if __name__ == "__main__":
    main()
