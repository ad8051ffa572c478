"""Speed of the data plane, against its limits and against what else there is.

    python benchmarks/data_plane all                 # every section that a CPU can measure: about 25 minutes on 2 cores
    python benchmarks/data_plane ingest              # ingest against a bare loop
    python benchmarks/data_plane peers               # ... against video2dataset and the ffmpeg program
    python benchmarks/data_plane loading             # loading against the decoder
    python benchmarks/data_plane growth              # 1,000 to 100,000 clips
    python benchmarks/data_plane gpu                 # what a training step waits for; needs CUDA
    python benchmarks/data_plane all --quick --out /tmp/quick.json    # does it run? three minutes, no figures to keep

Both sides of every comparison run in turn, round after round; a figure is the median of the rounds' ratios, beside the
lowest and the highest. Nothing else should run on the machine. benchmarks/README.md says what the peers need.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import Bench, Section
from measure import MeasurementError, cores, cpu_name

from kineme.pipeline.run import environment
from kineme.shards.manifest import write_atomically

RESULTS = Path(__file__).parents[1] / "results"
CPU_SECTIONS = ("ingest", "peers", "loading", "growth")


def main() -> None:
    given = _arguments()
    names = CPU_SECTIONS if given.section == "all" else (given.section,)
    bench = Bench(
        work=given.work,
        workers=given.workers,
        rounds=given.rounds,
        videos=given.videos,
        growth=given.growth,
        growth_runs=given.growth_runs,
        video2dataset=given.video2dataset,
    )
    out = given.out or RESULTS / ("data-plane-gpu.json" if given.section == "gpu" else "data-plane.json")
    try:
        for name in names:
            measure = _section(name)
            if measure is None:
                print("gpu: not measured: torch finds no CUDA device here")
                continue
            _check_machine(out)
            print(name, flush=True)
            started = time.perf_counter()
            section = measure(bench)
            _write(out, name, section, time.perf_counter() - started)
            _print(section)
    except MeasurementError as error:
        sys.exit(f"Error: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(word) for word in text.split(",")]  # noqa: E731
    parser.add_argument("section", choices=["all", *CPU_SECTIONS, "gpu"])
    parser.add_argument("--work", type=Path, default=Path("/tmp/kineme-bench"), help="made-up videos are kept here")
    parser.add_argument("--out", type=Path, help="JSON; another machine's is refused")
    parser.add_argument("--workers", type=int, default=cores(), help="processes of every side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=96, help="made-up videos of 10 s; peers take a third of them")
    parser.add_argument("--growth", type=numbers, default=[1000, 10_000, 100_000], metavar="N,N,N")
    parser.add_argument("--growth-runs", type=numbers, default=[5, 3, 1], metavar="N,N,N", help="runs of each")
    parser.add_argument("--video2dataset", type=Path, default=Path("/tmp/v2d/bin/python"), help="its Python")
    parser.add_argument("--quick", action="store_true", help="only to see that it runs; needs --out")
    given = parser.parse_args()
    if given.quick:
        if given.out is None:
            parser.error("--quick gives no figures to keep: say with --out where else to write")
        given.rounds, given.videos, given.growth, given.growth_runs = 2, 6, [200, 400], [2, 1]
    if len(given.growth) != len(given.growth_runs):
        parser.error("--growth and --growth-runs need as many numbers as one another")
    return given


def _section(name: str) -> Callable[[Bench], Section] | None:
    if name == "gpu":
        import torch

        if not torch.cuda.is_available():
            return None
        import gpu

        return lambda bench: gpu.measure(bench, torch.device("cuda"))
    import growth
    import ingest
    import loading
    import peers

    measures = {"ingest": ingest.measure, "peers": peers.measure, "loading": loading.measure, "growth": growth.measure}
    return measures[name]


def _check_machine(out: Path) -> None:
    """Figures of two machines never share a file."""
    if not out.is_file():
        return
    old = json.loads(out.read_text())
    if (old["cpu"], old["cores"]) != (cpu_name(), cores()):
        raise MeasurementError(
            f"{out} was measured on {old['cores']} cores of {old['cpu']}, this is {cores()} of {cpu_name()}; "
            "give another --out, or delete it and measure every section"
        )


def _write(out: Path, name: str, section: Section, seconds: float) -> None:
    """Put the section's figures in the place of its old ones; the others stay."""
    surroundings = environment()
    old: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {"metrics": {}, "sections": {}}
    metrics = {key: value for key, value in old["metrics"].items() if not key.startswith(f"{name}/")}
    described = {
        "command": f"python {shlex.join(sys.argv)}",
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "settings": dict(section.settings),
        "versions": surroundings["versions"],
        "runs": dict(section.runs),
    }
    result = {
        "protocol": "data-plane",
        "metrics": {**metrics, **section.metrics},
        "device": surroundings["device"],
        "cpu": cpu_name(),
        "cores": cores(),
        "date": described["date"],
        "platform": surroundings["platform"],
        "python": surroundings["python"],
        "versions": surroundings["versions"],
        "sections": {**old["sections"], name: described},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode())


def _print(section: Section) -> None:
    plain = [name for name in section.metrics if not name.endswith(("/lowest", "/highest"))]
    for name in plain:
        ends = [section.metrics.get(f"{name}/{end}") for end in ("lowest", "highest")]
        between = "" if ends[0] is None else f"  ({ends[0]:.3f} .. {ends[1]:.3f})"
        print(f"    {name:60} {section.metrics[name]:8.3f}{between}")


if __name__ == "__main__":
    main()
