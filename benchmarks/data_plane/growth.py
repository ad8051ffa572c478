"""Whether a clip costs the same in a large folder as in a small one: time and memory at 1,000 to 100,000 clips.

Every file is one clip, so that files, shards and clips grow together, a hundred clips a shard: bookkeeping is as large
a part of the work as it gets. The smallest folder is measured oftenest, between the larger ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import STARTUP_RUNS, TINY_SIZE, Bench, Section, run_ingest
from corpus import make_tiny_files
from loading import load
from measure import Run, as_json

_SHARD_CLIPS = 100
_LOADED_CLIPS = 5000  # small folders are loaded several times over, so that each measurement takes seconds
_MOST_EPOCHS = 50


def measure(bench: Bench) -> Section:
    """Time a clip and memory, as multiples of those of the smallest folder."""
    tiny = make_tiny_files(bench.work, 1)
    startup = min(run_ingest(bench, tiny, 1, size=TINY_SIZE).seconds for _ in range(STARTUP_RUNS))
    shards: dict[int, Path] = {}
    ingests: dict[int, list[Run]] = {count: [] for count in bench.growth}
    for count in interleave(bench.growth, bench.growth_runs):
        folder = make_tiny_files(bench.work, count)
        shards[count] = bench.fresh(f"growth-{count}")
        run = run_ingest(bench, folder, count, out=shards[count], size=TINY_SIZE, shard_videos=_SHARD_CLIPS)
        ingests[count].append(run)
        print(f"  ingest of {count}: {run.seconds:.2f} s, {run.peak_mb:.0f} MB", flush=True)
    metrics = _over_smallest(
        "growth/ingest",
        {
            "time": {count: [(run.seconds - startup) / count for run in runs] for count, runs in ingests.items()},
            "memory": {count: [run.peak_mb for run in runs] for count, runs in ingests.items()},
            "decoder_memory": {count: [run.child_mb for run in runs] for count, runs in ingests.items()},
        },
    )
    kept: dict[str, Any] = {"ingest": as_json({str(count): runs for count, runs in ingests.items()})}
    # From one shard on.
    shards[_SHARD_CLIPS] = bench.fresh(f"growth-{_SHARD_CLIPS}")
    small = make_tiny_files(bench.work, _SHARD_CLIPS)
    run_ingest(bench, small, _SHARD_CLIPS, out=shards[_SHARD_CLIPS], size=TINY_SIZE, shard_videos=_SHARD_CLIPS)
    counts = sorted(shards)
    for name in ("uncached", "cached"):
        loads: dict[int, list[Run]] = {count: [] for count in counts}
        for count in interleave(counts, [bench.rounds, *bench.growth_runs]):
            loads[count].append(_load(bench, shards[count], count, cached=name == "cached"))
            print(f"  {name}, {count // _SHARD_CLIPS} shards: {loads[count][-1].seconds:.2f} s", flush=True)
        per_clip = {count: [_per_clip(run, skip=name == "cached") for run in runs] for count, runs in loads.items()}
        memory = {count: [run.anonymous_mb for run in runs] for count, runs in loads.items()}
        metrics |= _over_smallest(f"growth/{name}", {"time": per_clip, "memory": memory})
        kept[name] = as_json({str(count): runs for count, runs in loads.items()})
    for path in shards.values():
        shutil.rmtree(path)
    settings = {"clips": list(bench.growth), "runs": list(bench.growth_runs), "clips a shard": _SHARD_CLIPS}
    return Section(metrics, {**settings, "workers": bench.workers}, kept)


def _load(bench: Bench, shards: Path, clips: int, *, cached: bool) -> Run:
    epochs = min(_MOST_EPOCHS, max(1, _LOADED_CLIPS // clips))
    if not cached:
        return load(shards, "epochs", clips, epochs=epochs)
    cache = bench.fresh("cache")
    run = load(shards, "epochs", clips, epochs=epochs + 1, cache=cache)
    shutil.rmtree(cache)
    return run


def _per_clip(run: Run, *, skip: bool) -> float:
    """Seconds a clip; without the epoch that fills the cache."""
    epochs = run.result["epochs"][1 if skip else 0 :]
    return float(sum(epochs)) / (len(epochs) * run.result["clips"])


def interleave(counts: Sequence[int], runs: Sequence[int]) -> list[int]:
    """Every count so many times, spread evenly over the whole."""
    places = [
        ((number + 0.5) / times, count) for count, times in zip(counts, runs, strict=True) for number in range(times)
    ]
    return [count for _, count in sorted(places)]


def _over_smallest(name: str, measured: Mapping[str, Mapping[int, Sequence[float]]]) -> dict[str, float]:
    """Each of the others against the smallest folder's median."""
    metrics: dict[str, float] = {}
    for what, by_count in measured.items():
        smallest = min(by_count)
        base = median(by_count[smallest])
        for count in sorted(by_count.keys() - {smallest}):
            multiples = [value / base for value in by_count[count]]
            figure = f"{name}/{what}/{count}_over_{smallest}"
            metrics[figure] = median(multiples)
            metrics[f"{figure}/lowest"], metrics[f"{figure}/highest"] = min(multiples), max(multiples)
        metrics[f"{name}/{what}/{smallest}/highest_over_lowest"] = max(by_count[smallest]) / min(by_count[smallest])
    return metrics
