"""Where in which video: hits of one video that touch are one span, and the windows of a long query ask together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.blending import EVEN, By, nearest_by
from kineme.retrieval.exact import Neighbours
from kineme.retrieval.index import Index
from kineme.retrieval.search import Hit, allowed_rows, to_hits
from kineme.retrieval.vectors import Space, Vectors

Part = tuple[float, float]
"""First second of a part of the query's video, and first second after it."""

TOUCHING_S = 1e-3
"""Spans this near to one another touch: a clip's end and the next one's start are rounded by themselves."""

# Windows may not find more than this part of the clips: what is found everywhere is one span, and tells nothing.
_FOUND_PART = 4


@dataclass(frozen=True)
class Span:
    """A part of a video that answers.

    Attributes:
        rank: counts from 1.
        score: that of the best hit in it, larger for nearer ones.
        source: the video.
        start_s: its first second, half-open like that of a hit.
        end_s: first second after it.
        keys: clips in it that were hits, in order of time.
        query_start_s: first second of the query's windows that found it; None where the query has no time of its own.
        query_end_s: first second after them, likewise.
    """

    rank: int
    score: float
    source: str
    start_s: float
    end_s: float
    keys: list[str]
    query_start_s: float | None
    query_end_s: float | None


class WindowAnswer(NamedTuple):
    """What a query of several windows found, best first: the clips nearest to any of them, and spans of videos."""

    hits: list[Hit]
    spans: list[Span]


def merge_hits(hits: Sequence[Hit], parts: Sequence[Part | None] | None = None) -> list[Span]:
    """Join hits whose spans overlap or touch in one video; every hit is in exactly one span.

    Videos of one name are told apart by what their clips' keys begin with, up to the last hyphen.

    Args:
        hits: best first, as a search gives them; keys may come more than once.
        parts: of the query, for each hit: what found it. None: the query has no time.

    Returns:
        Best first; of equal scores the one whose hit comes first.
    """
    numbered = sorted(range(len(hits)), key=lambda number: (_video(hits[number]), hits[number].start_s, number))
    found = []
    for _, members in groupby(numbered, key=lambda number: _video(hits[number])):
        together: list[int] = []
        end_s = 0.0
        for number in members:
            if together and hits[number].start_s > end_s + TOUCHING_S:
                found.append(together)
                together = []
            end_s = max(end_s, hits[number].end_s) if together else hits[number].end_s
            together.append(number)
        found.append(together)
    found.sort(key=lambda together: min((-hits[number].score, number) for number in together))
    return [
        _span(rank, [hits[number] for number in together], [parts[number] if parts else None for number in together])
        for rank, together in enumerate(found, start=1)
    ]


def search_windows(
    index: Index,
    vectors: Mapping[Space, Vectors],
    parts: Sequence[Part] | None,
    *,
    by: By,
    weight: float = EVEN,
    k: int = 10,
    where: str | None = None,
    exclude: Collection[str] = (),
) -> WindowAnswer:
    """The k clips, and the k spans of videos, nearest to a query of W windows, each of which asks for its k nearest.

    For spans it asks for fewer, down to one, where all of them together would find more than a quarter of the clips
    that are allowed: so many lie side by side whatever was asked, and would be one span.

    Args:
        vectors: (W, D) of each space that ``by`` needs, a row a window; W >= 1.
        parts: of the query, for each window. None: the query has no time.
        by, weight, k, where, exclude: as of `kineme.retrieval.blending.search_by`.

    Raises:
        RetrievalError: as of `kineme.retrieval.blending.search_both`.
    """
    rows = allowed_rows(index, where, exclude)
    allowed = index.count if rows is None else len(rows)
    near = nearest_by(index, vectors, by=by, weight=weight, k=k, rows=rows)
    nearest, _ = _hits_of(index, near)
    hits, windows = _hits_of(index, _thinned(near, allowed // _FOUND_PART))
    asked = None if parts is None else [_hull([parts[window] for window in finders]) for finders in windows]
    spans = merge_hits(hits, asked)[:k]
    return WindowAnswer(nearest[:k], spans)


def _thinned(near: Neighbours, most: int) -> Neighbours:
    """The first columns, at least one, as many as hold no more than ``most`` different rows."""
    _, places = np.unique(near.rows.T, return_index=True)
    columns = np.sort(places // max(len(near.rows), 1))
    widths = np.arange(1, near.rows.shape[1] + 1)
    width = max(1, int((np.searchsorted(columns, widths) <= most).sum()))
    return Neighbours(near.scores[:, :width], near.rows[:, :width])


def _hits_of(index: Index, near: Neighbours) -> tuple[list[Hit], list[NDArray[np.int64]]]:
    """Each row that was found once, by its best score, best first; and which queries found it."""
    rows, places = np.unique(near.rows, return_inverse=True)
    places = places.ravel()
    scores = np.full(len(rows), -np.inf, np.float32)
    np.maximum.at(scores, places, near.scores.ravel())
    order = np.argsort(places, kind="stable")
    queries = np.repeat(np.arange(len(near.rows)), near.rows.shape[1])[order]
    finders = np.split(queries, np.searchsorted(places[order], np.arange(1, len(rows))))
    best = np.lexsort((rows, -scores))
    return to_hits(index, scores[best].tolist(), rows[best].tolist()), [finders[place] for place in best]


def _span(rank: int, hits: Sequence[Hit], parts: Sequence[Part | None]) -> Span:
    known = [part for part in parts if part is not None]
    query_start_s, query_end_s = _hull(known) if known else (None, None)
    return Span(
        rank,
        max(hit.score for hit in hits),
        hits[0].source,
        min(hit.start_s for hit in hits),
        max(hit.end_s for hit in hits),
        list(dict.fromkeys(hit.key for hit in hits)),
        query_start_s,
        query_end_s,
    )


def _hull(parts: Sequence[Part]) -> Part:
    return min(start_s for start_s, _ in parts), max(end_s for _, end_s in parts)


def _video(hit: Hit) -> tuple[str, str]:
    return hit.source, hit.key.rpartition("-")[0]
