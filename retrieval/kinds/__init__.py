"""What finds neighbours without comparing all vectors: one file a kind, behind one protocol.

Exact search needs no file here (`kineme.retrieval.exact`). A structure covers the first rows of an index; rows that
were added since are searched exactly, until `kineme compact` builds it anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from kineme.retrieval.commits import StructureEntry, read_info
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import Neighbours, rescored
from kineme.retrieval.segments import Rows
from kineme.retrieval.vectors import Space, Vectors

EXACT = "exact"
PLACES, FAR_PLACES = 10, 100
"""Structures are tuned twice: to find so many of the nearest, and so many."""
# A new kind is a file, a line here and one in `SearchKind` of kineme.pipeline.commands.budgets.
KINDS = {"ivf": "ivf", "hnsw": "hnsw", "ivf-pq": "ivf_pq"}
"""Name of a kind -> the file here that has its `Kind` as ``KIND``."""
STORES = {"milvus": "milvus"}
"""The same of structures that live in a store elsewhere: the file has an `Opener` as ``KIND``, and builds by itself."""


class Structure(Protocol):
    """An open structure over the rows of one space. Safe to share between threads."""

    def search(self, queries: Vectors, k: int, room: int | None = None) -> Neighbours:
        """At most ``room``, or else k, rows near each of the queries (Q, D), of length 1 where the metric is cosine.

        They are looked for as carefully as the k nearest must be. Best first; a place for which nothing was found has
        row -1 and a score below all others. Rows that were removed since may be among them.
        """


class Opener(Protocol):
    """What opens the structures of a kind."""

    def open(self, path: Path, entry: StructureEntry, metric: Metric) -> Structure:
        """The structure that ``entry`` names; ``path`` is where it is, if it is a file.

        Raises:
            RetrievalError: the file is unreadable, or the address is none.
        """


class Kind(Opener, Protocol):
    """How structures of a kind are built, opened and tuned: what has all of it is a `FaissKind`.

    Attributes:
        effort_name: what the literature calls the number that trades time for recall, such as nprobe.
        candidates: how many times k candidates may be compared exactly, ascending; (1,) where scores are exact.
    """

    @property
    def effort_name(self) -> str: ...  # noqa: D102

    @property
    def candidates(self) -> Sequence[int]: ...  # noqa: D102

    def begun(self, vectors: Vectors, rows: Rows, metric: Metric) -> Growing:
        """An empty structure, made for rows like these.

        Args:
            vectors: (N, D) float32, of length 1 where the metric is cosine; may be memory-mapped, and is read in parts.
            rows: (R,) ascending numbers of those that will be added at first; a sample of them is learned from.
            metric: "cosine" or "l2".
        """

    def efforts(self, rows: int) -> Sequence[int]:
        """The efforts that tuning may choose among, ascending; the last finds nearly all there is to find."""

    def bytes_per_vector(self, rows: int, dim: int) -> float:
        """Memory that search needs a vector, the vectors themselves among it where search reads them."""


class Growing(Protocol):
    """A structure in memory, while it is built."""

    def add(self, vectors: Vectors, rows: Rows) -> None:
        """Take in some rows of (N, D), by their numbers."""

    def at(self, effort: int) -> Structure:
        """What it finds as it is now, at this effort for any k."""

    def write(self, path: Path) -> None:
        """Leave it in a file, which `Kind.open` opens."""


def find_near(
    structure: Structure, candidates: int, vectors: Vectors, queries: Vectors, metric: Metric, k: int, room: int
) -> Neighbours:
    """What a structure finds; where it knows scores roughly, the exactly nearest of ``candidates`` times as many.

    Args:
        structure: an open one.
        candidates: as in its `StructureEntry`.
        vectors: (N, D), those that it is over.
        queries: (Q, D) float32, of length 1 where the metric is cosine.
        metric: "cosine" or "l2".
        k: how many must be found.
        room: how many are wanted, at least k; places for which nothing was found have row -1.
    """
    if candidates == 1:
        return structure.search(queries, k, room)
    near = structure.search(queries, k, min(candidates * max(room, PLACES), len(vectors)))
    return rescored(queries, vectors, near.rows, room, metric)


def find_kind(name: str) -> Kind:
    """The kind of this name.

    Raises:
        RetrievalError: there is none.
    """
    if name not in KINDS:
        raise RetrievalError(f"kind {name!r}: one of {', '.join((EXACT, *KINDS))} expected")
    kind: Kind = import_module(f"{__name__}.{KINDS[name]}").KIND
    return kind


def find_opener(name: str) -> Opener:
    """What opens the structures of this kind, be they files or in a store elsewhere.

    Raises:
        RetrievalError: there is none.
    """
    if name not in STORES:
        return find_kind(name)
    opener: Opener = import_module(f"{__name__}.{STORES[name]}").KIND
    return opener


def standing_structures(folder: Path) -> Mapping[Space, StructureEntry]:
    """The structures of the index that stands in a folder; none where there is none that this version reads."""
    try:
        return read_info(folder).structures
    except RetrievalError:
        return {}


def forget(folder: Path, before: Mapping[Space, StructureEntry], now: Mapping[Space, StructureEntry]) -> None:
    """After a commit: let stores elsewhere drop what the index does not name any more. It warns of what it cannot."""
    for name in {entry.kind for entry in before.values()} & STORES.keys():
        if before != now:
            import_module(f"{__name__}.{STORES[name]}").forget(folder, before, now)
