"""Feed damaged videos to ``kineme ingest`` and see that none is lost, none stops it, and none gets in unsound.

    python benchmarks/fuzz.py --files 10000 --seed 0 --out benchmarks/results/fuzz.json

Whole videos (the codec corpus where it is at hand, and small made-up ones of eleven containers) are damaged in the ways
of mutations.py and ingested in batches by the real command. Of every batch is asked: exit code 0, no traceback, every
file either stored or in rejects.parquet with a reason of one line, never both; the one undamaged file stored; ``kineme
verify`` content; no process left behind; no silence much longer than ``--deadline``. A batch that fails any of this is
copied to ``--bugs``, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from mutations import mutate, write_whole_files
from watched import listen

from kineme.pipeline.run import environment
from kineme.shards.manifest import write_atomically

KINEME = Path(sys.executable).with_name("kineme")
CORPUS = Path(os.environ.get("KINEME_DATA", Path(__file__).parents[2] / "shared" / "data")) / "codecs"
OPTIONS = ("--size", "32", "--clip-frames", "3", "--frame-step", "1")
WHOLE = "whole.mp4"
REASONS_KEPT = 100

_LINES_A_BATCH = 20  # kineme ingest says so often how far it is
_WRONG_NAME = 0.1  # part of the files that get the suffix of another
_COPIED = 0.02  # part of the files that are there twice


@dataclass
class Batch:
    """What became of one batch.

    Attributes:
        problems: what should not be; none if all is well.
        stored: names of files with clips.
        rejects: reasons by file name.
        noise: lines on stderr that are not about progress.
        gaps: for each line of progress the seconds since the one before, and the number of files it stands for.
    """

    problems: list[str] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    rejects: dict[str, str] = field(default_factory=dict)
    noise: list[str] = field(default_factory=list)
    gaps: list[tuple[float, int]] = field(default_factory=list)


def make_files(folder: Path, wholes: Sequence[Path], numbers: range, seed: int) -> dict[str, str]:
    """Write damaged files, one for each number, and a whole one; returns what was done to each.

    A number is always the same file. Some are copies of the one before, for an ingest to find.
    """
    data = [path.read_bytes() for path in wholes]
    done: dict[str, str] = {}
    for number in numbers:
        copied = number > 0 and np.random.default_rng((seed, number, 1)).random() < _COPIED
        random = np.random.default_rng((seed, number - 1 if copied else number))
        whole = int(random.integers(len(wholes)))
        damaged, how = mutate(data[whole], data, random)
        named = wholes[int(random.integers(len(wholes)))] if random.random() < _WRONG_NAME else wholes[whole]
        name = f"{number:06d}{named.suffix}"
        (folder / name).write_bytes(damaged)
        done[name] = f"{wholes[whole].name}: {how}"
    shutil.copy(next(path for path in wholes if path.name == "made-up.mp4"), folder / WHOLE)
    return done


def run_batch(folder: Path, out: Path, deadline: float, workers: int) -> Batch:
    """Ingest a folder and look at everything that came of it."""
    patience = _patience(folder, deadline)
    heard = listen(_ingest(folder, out, deadline, workers), patience)
    batch = Batch(noise=heard.errors, gaps=heard.gaps)
    if heard.left:
        batch.problems.append(f"left {heard.left} processes behind")
    if "Traceback" in heard.output or any("Traceback" in line for line in heard.errors):
        batch.problems.append(f"traceback: {heard.errors[-1] if heard.errors else heard.output[-200:]}")
    if heard.code is None:
        batch.problems.append(f"silent for {patience:.0f} s")
        return batch
    if heard.code != 0:
        batch.problems.append(f"exit code {heard.code}: {' / '.join(heard.errors)[-500:]}")
        return batch
    files = {path.name for path in folder.iterdir()}
    batch.stored = {name for path in out.glob("*.parquet") if path.name.startswith("shard-") for name in _column(path)}
    batch.rejects = {row["path"]: row["reason"] for row in pq.read_table(out / "rejects.parquet").to_pylist()}
    batch.problems += account(files, batch.stored, batch.rejects)
    verify = subprocess.run([KINEME, "verify", out], capture_output=True, text=True, check=False)
    if verify.returncode != 0:
        batch.problems.append(f"kineme verify: {(verify.stderr or verify.stdout)[-500:]}")
    return batch


def _ingest(folder: Path, out: Path, deadline: float, workers: int) -> list[str]:
    words = [KINEME, "ingest", folder, "--out", out, *OPTIONS, "--deadline", deadline, "--workers", workers]
    return [str(word) for word in words]


def account(files: set[str], stored: set[str], rejects: Mapping[str, str]) -> list[str]:
    """What is wrong with what became of ``files``: each must be stored or rejected for a reason."""
    problems = [f"{name}: neither stored nor rejected" for name in sorted(files - stored - rejects.keys())]
    problems += [f"{name}: stored and rejected" for name in sorted(stored & rejects.keys())]
    problems += [f"{name}: never given" for name in sorted((stored | rejects.keys()) - files)]
    for name, reason in sorted(rejects.items()):
        if not reason or not reason.strip() or "\n" in reason:
            problems.append(f"{name}: rejected for no reason of one line: {reason!r}")
    if WHOLE not in stored:
        problems.append(f"{WHOLE}: undamaged and not stored ({rejects.get(WHOLE)})")
    return problems


def _column(parquet: Path) -> list[str]:
    return [str(value) for value in pq.read_table(parquet, columns=["source"])["source"].to_pylist()]


def _patience(folder: Path, deadline: float) -> float:
    """Seconds of silence after which it must be hanging: two readers a file, for all files that a line stands for."""
    files = sum(1 for _ in folder.iterdir())
    return 60 + 2 * (deadline + 5) * max(1, files // _LINES_A_BATCH)


def slowest_file(folder: Path, batch: Batch, deadline: float) -> tuple[float, str]:
    """Of the files between the two lines of progress farthest apart the slowest, each ingested again by itself.

    Returns:
        Seconds beyond what the whole file takes, and the file's name.
    """
    names = sorted(path.name for path in folder.iterdir())
    ends = np.cumsum([count for _, count in batch.gaps])
    longest = max(range(len(ends)), key=lambda number: batch.gaps[number][0])
    window = names[ends[longest] - batch.gaps[longest][1] : ends[longest]]
    base = min(_seconds(folder, [WHOLE], deadline) for _ in range(2))
    return max((round(_seconds(folder, [name, WHOLE], deadline) - base, 2), name) for name in window)


def _seconds(folder: Path, names: Sequence[str], deadline: float) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        alone, out = Path(scratch) / "in", Path(scratch) / "out"
        alone.mkdir()
        for name in names:
            shutil.copy(folder / name, alone)
        started = time.monotonic()
        listen(_ingest(alone, out, deadline, 1), _patience(alone, deadline))
        return time.monotonic() - started


def group(reason: str) -> str:
    """A reason without what differs from file to file."""
    if reason.startswith("duplicate of "):
        return "duplicate"
    return re.sub(r"\d+(\.\d+)?", "N", reason)


@dataclass
class Tally:
    """All batches together."""

    files: int = 0
    stored: int = 0
    problems: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    noise: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str, str] = (-math.inf, "", "")
    longest_gap: float = 0.0

    def add(self, batch: Batch, made: Mapping[str, str]) -> None:
        """Count one batch, without its whole file."""
        self.files += len(made)
        self.stored += len(batch.stored - {WHOLE})
        self.problems += batch.problems
        self.reasons.update(group(reason) for name, reason in batch.rejects.items() if name != WHOLE)
        self.noise.update(group(line)[:120] for line in batch.noise)

    def result(self, given: argparse.Namespace, seconds: float) -> dict[str, Any]:
        """The JSON."""
        surroundings = environment()
        duplicates = self.reasons["duplicate"]
        rejected = self.reasons.total() - duplicates
        ended = {kind: sum(n for reason, n in self.reasons.items() if text in reason) for kind, text in _ENDS.items()}
        return {
            "protocol": "fuzz",
            "metrics": {
                "files": self.files,
                "stored": self.stored,
                "rejected": rejected,
                "duplicates": duplicates,
                "lost": self.files - self.stored - rejected - duplicates,
                "problems": len(self.problems),
                **ended,
                "slowest_seconds": max(0.0, self.slowest[0]),
            },
            "problems": self.problems,
            "reasons": dict(self.reasons.most_common(REASONS_KEPT)),
            "slowest": {"file": self.slowest[1], "how": self.slowest[2]},
            "lines on stderr that are not about progress": dict(self.noise.most_common(20)),
            "seed": given.seed,
            "deadline": given.deadline,
            "seconds": round(seconds, 1),
            "command": " ".join(["python", *sys.argv]),
            "device": surroundings["device"],
            "date": datetime.now(UTC).date().isoformat(),
            "versions": surroundings["versions"],
        }


_ENDS = {"gave_no_frame_in_time": "no frame was decoded for", "killed_the_decoder": "the decoder process died"}


def main() -> int:
    given = _arguments()
    started = time.monotonic()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="kineme-fuzz-") as scratch:
        root = Path(scratch)
        (root / "whole").mkdir()
        wholes = [*write_whole_files(root / "whole"), *(sorted(CORPUS.iterdir()) if CORPUS.is_dir() else [])]
        print(f"{len(wholes)} whole files, {given.files} damaged ones, seed {given.seed}", flush=True)
        for first in range(0, given.files, given.batch):
            folder, out = root / "in", root / "out"
            folder.mkdir()
            made = make_files(folder, wholes, range(first, min(given.files, first + given.batch)), given.seed)
            batch = run_batch(folder, out, given.deadline, given.workers)
            tally.add(batch, made)
            _note_slowest(tally, folder, batch, made, given)
            if batch.problems:
                kept = given.bugs / f"seed-{given.seed}-from-{first}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                (kept / "problems.txt").write_text("\n".join(batch.problems) + "\n")
                print(f"  {len(batch.problems)} problems, see {kept}: {batch.problems[0]}", flush=True)
            print(f"  {tally.files} files, {tally.stored} stored, {time.monotonic() - started:.0f} s", flush=True)
            shutil.rmtree(folder)
            shutil.rmtree(out, ignore_errors=True)
    result = tally.result(given, time.monotonic() - started)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(given.out, (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    print(json.dumps(result["metrics"], indent=2))
    return 1 if tally.problems else 0


def _note_slowest(tally: Tally, folder: Path, batch: Batch, made: Mapping[str, str], given: argparse.Namespace) -> None:
    """Time single files only where a gap is longer than every one before, or it would take as long as the whole run."""
    longest = max((seconds for seconds, _ in batch.gaps[1:]), default=0.0)  # the first has the start of the program
    if longest <= tally.longest_gap:
        return
    tally.longest_gap = longest
    seconds, name = slowest_file(folder, batch, given.deadline)
    if seconds > tally.slowest[0]:
        tally.slowest = seconds, name, made.get(name, "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=200, help="files of one ingest")
    parser.add_argument("--deadline", type=float, default=10.0, help="of the ingest, seconds")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--bugs", type=Path, default=Path("/tmp/fuzz-bugs"), help="for batches that fail")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fuzz.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
