"""Search by both spaces at once: this motion, that appearance; and several clips as one query.

The scores of the two spaces have different means and spreads, so that a plain sum would follow the wider one. Each
space's scores are standardised first, over all clips of the index: a blended score counts in standard deviations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import Neighbours, nothing
from kineme.retrieval.index import Index
from kineme.retrieval.search import Hit, allowed_rows, checked, search, to_hits
from kineme.retrieval.segments import Rows
from kineme.retrieval.vectors import Space, Vectors, normalised

By = Literal["motion", "appearance", "both"]
"""What a query asks by: one space, or both of them, weighted."""
EVEN = 0.5
"""The weight of motion where nobody asks for another."""

# Queries are compared with all clips together, as many as make so many scores.
_BLOCK_VALUES = 8_000_000
# A spread that float32 makes of equal scores.
_NO_SPREAD = 1e-6


def search_both(
    index: Index,
    motion: NDArray[np.float32],
    appearance: NDArray[np.float32],
    *,
    weight: float = EVEN,
    k: int = 10,
    where: str | None = None,
    exclude: Collection[str] = (),
) -> list[Hit]:
    """The k clips nearest by both spaces, exactly.

    A clip's score is weight * motion + (1 - weight) * appearance, where each space's scores are brought to mean 0 and
    deviation 1 over all clips of the index, whatever the filter allows; scores that are all equal become 0.

    Args:
        motion: (Dm,) float32.
        appearance: (Da,) float32; may be another clip's.
        weight: of motion, in [0, 1]. With 1 the order is that of a search by motion, with 0 by
            appearance, but for scores that differ by rounding alone.
        k, where, exclude: as of `kineme.retrieval.search.search`.

    Returns:
        Best first; equal scores in the order of the index. Those of equal clips may differ by rounding.

    Raises:
        RetrievalError: a weight out of its range, k < 1, a vector of another length or not finite, or a bad filter.
    """
    _check(k, weight)
    vectors: dict[Space, Vectors] = {
        "motion": checked(index, motion, "motion")[None],
        "appearance": checked(index, appearance, "appearance")[None],
    }
    near = _nearest_of_both(index, vectors, weight, k, allowed_rows(index, where, exclude))
    return to_hits(index, near.scores[0].tolist(), near.rows[0].tolist())


def search_by(
    index: Index,
    vectors: Mapping[Space, NDArray[np.float32]],
    *,
    by: By,
    weight: float = EVEN,
    k: int = 10,
    where: str | None = None,
    exclude: Collection[str] = (),
) -> list[Hit]:
    """`search_both`, or `kineme.retrieval.search.search` where one space is asked for.

    Args:
        vectors: (D,) of each space that ``by`` needs.
        by: one space or both.
        weight: of motion, where both are asked for.
    """
    if by == "both":
        both = vectors["motion"], vectors["appearance"]
        return search_both(index, *both, weight=weight, k=k, where=where, exclude=exclude)
    return search(index, vectors[by], by=by, k=k, where=where, exclude=exclude)


def nearest_by(
    index: Index, vectors: Mapping[Space, Vectors], *, by: By, weight: float = EVEN, k: int, rows: Rows | None = None
) -> Neighbours:
    """The k nearest clips of each of Q queries: what `search_by` finds for each, as rows of the index.

    Args:
        vectors: (Q, D) of each space that ``by`` needs.
        by, weight: as of `search_by`.
        k: clips wanted, at least 1; fewer come where there are fewer.
        rows: ascending numbers of the rows that may answer; None: all of them.

    Raises:
        RetrievalError: as of `search_both`.
    """
    _check(k, weight)
    spaces: list[Space] = ["motion", "appearance"] if by == "both" else [by]
    for space in spaces:
        for vector in vectors[space]:
            checked(index, vector, space)
    if by == "both":
        return _nearest_of_both(index, vectors, weight, k, rows)
    return index.nearest(vectors[by], by, k, rows)


def mean_vector(vectors: Vectors, metric: Metric) -> Vectors:
    """Several clips as one query: (N, D) -> (D,), their mean; of length 1 each before where the metric is cosine."""
    mean: Vectors = (normalised(vectors) if metric == "cosine" else vectors).mean(axis=0, dtype=np.float32)
    return mean


def _check(k: int, weight: float) -> None:
    if k < 1:
        raise RetrievalError(f"k = {k}: at least 1 expected")
    if not 0 <= weight <= 1:
        raise RetrievalError(f"weight {weight:g}: from 0 (appearance alone) to 1 (motion alone) expected")


def _nearest_of_both(
    index: Index, vectors: Mapping[Space, Vectors], weight: float, k: int, rows: Rows | None
) -> Neighbours:
    allowed = index.live_rows if rows is None else rows
    if not len(allowed):
        return nothing(len(vectors["motion"]))
    places = slice(None) if rows is None else np.searchsorted(index.live_rows, rows)
    motion, appearance = vectors["motion"], vectors["appearance"]
    scores, best = [], []
    at_once = max(1, _BLOCK_VALUES // index.count)
    for start in range(0, len(motion), at_once):
        block = slice(start, start + at_once)
        moves, looks = index.scores(motion[block], "motion"), index.scores(appearance[block], "appearance")
        for pair in zip(moves, looks, strict=True):
            blended = weight * _standardised(pair[0]) + (1 - weight) * _standardised(pair[1])
            order = _first(blended[places], k)
            scores.append(blended[places][order])
            best.append(allowed[order])
    return Neighbours(np.array(scores, np.float32), np.array(best, np.int64))


def _standardised(scores: Vectors) -> NDArray[np.float64]:
    """Mean 0 and deviation 1; all 0 where they are equal."""
    exact = scores.astype(np.float64)
    deviation = exact.std()
    if deviation <= _NO_SPREAD * np.abs(exact).max():
        return np.zeros_like(exact)
    standard: NDArray[np.float64] = (exact - exact.mean()) / deviation
    return standard


def _first(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Places of the k largest, largest first; of equal ones the lower place first."""
    k = min(k, len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    chosen = np.flatnonzero(scores >= least)
    return chosen[np.argsort(-scores[chosen], kind="stable")][:k]
