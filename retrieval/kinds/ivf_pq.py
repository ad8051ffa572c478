"""IVF-PQ: the lists of IVF, and in them instead of a vector a byte for each few of its numbers (product quantisation).

Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011. Its scores are rough, so of several
times k candidates the k nearest are found by the vectors themselves, which may stay on the disk: for indexes larger
than the memory.
"""

from __future__ import annotations

from typing import Any

import faiss

from kineme.retrieval.evaluation import Metric
from kineme.retrieval.kinds.faiss_kind import METRIC_TYPES, FaissKind
from kineme.retrieval.kinds.ivf import SAMPLES_A_LIST, list_bytes, lists, set_training
from kineme.retrieval.vectors import Vectors

_NUMBERS_A_BYTE = 8
_BITS = 8


def code_bytes(dim: int) -> int:
    """Bytes of a code: of the divisors of ``dim``, the one nearest to an eighth of it, by ratio."""
    divisors = [size for size in range(1, dim + 1) if dim % size == 0]
    wanted = dim / _NUMBERS_A_BYTE
    return min(divisors, key=lambda size: (max(size / wanted, wanted / size), -size))


def _empty(sample: Vectors, rows: int, metric: Metric) -> Any:
    dim = sample.shape[1]
    centroids = faiss.IndexFlat(dim, METRIC_TYPES[metric])
    index = faiss.IndexIVFPQ(centroids, dim, lists(rows), code_bytes(dim), _BITS, METRIC_TYPES[metric])
    set_training(index)
    index.pq.cp.min_points_per_centroid, index.pq.cp.max_points_per_centroid = 1, SAMPLES_A_LIST
    index.train(sample)
    index.use_precomputed_table = -1
    return index


KIND = FaissKind(
    effort_name="nprobe",
    empty=_empty,
    sample=lambda rows: SAMPLES_A_LIST * max(lists(rows), 1 << _BITS),
    parameters="SearchParametersIVF",
    efforts=lambda rows: range(1, lists(rows) + 1),
    bytes_per_vector=lambda rows, dim: code_bytes(dim) + list_bytes(rows, dim),
    candidates=(8, 32, 128),
)
