"""Loading against the bare decoder: the first epoch without a cache, the first one that fills it, and later ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench import CLIP_FRAMES, HERE, Bench, Section, run_ingest
from corpus import make_corpus
from measure import MeasurementError, Run, alternate, as_json, ratios, run_program, spread

_EPOCHS = 6  # the one that fills the cache and five from it


def measure(bench: Bench) -> Section:
    """Times the decoder's speed, on clips of 16 frames of 64x64, in one process and in as many as there are workers."""
    videos, clips = bench.videos, bench.videos * 16
    shards = bench.fresh("loading")
    folder = make_corpus(bench.work, videos, bench.workers)
    # Several shards a worker, so that none is left with all the work at the end where shards are shared out.
    run_ingest(bench, folder, clips, out=shards, shard_videos=max(1, videos // (4 * bench.workers)))
    metrics: dict[str, float] = {}
    kept: dict[str, Any] = {}
    for name, workers in (("one_process", 1), ("workers", bench.workers)):
        runs = alternate(_sides(bench, shards, workers, clips), bench.rounds)
        decoder = [run.result["seconds"] for run in runs["decord"]]
        uncached = [run.result["epochs"][0] for run in runs["uncached"]]
        filling = [run.result["epochs"][0] for run in runs["cached"]]
        later = [median(run.result["epochs"][1:]) for run in runs["cached"]]
        metrics |= spread(f"loading/{name}/first_epoch_uncached", ratios(decoder, uncached))
        metrics |= spread(f"loading/{name}/first_epoch_filling_the_cache", ratios(decoder, filling))
        metrics |= spread(f"loading/{name}/later_epochs", ratios(decoder, later))
        kept[name] = as_json(runs)
    shutil.rmtree(shards)
    return Section(metrics, {"clips": clips, "workers": bench.workers, "rounds": bench.rounds}, kept)


def _sides(bench: Bench, shards: Path, workers: int, clips: int) -> dict[str, Callable[[], Run]]:
    def cached() -> Run:
        cache = bench.fresh("cache")
        run = load(shards, "epochs", clips, workers=workers, epochs=_EPOCHS, cache=cache)
        shutil.rmtree(cache)
        return run

    return {
        "decord": lambda: load(shards, "decord", clips, workers=workers),
        "uncached": lambda: load(shards, "epochs", clips, workers=workers),
        "cached": cached,
    }


def load(shards: Path, side: str, clips: int, **options: object) -> Run:
    """One run of loader_job.py.

    Raises:
        MeasurementError: it did not give every frame of ``clips`` clips.
    """
    words: list[str | Path] = [sys.executable, HERE / "loader_job.py", side, shards]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    run = run_program(words)
    if (run.result["clips"], run.result["frames"]) != (clips, clips * CLIP_FRAMES):
        raise MeasurementError(f"loader_job.py {side} {shards}: {run.result} instead of {clips} clips")
    return run
