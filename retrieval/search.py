"""The nearest clips of an index, exactly, among those a filter allows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index, normalised
from kineme.retrieval.metadata import Label
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
    """The k clips nearest to ``vector``: exact, and never fewer than k where k are allowed.

    Args:
        vector: (D,) float32, D as the index has it for ``by``.
        by: the space to search, "motion" or "appearance".
        k: hits wanted; all that are allowed come back where they are fewer.
        where: boolean SQL expression over the metadata columns; only clips for which it is true are candidates.
        exclude: keys that are no candidates, such as the query's own.

    Returns:
        Best first; equal scores in the order of the index.

    Raises:
        RetrievalError: unknown space, k < 1, a vector of another length or not finite, or a bad filter.
    """
    if by not in SPACES:
        raise RetrievalError(f"space {by!r}: one of {', '.join(SPACES)} expected")
    if k < 1:
        raise RetrievalError(f"k = {k}: at least 1 expected")
    query = _checked(index, vector, by)
    allowed = _allowed_rows(index, where, exclude)
    count = min(k, index.count if allowed is None else len(allowed))
    if count == 0:
        return []
    # Flat indexes compare every allowed vector, so that a filter can never leave fewer than it should.
    distances, rows = index.faiss[by].search(query[None], count, params=_only(allowed))
    scores = distances[0] if index.info.metrics[by] == "cosine" else -np.sqrt(np.maximum(distances[0], 0))
    return [
        _hit(index, rank, float(scores[place]), int(rows[0, place]))
        for rank, place in enumerate(np.lexsort((rows[0], -scores)), start=1)
    ]


def _checked(index: Index, vector: NDArray[np.float32], by: Space) -> NDArray[np.float32]:
    expected = index.info.dims[by]
    if vector.shape != (expected,):
        raise RetrievalError(
            f"query vector of shape {vector.shape}: the {by} vectors of {index.folder} have {expected} dimensions; "
            "encode the query with the index's own encoder"
        )
    if not np.isfinite(vector).all():
        raise RetrievalError(f"the {by} vector of the query holds NaN or infinity: the encoder failed on this clip")
    query = np.ascontiguousarray(vector, dtype=np.float32)
    return normalised(query[None])[0] if index.info.metrics[by] == "cosine" else query


def _allowed_rows(index: Index, where: str | None, exclude: Collection[str]) -> NDArray[np.int64] | None:
    """Row numbers that may answer, or None for all of them."""
    excluded = [index.vectors.rows[key] for key in exclude if key in index.vectors.rows]
    if where is None and not excluded:
        return None
    rows = np.arange(index.count) if where is None else index.filter.rows(where)
    return np.setdiff1d(rows, np.array(excluded, dtype=np.int64))


def _only(allowed: NDArray[np.int64] | None) -> Any:
    """faiss search parameters that admit these rows; faiss makes their keyword arguments at run time."""
    parameters: Any = faiss.SearchParameters
    return None if allowed is None else parameters(sel=faiss.IDSelectorBatch(allowed))


def _hit(index: Index, rank: int, score: float, row: int) -> Hit:
    clip = index.clip(row)
    return Hit(rank, score, clip.key, clip.source, clip.start_s, clip.end_s, clip.labels)
