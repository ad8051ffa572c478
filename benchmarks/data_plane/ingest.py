"""Ingest against its limit: the bare loop of limit.py in the same number of processes."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import HERE, STARTUP_RUNS, Bench, Section, net_times, run_ingest
from corpus import make_corpus, make_tiny_files
from measure import MeasurementError, Run, alternate, as_json, ratios, run_program, spread, times


def measure(bench: Bench) -> Section:
    """How much of the bare loop's speed an ingest has; 1 would be all of it."""
    folder = make_corpus(bench.work, bench.videos, bench.workers)
    tiny = make_tiny_files(bench.work, 1)
    clips = bench.videos * 16
    sides = {"kineme": lambda: run_ingest(bench, folder, clips), "limit": lambda: _limit(bench, folder, clips)}
    runs = alternate(sides, bench.rounds)
    startup = {
        "kineme": [run_ingest(bench, tiny, 1) for _ in range(STARTUP_RUNS)],
        "limit": [_limit(bench, tiny, 1) for _ in range(STARTUP_RUNS)],
    }
    net = {name: net_times(runs[name], startup[name]) for name in runs}
    cpu = {name: [run.cpu_seconds for run in runs[name]] for name in runs}
    return Section(
        metrics={
            **spread("ingest/of_limit", ratios(times(runs["limit"]), times(runs["kineme"]))),
            **spread("ingest/of_limit_without_start", ratios(net["limit"], net["kineme"])),
            **spread("ingest/processor_time_of_limit", ratios(cpu["limit"], cpu["kineme"])),
        },
        settings={"videos": bench.videos, "clips": clips, "workers": bench.workers, "rounds": bench.rounds},
        runs={"runs": as_json(runs), "one tiny file": as_json(startup)},
    )


def _limit(bench: Bench, folder: Path, clips: int) -> Run:
    run = run_program([sys.executable, HERE / "limit.py", folder, "--workers", str(bench.workers)])
    if run.result["clips"] != clips:
        raise MeasurementError(f"limit.py {folder}: {run.result['clips']} clips instead of {clips}")
    return run
