"""The nearest rows of a matrix by comparing all of them, or all that are allowed: nothing is missed."""

from __future__ import annotations

from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.evaluation import Metric
from kineme.retrieval.segments import Rows
from kineme.retrieval.vectors import Vectors

# Up to this part of all rows it is faster to copy the allowed ones together than to ask of every row whether it is one.
_GATHERED_PART = 8
_BLOCK_ROWS = 8192
# From so many queries on they are multiplied with all vectors as matrices. faiss does so only beyond some 125,000
# numbers in the queries; for 64 queries of 512 it takes several times as long.
_MULTIPLIED_QUERIES = 4
# Euclidean distances are not computed from products, where near ones drown in the rounding: faiss gets fewer at a time.
# So for faiss 1.15; older ones multiply from 20 queries on.
_UNMULTIPLIED_NUMBERS = 64_000
_PRODUCTS = 1 << 22


class Neighbours(NamedTuple):
    """Of Q queries: scores (Q, k) float32, best first, and row numbers (Q, k) int64; equal scores by row.

    Which of those that tie for the last place are among the k is left open.
    A score is the cosine similarity in [-1, 1], or minus the Euclidean distance.
    """

    scores: Vectors
    rows: Rows


def nearest_rows(
    queries: Vectors, vectors: Vectors, k: int, metric: Metric, *, allowed: Rows | None = None
) -> Neighbours:
    """The k nearest rows of ``vectors`` to each query.

    Args:
        queries: (Q, D) float32, of length 1 where the metric is cosine.
        vectors: (N, D) float32, likewise, C-contiguous; may be memory-mapped.
        k: rows wanted, at least 1; all that are allowed come where they are fewer.
        metric: "cosine" or "l2".
        allowed: ascending row numbers that may answer; all of them if None.
    """
    if allowed is None:
        return _search(queries, vectors, k, metric, None)
    if len(allowed) * _GATHERED_PART <= len(vectors) or _multiplies(len(queries), metric):
        return _gathered(queries, vectors, k, metric, allowed)
    bits = np.zeros(len(vectors), np.uint8)
    bits[allowed] = 1
    return _search(queries, vectors, min(k, len(allowed)), metric, np.packbits(bits, bitorder="little"))


def all_scores(queries: Vectors, vectors: Vectors, metric: Metric) -> Vectors:
    """(D,) or (Q, D), and (N, D) -> (N,) or (Q, N) float32, the score of every row."""
    if metric == "cosine":
        scores: Vectors = queries @ vectors.T
        return scores
    rows = max(1, _BLOCK_ROWS * queries.shape[-1] // queries.size)
    blocks = [vectors[start : start + rows] for start in range(0, len(vectors), rows)]
    distances = [np.linalg.norm(block - queries[..., None, :], axis=-1) for block in blocks]
    return -np.concatenate(distances, axis=-1) if distances else np.empty((*queries.shape[:-1], 0), np.float32)


def rescored(queries: Vectors, vectors: Vectors, rows: Rows, k: int, metric: Metric) -> Neighbours:
    """The k nearest of some candidates, by their exact scores; a pair has the same score wherever it stands.

    Args:
        queries: (Q, D) float32, C-contiguous, of length 1 where the metric is cosine.
        vectors: (N, D) float32, likewise; no more of it is read than is asked for.
        rows: (Q, C) row numbers of each query's candidates, -1 for none.
        k: rows wanted; places for which there is no candidate have row -1 and score -infinity.
        metric: "cosine" or "l2".
    """
    distances, rows = np.empty(rows.shape, np.float32), np.ascontiguousarray(rows)
    library: Any = faiss
    compare = library.fvec_inner_products_by_idx if metric == "cosine" else library.fvec_L2sqr_by_idx
    pointer = library.swig_ptr
    compare(pointer(distances), pointer(queries), pointer(vectors), pointer(rows), queries.shape[1], *rows.shape)
    scores = distances if metric == "cosine" else -np.sqrt(np.maximum(distances, 0))
    return _best(np.where(rows < 0, np.float32(-np.inf), scores), rows, k)


def without(near: Neighbours, removed: Rows, k: int) -> Neighbours:
    """The k best of what was found, but for rows among ``removed``, which ascend: those are -1, at -infinity."""
    if not len(removed):
        return near if near.rows.shape[1] == k else Neighbours(near.scores[:, :k], near.rows[:, :k])
    # Not np.isin: it sorts all that were removed, each time.
    place = np.minimum(np.searchsorted(removed, near.rows), len(removed) - 1)
    gone = removed[place] == near.rows
    return _best(np.where(gone, np.float32(-np.inf), near.scores), np.where(gone, -1, near.rows), k)


def merged(parts: list[Neighbours], k: int) -> Neighbours:
    """The k best of several answers to the same queries, whose rows differ."""
    if len(parts) == 1:
        return Neighbours(parts[0].scores[:, :k], parts[0].rows[:, :k])
    scores = np.concatenate([part.scores for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    return _best(scores, rows, k)


def nothing(queries: int) -> Neighbours:
    """No neighbours of any of so many queries."""
    return Neighbours(np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64))


def _gathered(queries: Vectors, vectors: Vectors, k: int, metric: Metric, allowed: Rows) -> Neighbours:
    found: list[Neighbours] = []
    for start in range(0, len(allowed), _BLOCK_ROWS):
        rows = allowed[start : start + _BLOCK_ROWS]
        near = _search(queries, np.ascontiguousarray(vectors[rows]), k, metric, None)
        found = [merged([*found, Neighbours(near.scores, rows[near.rows])], k)]
    return found[0] if found else nothing(len(queries))


def _search(
    queries: Vectors, vectors: Vectors, k: int, metric: Metric, allowed: NDArray[np.uint8] | None
) -> Neighbours:
    k = min(k, len(vectors))
    if k == 0 or len(queries) == 0:
        return nothing(len(queries))
    if allowed is None and _multiplies(len(queries), metric):
        return _multiplied(queries, vectors, k)
    most = max(1, _UNMULTIPLIED_NUMBERS // vectors.shape[1])
    if len(queries) > most:
        blocks = range(0, len(queries), most)
        parts = [_search(queries[start : start + most], vectors, k, metric, allowed) for start in blocks]
        return Neighbours(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    distances = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    # faiss makes its signatures at run time.
    only: list[Any] = [] if allowed is None else [faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(allowed))]
    if metric == "l2":
        only = [None, *only]  # the norms of the vectors, which we have not
    search: Any = faiss.knn_inner_product if metric == "cosine" else faiss.knn_L2sqr
    sizes = vectors.shape[1], len(queries), len(vectors), k
    pointer: Any = faiss.swig_ptr
    search(pointer(queries), pointer(vectors), *sizes, pointer(distances), pointer(rows), *only)
    scores = distances if metric == "cosine" else -np.sqrt(np.maximum(distances, 0))
    return in_order(scores, rows)


def _multiplies(queries: int, metric: Metric) -> bool:
    return metric == "cosine" and queries >= _MULTIPLIED_QUERIES


def _multiplied(queries: Vectors, vectors: Vectors, k: int) -> Neighbours:
    scores = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    heaps: Any = faiss.float_minheap_array_t()
    heaps.nh, heaps.k = len(queries), k
    heaps.val, heaps.ids = faiss.swig_ptr(scores), faiss.swig_ptr(rows)
    heaps.heapify()
    # Large blocks: at the end of each the threads wait for one another, twice.
    rows_a_block = max(_BLOCK_ROWS, _PRODUCTS // len(queries))
    for start in range(0, len(vectors), rows_a_block):
        products = queries @ vectors[start : start + rows_a_block].T
        heaps.addn(products.shape[1], faiss.swig_ptr(products), start, 0, len(queries))
    heaps.reorder()
    return in_order(scores, rows)


def in_order(scores: Vectors, rows: Rows) -> Neighbours:
    """Equal scores of (Q, k), best first, by row: faiss gives them in any order."""
    # One query is answered in fewer microseconds without numpy: after a search its code is no longer in the caches.
    tied = (
        len(set(scores[0].tolist())) < scores.shape[1] if len(scores) == 1 else (scores[:, 1:] == scores[:, :-1]).any()
    )
    if tied:
        return _best(scores, rows, scores.shape[1])
    return Neighbours(scores, rows)


def _best(scores: Vectors, rows: Rows, k: int) -> Neighbours:
    order = np.lexsort((rows, -scores))[:, :k]
    return Neighbours(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))
