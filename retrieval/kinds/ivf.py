"""IVF: vectors in lists, each around a centroid; a query looks into the ``nprobe`` lists whose centroids are nearest.

Scores are exact. Quick to build, and at the highest nprobe it finds all there is to find.
"""

from __future__ import annotations

from typing import Any

import faiss

from kineme.retrieval.evaluation import Metric
from kineme.retrieval.kinds.faiss_kind import METRIC_TYPES, FaissKind
from kineme.retrieval.vectors import Vectors

SAMPLES_A_LIST = 64
# k-means of more on two cores takes longer than ten minutes.
_MOST_LISTS = 8192


def lists(rows: int) -> int:
    """How many lists so many rows are put into: four times the square root of them."""
    return max(1, min(int(4 * rows**0.5), rows // 4, _MOST_LISTS))


def set_training(index: Any) -> None:
    """As much training as there are samples for, without a word about few of them."""
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, SAMPLES_A_LIST


def list_bytes(rows: int, dim: int) -> float:
    """Of ids and centroids, for each vector."""
    return 8 + 4 * dim * lists(rows) / rows


def _empty(sample: Vectors, rows: int, metric: Metric) -> Any:
    dim = sample.shape[1]
    centroids = faiss.IndexFlat(dim, METRIC_TYPES[metric])
    index = faiss.IndexIVFFlat(centroids, dim, lists(rows), METRIC_TYPES[metric])
    set_training(index)
    index.train(sample)
    return index


KIND = FaissKind(
    effort_name="nprobe",
    empty=_empty,
    sample=lambda rows: SAMPLES_A_LIST * lists(rows),
    parameters="SearchParametersIVF",
    efforts=lambda rows: range(1, lists(rows) + 1),
    bytes_per_vector=lambda rows, dim: 4 * dim + list_bytes(rows, dim),
)
