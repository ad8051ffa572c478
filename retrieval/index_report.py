"""index_report.json: what searches each space of an index, what that costs and finds, and why it was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from kineme.retrieval.atomic import replacing
from kineme.retrieval.budget import Budget
from kineme.retrieval.commits import REPORT_FILE
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.vectors import Space


class SpaceReport(BaseModel):
    """Of one space.

    Attributes:
        kind: what searches it.
        why: why this kind, in one line.
        rejected: why not the kinds that were looked at before, a line each.
        rows, dim, metric: what it is over.
        recall: the part of the ten nearest that is found, in the mean of ``queries`` that were not in the structure.
        recall_error: standard error of that mean; two of them below it still reach what was asked.
        queries: how many; 0 for exact search, which finds all.
        effort_name, effort: such as nprobe, 12; None and 1 for exact search.
        far_recall, far_effort: the same where 11 to 100 hits are wanted, by the hundred nearest.
        most: for more hits all vectors are compared; 0 where they always are.
        candidates: so many times k are compared exactly.
        p50_ms, p99_ms: of single queries one after the other, for ten hits, on the machine that built it.
        bytes_per_vector: memory that search needs, divided by the rows.
        build_seconds: training, filling and tuning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    why: str = ""
    rejected: tuple[str, ...] = ()
    rows: int
    dim: int
    metric: Metric
    recall: float = 1.0
    recall_error: float = 0.0
    queries: int = 0
    effort_name: str | None = None
    effort: int = 1
    far_recall: float = 1.0
    far_effort: int = 1
    most: int = 0
    candidates: int = 1
    p50_ms: float
    p99_ms: float
    bytes_per_vector: float
    build_seconds: float = 0.0


class IndexReport(BaseModel):
    """Of an index, as it was when its structures were built.

    Attributes:
        generation: of the index then; what was added or removed since is not in the figures.
        asked: what the choice was made by.
        spaces: what was chosen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: int
    asked: Budget
    spaces: Mapping[Space, SpaceReport]


@contextmanager
def reported(folder: Path, report: IndexReport | None) -> Iterator[None]:
    """The report of an index is written, and takes the place of that of before when the block, its commit, ends well.

    Where nothing was chosen, that of before is removed then.
    """
    if report is None:
        yield
        (folder / REPORT_FILE).unlink(missing_ok=True)
        return
    with replacing(folder / REPORT_FILE) as partial:
        partial.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        yield


def read_report(folder: Path) -> IndexReport | None:
    """The report of an index; None if it has none, or one that this version does not read."""
    try:
        return IndexReport.model_validate_json((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
