"""What the kinds that are faiss indexes have in common: a file that is mapped, and searches that share nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from kineme.retrieval.commits import StructureEntry
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import Neighbours, in_order
from kineme.retrieval.kinds import PLACES
from kineme.retrieval.segments import Rows
from kineme.retrieval.vectors import Vectors

METRIC_TYPES = {"cosine": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}
# Mapped are vectors, codes, ids and links. Tables of distances to centroids would be computed into memory at opening.
_MAPPED = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE


@dataclass(frozen=True)
class FaissKind:
    """A `Kind` by its parts.

    Attributes:
        effort_name: what faiss calls the effort.
        empty: sample (S, D), rows that will come, metric -> a trained faiss index that takes ids.
        sample: rows that will come -> how many of them training needs at most.
        parameters: name of faiss's class of search parameters, whose field is ``effort_name``.
        efforts, bytes_per_vector, candidates: as of `Kind`.
    """

    effort_name: str
    empty: Callable[[Vectors, int, Metric], Any]
    sample: Callable[[int], int]
    parameters: str
    efforts: Callable[[int], Sequence[int]]
    bytes_per_vector: Callable[[int, int], float]
    candidates: Sequence[int] = (1,)

    def begun(self, vectors: Vectors, rows: Rows, metric: Metric) -> GrowingFaiss:
        """As of `Kind`: trained on a sample of the rows, evenly drawn."""
        wanted = min(self.sample(len(rows)), len(rows))
        drawn = np.sort(np.random.default_rng(0).choice(len(rows), wanted, replace=False))
        sample = np.ascontiguousarray(vectors[rows[drawn]])
        return GrowingFaiss(self.empty(sample, len(rows), metric), self._parameters_at)

    def open(self, path: Path, entry: StructureEntry, metric: Metric) -> FaissStructure:
        """As of `Opener`: mapped, so that opening takes no time, and processes share one copy in memory.

        Raises:
            FileNotFoundError: there is no such file.
            RetrievalError: the file is unreadable, or not over as many rows as ``entry`` says.
        """
        if not path.exists():
            raise FileNotFoundError(2, "no such file", str(path))
        try:
            index = faiss.read_index(str(path), _MAPPED)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RetrievalError(f"{path}: unreadable ({reason}); copy the index again, or kineme compact it") from None
        if index.ntotal != entry.rows or index.metric_type != METRIC_TYPES[metric]:
            raise RetrievalError(
                f"{path}: over {index.ntotal} rows, the index says {entry.rows} by {metric}; "
                "kineme compact builds it anew"
            )
        return FaissStructure(index, self._parameters_at(entry.effort), self._parameters_at(entry.far_effort))

    def _parameters_at(self, effort: int) -> Any:
        return getattr(faiss, self.parameters)(**{self.effort_name: effort})


class FaissStructure:
    """A faiss index with efforts of its own. Several may share the index: searching changes nothing in it."""

    def __init__(self, index: Any, near: Any, far: Any) -> None:
        self._index = index
        self._near, self._far = near, far
        self._by_product = index.metric_type == faiss.METRIC_INNER_PRODUCT
        # A graph, the only kind in a map of ids, wakes all threads even for one query, and waits for each: long, where
        # a core has other work.
        self._wakes_all = isinstance(index, faiss.IndexIDMap)

    def search(self, queries: Vectors, k: int, room: int | None = None) -> Neighbours:
        """As of `Structure`."""
        parameters = self._near if k <= PLACES else self._far
        if self._wakes_all and len(queries) < (threads := faiss.omp_get_max_threads()):
            # The number is one of the calling thread.
            faiss.omp_set_num_threads(1)
            try:
                distances, rows = self._index.search(queries, room or k, params=parameters)
            finally:
                faiss.omp_set_num_threads(threads)
        else:
            distances, rows = self._index.search(queries, room or k, params=parameters)
        return in_order(distances if self._by_product else -np.sqrt(distances), rows)


class GrowingFaiss:
    """A `Growing`: a faiss index in memory."""

    def __init__(self, index: Any, parameters: Callable[[int], Any]) -> None:
        self._index = index
        self._parameters = parameters

    def add(self, vectors: Vectors, rows: Rows) -> None:
        """As of `Growing`."""
        self._index.add_with_ids(np.ascontiguousarray(vectors[rows]), rows)

    def at(self, effort: int) -> FaissStructure:
        """As of `Growing`."""
        parameters = self._parameters(effort)
        return FaissStructure(self._index, parameters, parameters)

    def write(self, path: Path) -> None:
        """As of `Growing`.

        Raises:
            RetrievalError: there is no room for it, as far as faiss notices.
        """
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RetrievalError(f"{path}: cannot be written ({reason}); make room on the disk") from None
