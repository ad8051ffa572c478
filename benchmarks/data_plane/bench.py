"""What every section of the benchmark is given and gives back."""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import MeasurementError, Run, run_program

HERE = Path(__file__).parent
KINEME = Path(sys.executable).with_name("kineme")

SIZE = 64
CLIP_FRAMES = 16
TINY_SIZE = 32
STARTUP_RUNS = 3


@dataclass(frozen=True)
class Bench:
    """How much to measure, and where.

    Attributes:
        work: folder for made-up videos, which stay for the next time, and for what is measured, which does not.
        workers: processes of every side.
        rounds: times that all sides are run in turn.
        videos: in the corpus of ``ingest`` and ``loading``; ``peers`` takes a third of them.
        growth: numbers of clips, ascending.
        growth_runs: runs of an ingest of each of them.
        video2dataset: the Python of its environment.
    """

    work: Path
    workers: int
    rounds: int
    videos: int
    growth: Sequence[int]
    growth_runs: Sequence[int]
    video2dataset: Path

    def fresh(self, name: str) -> Path:
        """A path in the work folder where nothing is."""
        path = self.work / "out" / name
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Section:
    """What one section measured: figures by name, what it was run with, and every single run."""

    metrics: Mapping[str, float]
    settings: Mapping[str, object]
    runs: Mapping[str, Any] = field(default_factory=dict)


def ingest_command(folder: Path, out: Path, workers: int, *, size: int = SIZE, shard_videos: int = 1000) -> list[str]:
    """What a user types."""
    words = [KINEME, "ingest", folder, "--out", out, "--size", size, "--clip-frames", CLIP_FRAMES]
    return [str(word) for word in [*words, "--workers", workers, "--shard-videos", shard_videos, "--json"]]


def run_ingest(bench: Bench, folder: Path, clips: int, *, out: Path | None = None, **options: int) -> Run:
    """One ingest, whose shards are removed again unless ``out`` is given.

    Raises:
        MeasurementError: it did not give so many ``clips``.
    """
    where = bench.fresh("ingest") if out is None else out
    run = run_program(ingest_command(folder, where, bench.workers, **options))
    if run.result["clips"] != clips:
        raise MeasurementError(f"kineme ingest {folder}: {run.result['clips']} clips instead of {clips}")
    run.result.clear()
    run.result.update(clips=clips, bytes=clip_bytes(where))
    if out is None:
        shutil.rmtree(where)
    return run


def clip_bytes(shards: Path) -> int:
    """Size of all clips of a shards folder, without what describes them."""
    total = 0
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            total += sum(member.size for member in tar if member.name.endswith(".mp4"))
    return total


def net_times(runs: Sequence[Run], startup: Sequence[Run]) -> list[float]:
    """Seconds without what the program takes for a single tiny file: its start and end."""
    least = min(run.seconds for run in startup)
    return [run.seconds - least for run in runs]
