"""The nearest clips of an index among those a filter allows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.exact import without
from kineme.retrieval.index import Index
from kineme.retrieval.metadata import Label
from kineme.retrieval.segments import Rows
from kineme.retrieval.vectors import SPACES, Space


@dataclass(frozen=True)
class Hit:
    """One place of an answer.

    ``rank`` counts from 1. ``score`` is larger for nearer clips: the cosine similarity in [-1, 1], or minus the
    Euclidean distance, as the index records for the space. ``start_s`` and ``end_s`` are a half-open span in seconds of
    ``source``.
    """

    rank: int
    score: float
    key: str
    source: str
    start_s: float
    end_s: float
    labels: dict[str, Label]


def search(
    index: Index,
    vector: NDArray[np.float32],
    *,
    by: Space,
    k: int = 10,
    where: str | None = None,
    exclude: Collection[str] = (),
) -> list[Hit]:
    """The k clips nearest to ``vector``, never fewer where k are allowed.

    Exact wherever there is a filter, and else as exact as the index is: recall is 1 unless it has a structure for the
    space.

    Args:
        vector: (D,) float32, D as the index has it for ``by``.
        by: the space to search, "motion" or "appearance".
        k: hits wanted; all that are allowed come back where they are fewer.
        where: boolean SQL expression over the metadata columns; only clips for which it is true are candidates.
        exclude: keys that are no candidates, such as the query's own.

    Returns:
        Best first; equal scores in the order of the index. Which of those that tie for the last place come is left
        open.

    Raises:
        RetrievalError: unknown space, k < 1, a vector of another length or not finite, or a bad filter.
    """
    if by not in SPACES:
        raise RetrievalError(f"space {by!r}: one of {', '.join(SPACES)} expected")
    if k < 1:
        raise RetrievalError(f"k = {k}: at least 1 expected")
    query = checked(index, vector, by)
    if where is not None:
        near = index.nearest(query[None], by, k, allowed_rows(index, where, exclude))
    else:
        excluded = excluded_rows(index, exclude)
        near = without(index.nearest(query[None], by, k + len(excluded)), excluded, min(k, index.count - len(excluded)))
    return to_hits(index, near.scores[0].tolist(), near.rows[0].tolist())


def allowed_rows(index: Index, where: str | None, exclude: Collection[str]) -> Rows | None:
    """Ascending numbers of the rows that may answer; None for all of them.

    Raises:
        RetrievalError: a bad filter.
    """
    excluded = excluded_rows(index, exclude)
    if where is None and not len(excluded):
        return None
    rows = index.live_rows if where is None else index.filter.rows(where)
    return np.setdiff1d(rows, excluded)


def excluded_rows(index: Index, exclude: Collection[str]) -> Rows:
    """Ascending row numbers of those of the keys that are in the index."""
    return np.array(sorted({index.row_of(key) for key in exclude if index.has(key)}), dtype=np.int64)


def to_hits(index: Index, scores: Sequence[float], rows: Sequence[int]) -> list[Hit]:
    """The hits of these rows, best first."""
    return [
        Hit(rank, score, clip.key, clip.source, clip.start_s, clip.end_s, clip.labels)
        for rank, (score, clip) in enumerate(zip(scores, index.clips(rows), strict=True), start=1)
    ]


def checked(index: Index, vector: NDArray[np.float32], by: Space) -> NDArray[np.float32]:
    """The vector, (D,).

    Raises:
        RetrievalError: it has another length than those of the index, or is not finite.
    """
    expected = index.info.dims[by]
    if vector.shape != (expected,):
        raise RetrievalError(
            f"query vector of shape {vector.shape}: the {by} vectors of {index.folder} have {expected} dimensions; "
            "encode the query with the index's own encoder"
        )
    if not np.isfinite(vector).all():
        raise RetrievalError(f"the {by} vector of the query holds NaN or infinity: the encoder failed on this clip")
    return vector
