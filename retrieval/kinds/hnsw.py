"""HNSW: a graph of near vectors, walked towards the query with a list of the ``efSearch`` best so far.

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World
graphs", 2018. Scores are exact. The quickest of a large index, by far the slowest to build; rows cannot be taken out of
a graph, so what was removed is left out of the answers (`kineme.retrieval.index`).
"""

from __future__ import annotations

from typing import Any

import faiss

from kineme.retrieval.evaluation import Metric
from kineme.retrieval.kinds.faiss_kind import METRIC_TYPES, FaissKind
from kineme.retrieval.vectors import Vectors

_LINKS = 32
_BUILD_EFFORT = 80
_LEAST_EFFORT, _MOST_EFFORT = 10, 4096


def _empty(sample: Vectors, rows: int, metric: Metric) -> Any:
    graph = faiss.IndexHNSWFlat(sample.shape[1], _LINKS, METRIC_TYPES[metric])
    graph.hnsw.efConstruction = _BUILD_EFFORT
    return faiss.IndexIDMap(graph)  # a graph numbers its vectors as they come


KIND = FaissKind(
    effort_name="efSearch",
    empty=_empty,
    sample=lambda rows: 1,
    parameters="SearchParametersHNSW",
    efforts=lambda rows: range(_LEAST_EFFORT, _MOST_EFFORT + 1),
    # Twice the links on the lowest floor, and one in so many vectors stands on the floor above.
    bytes_per_vector=lambda rows, dim: 4 * dim + 4 * (2 * _LINKS + 1) + 16 + 8,
)
