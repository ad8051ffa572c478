"""What an index may cost, and how much its search must find."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.kinds import EXACT, KINDS

GIGABYTE = 1 << 30
LATENCY_MS = 100.0
"""What a query may take where nothing is asked: what people take for at once."""


class Budget(BaseModel):
    """What is asked of the search of an index.

    Attributes:
        kind: one of `kineme.retrieval.kinds`, "exact" among them; None to choose by the rest.
        memory_gb: GiB that the searches of all spaces may keep in memory.
        latency_ms: what a single query may take in the median, alone on this machine.
        recall: the part of the ten nearest that must be found, in (0, 1].

    Without a kind, limits that are not given are what this machine has of memory, and `LATENCY_MS`; where neither is
    given, and they cannot be kept, search is exact. A kind that is given has no other limits than are given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str | None = None
    memory_gb: float | None = None
    latency_ms: float | None = None
    recall: float = 0.95

    def check(self) -> None:
        """Say now, before hours of encoding, what cannot be.

        Raises:
            RetrievalError: no such kind, or a number out of its range.
        """
        if self.kind is not None and self.kind not in (EXACT, *KINDS):
            raise RetrievalError(f"--kind {self.kind}: one of {', '.join((EXACT, *KINDS))} expected")
        for option, value in (("--memory-gb", self.memory_gb), ("--latency-ms", self.latency_ms)):
            if value is not None and not 0 < value < float("inf"):
                raise RetrievalError(f"{option} {value:g}: more than 0 expected")
        if not 0 < self.recall <= 1:
            raise RetrievalError(f"--recall {self.recall:g}: more than 0 and at most 1 expected")

    @property
    def memory_gb_allowed(self) -> float:
        """GiB of all spaces together."""
        if self.memory_gb is not None:
            return self.memory_gb
        return float("inf") if self.kind else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIGABYTE

    @property
    def query_ms(self) -> float:
        """Of one query."""
        if self.latency_ms is not None:
            return self.latency_ms
        return float("inf") if self.kind else LATENCY_MS
