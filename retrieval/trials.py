"""What a kind costs and finds, tried on the vectors that it is to search.

A structure is trained and filled without the vectors that then ask, tuned to the recall that is wanted (tuning.py),
given those too, and timed as it will be used: from the file, one query at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from pathlib import Path

import numpy as np

from kineme.retrieval.budget import GIGABYTE
from kineme.retrieval.commits import StructureEntry
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import Neighbours, nearest_rows
from kineme.retrieval.index_report import SpaceReport
from kineme.retrieval.kinds import EXACT, FAR_PLACES, PLACES, Growing, Kind, find_kind, find_near
from kineme.retrieval.tuning import HeldOut, Tuned, hold_out, tune
from kineme.retrieval.vectors import Space, Vectors

_BLOCK_ROWS = 16_384
_TIMED_ROWS, _TIMED_QUERIES, _TIMED_SECONDS = 100_000, 200, 3.0


@dataclass(frozen=True)
class Searched:
    """What is to be searched.

    Attributes:
        space: its name.
        vectors: (N, D) float32, of length 1 where the metric is cosine; may be memory-mapped.
        metric: "cosine" or "l2".
        share: the part of the memory of all spaces that is for this one, in (0, 1].
        recall: the part of the ten nearest that must be found.
    """

    space: Space
    vectors: Vectors
    metric: Metric
    share: float
    recall: float

    @cached_property
    def asked(self) -> HeldOut:
        """Those that ask."""
        return hold_out(self.vectors, self.metric)


@dataclass(frozen=True)
class Trial:
    """A kind that was looked at.

    Attributes:
        kind: its name.
        memory_gb: GiB that all spaces together need if they all are like this one.
        query_ms: median time of a query; None if it was not built.
        report: figures; None if it was not built.
        entry: the structure that was built, which lies in the folder; None for exact search, or if it was not built.
        flaw: why it is no choice whatever it may cost; empty if it is one.
    """

    kind: str
    memory_gb: float
    query_ms: float | None = None
    report: SpaceReport | None = None
    entry: StructureEntry | None = None
    flaw: str = ""


def try_exact(searched: Searched) -> Trial:
    """Exact search, timed on up to 100,000 of the vectors: the time it takes grows with their number."""
    rows, dim = searched.vectors.shape
    timed = min(rows, _TIMED_ROWS)
    part = searched.vectors[:timed]
    queries = (np.array(part[row : row + 1]) for row in np.linspace(0, timed - 1, _TIMED_QUERIES).astype(int))
    times = [
        ms * rows / timed for ms in _timed(lambda query: nearest_rows(query, part, PLACES, searched.metric), queries)
    ]
    return _trial(searched, EXACT, times, 4.0 * dim, {})


def look_at(searched: Searched, name: str) -> Trial:
    """What is known of a kind without building it: the memory it needs."""
    return Trial(name, _gigabytes(searched, find_kind(name).bytes_per_vector(*searched.vectors.shape)))


def try_kind(searched: Searched, name: str, path: Path, *, build_seconds: float, tell: Callable[[str], None]) -> Trial:
    """Build and tune a structure at ``path``; there is none if the trial has no entry.

    Args:
        searched: what it is to search; at least 1000 vectors.
        name: of the kind.
        path: the file to write.
        build_seconds: what training and filling it may take. Past a block of vectors the rest of the time is foretold.
        tell: is given a line before each longer step.
    """
    kind, asked, rows = find_kind(name), searched.asked, len(searched.vectors)
    started = time.monotonic()
    tell(f"{searched.space}: building {name} over {rows} vectors")
    growing = kind.begun(searched.vectors, asked.others, searched.metric)
    needed = _fill(growing, searched, started, build_seconds)
    if needed > build_seconds:
        seen = look_at(searched, name)
        return Trial(name, seen.memory_gb, flaw=f"would take {ceil(needed / 60)} minutes to build, --kind {name} does")
    tell(f"{searched.space}: tuning {name} until it finds {searched.recall:g} of the {PLACES} nearest")
    tuned, far, candidates = _tuned(growing, kind, searched)
    growing.add(searched.vectors, asked.rows)
    growing.write(path)
    entry = StructureEntry(
        kind=name,
        location=path.name,
        rows=rows,
        effort=tuned.effort,
        far_effort=far.effort,
        most=FAR_PLACES if far.recall.reaches(searched.recall) else PLACES,
        candidates=candidates,
    )
    structure = kind.open(path, entry, searched.metric)

    def search(query: Vectors) -> Neighbours:
        return find_near(structure, candidates, searched.vectors, query, searched.metric, PLACES, PLACES)

    queries = (asked.queries[place : place + 1] for place in range(min(_TIMED_QUERIES, len(asked.queries))))
    figures = {
        "recall": tuned.recall.value,
        "recall_error": tuned.recall.error,
        "queries": tuned.recall.queries,
        "effort_name": kind.effort_name,
        "effort": tuned.effort,
        "far_recall": far.recall.value,
        "far_effort": far.effort,
        "most": entry.most,
        "candidates": candidates,
        "build_seconds": time.monotonic() - started,
    }
    enough = tuned.recall.reaches(searched.recall)
    flaw = "" if enough else f"finds {tuned.recall.value:.3f} of the {PLACES} nearest at most"
    return _trial(searched, name, _timed(search, queries), path.stat().st_size / rows, figures, entry, flaw)


def _fill(growing: Growing, searched: Searched, started: float, limit: float) -> float:
    """Add all that do not ask; the seconds since training began, foretold where it is given up for ``limit``."""
    trained, others = time.monotonic(), searched.asked.others
    needed = 0.0
    for start in range(0, len(others), _BLOCK_ROWS):
        growing.add(searched.vectors, others[start : start + _BLOCK_ROWS])
        filling = (time.monotonic() - trained) * len(others) / min(start + _BLOCK_ROWS, len(others))
        needed = trained - started + filling
        if needed > limit:
            break
    return needed


def _tuned(growing: Growing, kind: Kind, searched: Searched) -> tuple[Tuned, Tuned, int]:
    """For few hits and for many, with as few candidates as will do for few, and how many those are."""
    asked = searched.asked

    def at(candidates: int, k: int, effort: int) -> Neighbours:
        return find_near(growing.at(effort), candidates, searched.vectors, asked.queries, searched.metric, k, k)

    efforts = kind.efforts(len(asked.others))
    for candidates in kind.candidates:
        near = tune(partial(at, candidates, PLACES), efforts, asked, searched.recall)
        if near.recall.reaches(searched.recall):
            break
    enough = efforts[efforts.index(near.effort) :]
    return near, tune(partial(at, candidates, FAR_PLACES), enough, asked, searched.recall), candidates


def _timed(search: Callable[[Vectors], Neighbours], queries: Iterator[Vectors]) -> list[float]:
    """Milliseconds of single queries, until all have asked or enough time is spent; the first is not counted."""
    search(next(queries))
    times: list[float] = []
    ends = time.perf_counter() + _TIMED_SECONDS
    for query in queries:
        started = time.perf_counter()
        search(query)
        times.append((time.perf_counter() - started) * 1000)
        if started > ends:
            break
    return times


def _trial(
    searched: Searched,
    kind: str,
    times: list[float],
    bytes_per_vector: float,
    figures: dict[str, object],
    entry: StructureEntry | None = None,
    flaw: str = "",
) -> Trial:
    rows, dim = searched.vectors.shape
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    report = SpaceReport(
        kind=kind, rows=rows, dim=dim, metric=searched.metric, p50_ms=p50, p99_ms=p99, bytes_per_vector=bytes_per_vector
    )
    report = report.model_copy(update=figures)
    return Trial(kind, _gigabytes(searched, bytes_per_vector), p50, report, entry, flaw)


def _gigabytes(searched: Searched, bytes_per_vector: float) -> float:
    return bytes_per_vector * len(searched.vectors) / searched.share / GIGABYTE
