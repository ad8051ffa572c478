"""Which kind searches each space of an index: the first in this order that costs no more than it may.

1. exact: it misses nothing, filters, removes, and is built in no time. Where that ends is not a number of clips but the
   time of a query, measured on the vectors themselves: 100 ms if nothing is asked. One core of the machine that this
   was written on compares 600,000 vectors of 512 numbers, or a million of 300, in that time.
2. ivf, built in minutes, with all vectors in memory like exact search.
3. hnsw, the quickest to search, unless it would take longer than ten minutes to build.
4. ivf-pq, for what is larger than the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, isfinite, log10
from pathlib import Path

from kineme.retrieval.budget import Budget
from kineme.retrieval.changes import Built, Structures
from kineme.retrieval.commits import IndexInfo, StructureEntry, segment_folder
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index_report import IndexReport, SpaceReport
from kineme.retrieval.kinds import EXACT, KINDS
from kineme.retrieval.segments import open_segment
from kineme.retrieval.trials import Searched, Trial, look_at, try_exact, try_kind
from kineme.retrieval.vectors import SPACES, Space

FEWEST_ROWS = 5000
"""Fewer are searched exactly, whatever is asked: in less time than anything else takes, and too few to tune by."""
BUILD_SECONDS = 600.0
"""What may be spent on training and filling a structure that was not asked for by name."""


def structures(budget: Budget, tell: Callable[[str], None] = lambda line: None) -> Structures:
    """What builds the structures of an index within a budget, and reports on the choice.

    Args:
        budget: what is asked.
        tell: is given a line before each longer step.

    Raises:
        RetrievalError: here, if the budget cannot be; while building: no kind keeps what was asked (the message names
            the nearest that there is), or the kind that was asked for by name does not find enough.
    """
    budget.check()

    def build(folder: Path, info: IndexInfo) -> Built:
        (held,) = info.segments
        segment = open_segment(segment_folder(folder, held.name), held.count, info.dims, info.metrics)
        reports: dict[Space, SpaceReport] = {}
        entries: dict[Space, StructureEntry] = {}
        for space in SPACES if info.rows else ():
            # Each gets of the memory what it has of the numbers.
            share = info.dims[space] / sum(info.dims.values())
            searched = Searched(space, segment.vectors[space], info.metrics[space], share, budget.recall)
            reports[space], entry = _choose(searched, budget, folder, info.generation, tell)
            if entry is not None:
                entries[space] = entry
        return Built(entries, IndexReport(generation=info.generation, asked=budget, spaces=reports))

    return build


def _choose(
    searched: Searched, budget: Budget, folder: Path, generation: int, tell: Callable[[str], None]
) -> tuple[SpaceReport, StructureEntry | None]:
    """Raises RetrievalError where nothing keeps what was asked."""
    few = len(searched.vectors) < FEWEST_ROWS
    names = (EXACT,) if few else (EXACT, *KINDS) if budget.kind is None else (budget.kind,)
    trials: list[Trial] = []
    for name in names:
        trial = try_exact(searched) if name == EXACT else look_at(searched, name)
        if trial.report is None and trial.memory_gb <= budget.memory_gb_allowed:
            path = folder / f"{searched.space}-{generation:06d}.{name}.faiss"
            limit = BUILD_SECONDS if budget.kind is None else float("inf")
            trial = try_kind(searched, name, path, build_seconds=limit, tell=tell)
        if not trial.flaw and _excess(trial, budget) <= 1:
            return _explained(trial, _why(trial, budget, few), trials)
        if trial.entry is not None:
            (folder / trial.entry.location).unlink()
        trials.append(trial)
    if budget.kind is None and budget.memory_gb is None and budget.latency_ms is None:
        why = f"nothing was asked, and no kind keeps {_limits(budget)}: {_cost(trials[0])}"
        return _explained(trials[0], why, trials[1:])
    raise RetrievalError(_refusal(searched.space, trials, budget))


def _excess(trial: Trial, budget: Budget) -> float:
    """How many times what is allowed it costs, as far as that is known."""
    return max((trial.query_ms or 0) / budget.query_ms, trial.memory_gb / budget.memory_gb_allowed)


def _explained(trial: Trial, why: str, before: Sequence[Trial]) -> tuple[SpaceReport, StructureEntry | None]:
    assert trial.report is not None
    rejected = tuple(f"{other.kind}: {other.flaw or _cost(other)}" for other in before)
    return trial.report.model_copy(update={"why": why, "rejected": rejected}), trial.entry


def _why(trial: Trial, budget: Budget, few: bool) -> str:
    if few:
        unused = "" if budget.kind in (None, EXACT) else f", not by --kind {budget.kind}"
        return f"fewer than {FEWEST_ROWS} vectors are searched exactly{unused}: {_cost(trial)}"
    if budget.kind is not None:
        return f"asked for by name: {_cost(trial)}"
    order = ", ".join((EXACT, *KINDS))
    return f"the first of {order} that keeps {_limits(budget)}: {_cost(trial)}"


def _limits(budget: Budget) -> str:
    limits = ((budget.query_ms, "ms a query"), (budget.memory_gb_allowed, "GB for all spaces"))
    return " and ".join(f"{value:.3g} {what}" for value, what in limits if isfinite(value))


def _cost(trial: Trial) -> str:
    time = "" if trial.query_ms is None else f"{trial.query_ms:.3g} ms and "
    return f"{time}{trial.memory_gb:.3g} GB"


def _refusal(space: str, trials: Sequence[Trial], budget: Budget) -> str:
    """Why nothing will do, and what the nearest would need."""
    possible = [trial for trial in trials if not trial.flaw]
    if not possible:
        found = "; ".join(f"--kind {trial.kind} {trial.flaw}" for trial in trials)
        return f"{found} in {space}, --recall {budget.recall:g} is asked: ask for less, or leave --kind out"
    nearest = min(possible, key=lambda trial: _excess(trial, budget))
    mend = []
    if nearest.query_ms is not None and nearest.query_ms > budget.query_ms:
        mend.append(f"--latency-ms {_rounded_up(nearest.query_ms)}")
    if nearest.memory_gb > budget.memory_gb_allowed:
        mend.append(f"--memory-gb {_rounded_up(nearest.memory_gb)}")
    what = "no kind keeps" if budget.kind is None else f"--kind {budget.kind} does not keep"
    return (
        f"{what} {_limits(budget)} in {space}: the nearest is {nearest.kind}, which needs {_cost(nearest)}; "
        f"allow {' '.join(mend)}"
    )


def _rounded_up(value: float) -> str:
    """A little more than this, in two digits."""
    digit = 10.0 ** (floor(log10(value)) - 1)
    return f"{ceil(value * 1.05 / digit) * digit:.2g}"
