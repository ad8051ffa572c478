"""The options of ``kineme index`` and ``compact`` that say what search may cost, and what is told of the choice."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kineme.retrieval.budget import Budget


class SearchKind(StrEnum):
    """What may search a space: `kineme.retrieval.kinds`, named here so that the help need not load faiss."""

    exact = "exact"
    ivf = "ivf"
    hnsw = "hnsw"
    ivf_pq = "ivf-pq"


KindOption = Annotated[
    SearchKind | None,
    typer.Option(
        "--kind",
        help="What searches 5000 clips or more. Else exact search while it keeps the limits, then what keeps them.",
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option("--memory-gb", metavar="GB", help="Memory that search may keep; else that of the machine."),
]
LatencyOption = Annotated[
    float | None,
    typer.Option("--latency-ms", metavar="MS", help="Median time of a query; else exact search up to 100 ms."),
]
RecallOption = Annotated[
    float | None,
    typer.Option("--recall", metavar="PART", help="Part of the ten nearest that must be found; 0.95 if not given."),
]


def asked_budget(
    kind: SearchKind | None, memory_gb: float | None, latency_ms: float | None, recall: float | None
) -> Budget | None:
    """What the options ask; None where none is given.

    Raises:
        RetrievalError: a number out of its range.
    """
    from kineme.retrieval.budget import Budget

    if kind is None and memory_gb is None and latency_ms is None and recall is None:
        return None
    given = {"kind": kind and kind.value, "memory_gb": memory_gb, "latency_ms": latency_ms, "recall": recall}
    budget = Budget.model_validate({name: value for name, value in given.items() if value is not None})
    budget.check()
    return budget


def choose_kinds(folder: Path, budget: Budget | None) -> int:
    """Write an index anew with what searches each space chosen within a budget, else the one that was asked last.

    Tells a line a space: what searches it, and why. Returns the number of clips.

    Raises:
        RetrievalError: nothing keeps the budget; the index is what it was.
    """
    from kineme.retrieval.budget import Budget
    from kineme.retrieval.choosing import structures
    from kineme.retrieval.errors import RetrievalError
    from kineme.retrieval.growing import compact
    from kineme.retrieval.index_report import read_report

    before = read_report(folder)
    asked = budget or (Budget() if before is None else before.asked)
    try:
        info = compact(folder, structures(asked, lambda line: typer.echo(line, err=True)))
    except RetrievalError as error:
        raise RetrievalError(f"{error} (kineme compact {folder}, whose search is unchanged)") from None
    report = read_report(folder)
    for space, said in () if report is None else report.spaces.items():
        effort = f" at {said.effort_name} {said.effort}, recall {said.recall:.3f}" if said.effort_name else ""
        typer.echo(f"{space} is searched by {said.kind}{effort}: {said.why}")
    return info.count
