"""The sequential VAE on Sprites: tables 1 and 2 of its paper, and our objective; trains and measures every run of it.

    python benchmarks/sprites.py --shards data/sprites --judge runs/judge --work runs/sprites-table

Rows: the paper's network and objective with beta 1, 6 and 150 and f of 256, with f of 32 (``f_32``), our objective
(``views``) and its network, weights and length without the views (``no_views``). On a CPU all are half as wide;
``--minutes`` and ``--views-minutes`` are how long they train there.

What lies in --work already is not done again: stopped, the same command goes on. ``--only beta_1:0,views:2`` does some
runs; ``--set`` changes settings of all trainings. The JSON holds the mean over the seeds that are there, the least and
the most, and under ``runs`` what each was trained with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from table_runs import Row, evaluate_once, over_seeds, read, table, train_once

RESULTS = Path(__file__).parent / "results"
PROTOCOLS = ("disagreement", "generation", "retrieval", "elbo")
JUDGED = ("disagreement", "generation")


def rows(full: bool, minutes: float, views_minutes: float) -> list[Row]:
    recipe = "sequential-vae/sprites" if full else "sequential-vae/sprites-cpu"
    paper = ["model.pooled_content=false", "model.f_dim=256", *([] if full else [f"training.minutes={minutes:g}"])]
    ours = "sequential-vae/sprites-views" if full else "sequential-vae/sprites-views-cpu"
    length = () if full else (f"training.minutes={views_minutes:g}",)
    return [
        *(Row(f"beta_{beta}", recipe, (*paper, f"objective.beta={beta}")) for beta in (1, 6, 150)),
        Row("f_32", recipe, (*paper, "model.f_dim=32")),
        Row("views", ours, length),
        Row(
            "no_views",
            ours,
            (*length, "objective.restricted_views=false", "objective.content_frames=null", "objective.swapped_views=0"),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="Sprites, ingested")
    parser.add_argument("--judge", type=Path, required=True, help="run of the recipe judge/sprites")
    parser.add_argument("--work", type=Path, required=True, help="where runs and their figures go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="the recipes at full width, for a GPU")
    parser.add_argument("--minutes", type=float, default=8, help="of the paper's rows on a CPU")
    parser.add_argument("--views-minutes", type=float, default=120, help="of ours on a CPU")
    parser.add_argument("--only", help="NAME:SEED,... such as beta_1:0,views:0; '' only gathers what is there")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, help="default results/sprites-table-{cpu,gpu}.json")
    args = parser.parse_args()
    wanted = rows(args.full, args.minutes, args.views_minutes)
    chosen = None if args.only is None else set(filter(None, args.only.split(",")))
    unknown = (chosen or set()) - {f"{row.name}:{seed}" for row in wanted for seed in range(args.seeds)}
    if unknown:
        parser.error(f"--only {','.join(sorted(unknown))}: rows are {', '.join(row.name for row in wanted)}")
    for seed in range(args.seeds):
        for row in wanted:
            if chosen is None or f"{row.name}:{seed}" in chosen:
                run = train_once(row, seed, args.shards, args.work, args.settings)
                for protocol in PROTOCOLS:
                    judge = [f"judge={args.judge}"] if protocol in JUDGED else []
                    evaluate_once(run, args.shards, protocol, figures(args.work, row, seed, protocol), judge)
    out = args.out or RESULTS / f"sprites-table-{'gpu' if args.full else 'cpu'}.json"
    out.write_text(json.dumps(gather(wanted, args.seeds, args.work), indent=1) + "\n")
    print(out)


def figures(work: Path, row: Row, seed: int, protocol: str) -> Path:
    return work / f"{row.name}-{seed}-{protocol}.json"


def gather(wanted: list[Row], seeds: int, work: Path) -> dict[str, Any]:
    """Every metric of every protocol as ROW/METRIC, out of the figures that are there."""
    metrics: dict[str, float] = {}
    found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in wanted}
    for row in wanted:
        for protocol in PROTOCOLS:
            results = read(figures(work, row, seed, protocol) for seed in range(seeds))
            found[row.name] += results
            for name in results[0]["metrics"] if results else ():
                metrics |= over_seeds(f"{row.name}/{name}", [result["metrics"][name] for result in results])
    return table(metrics, found, ", ".join(PROTOCOLS))


if __name__ == "__main__":
    main()
