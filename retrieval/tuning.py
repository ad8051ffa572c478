"""How much effort a structure needs to find enough: measured on queries that it does not hold, by exact search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import Neighbours, nearest_rows, rescored
from kineme.retrieval.kinds import FAR_PLACES
from kineme.retrieval.segments import Rows
from kineme.retrieval.vectors import Vectors

_MOST_QUERIES = 1000
_PART_ASKED = 40
_DEVIATIONS = 2


@dataclass(frozen=True)
class Recall:
    """What part of the exactly nearest is found, in the mean of some queries.

    Attributes:
        value: in [0, 1].
        error: standard error of the mean, by the spread of the queries.
        queries: how many.
    """

    value: float
    error: float
    queries: int

    def reaches(self, level: float) -> bool:
        """Whether recall is at least ``level`` on other queries, too: two standard errors below the mean still are.

        By the mean alone every second index that is tuned to just reach the level would miss it.
        """
        return self.value - _DEVIATIONS * self.error >= level


@dataclass(frozen=True)
class HeldOut:
    """Vectors of an index that ask for their nearest, and are not among the ones that may answer.

    A structure is tuned before it gets them. Asked for what it holds, a graph begins beside the answer, and lists have
    a centroid that was drawn towards it.

    Attributes:
        rows: ascending numbers of those that ask: one in forty, at most 1000, drawn evenly with a fixed seed; so
            few that a graph finds no less once they are in it.
        others: ascending numbers of the rest.
        queries: (Q, D) float32, the vectors that ask.
        vectors: (N, D) float32, all of them.
        metric: "cosine" or "l2".
        nearest: (Q, 100) float32, scores of the hundred nearest of each, best first.
    """

    rows: Rows
    others: Rows
    queries: Vectors
    vectors: Vectors
    metric: Metric
    nearest: Vectors

    def recall(self, rows: Rows) -> Recall:
        """Of what was found for each query, (Q, k) row numbers, -1 for none, k at most 100.

        Found is what is no farther than the last of the k nearest: which of equals are found is the same.
        """
        k = rows.shape[1]
        near = rescored(self.queries, self.vectors, rows, k, self.metric)
        parts = (near.scores >= self.nearest[:, k - 1 : k]).mean(axis=1)
        return Recall(float(parts.mean()), float(parts.std() / len(parts) ** 0.5), len(parts))


@dataclass(frozen=True)
class Tuned:
    """The least effort that finds enough, or the most there is, and what it finds."""

    effort: int
    recall: Recall


def hold_out(vectors: Vectors, metric: Metric) -> HeldOut:
    """Choose rows that ask and find their nearest exactly.

    Args:
        vectors: (N, D) float32, N at least 1000, of length 1 where the metric is cosine; may be memory-mapped.
        metric: "cosine" or "l2".
    """
    asked = min(_MOST_QUERIES, len(vectors) // _PART_ASKED)
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), asked, replace=False))
    others = np.setdiff1d(np.arange(len(vectors)), rows, assume_unique=True)
    queries = np.ascontiguousarray(vectors[rows])
    near = nearest_rows(queries, vectors, FAR_PLACES, metric, allowed=others)
    # Once more by the function that scores what structures find: others round otherwise, and equals must compare equal.
    near = rescored(queries, vectors, near.rows, FAR_PLACES, metric)
    return HeldOut(rows, others, queries, vectors, metric, near.scores)


def tune(search: Callable[[int], Neighbours], efforts: Sequence[int], asked: HeldOut, level: float) -> Tuned:
    """The least effort whose recall reaches ``level``; the last one if none does.

    Efforts are doubled until it is reached, then bisected: what the answer costs is a few times its own effort, however
    long the list.

    Args:
        search: effort -> the rows it finds for each of the queries of ``asked``.
        efforts: ascending; recall must not fall along them.
        asked: the queries.
        level: in (0, 1].
    """

    def at(place: int) -> Tuned:
        effort = efforts[place]
        return Tuned(effort, asked.recall(search(effort).rows))

    low, place = -1, 0
    best = at(place)
    while not best.recall.reaches(level):
        if place == len(efforts) - 1:
            return best
        low, place = place, min(2 * place + 1, len(efforts) - 1)
        best = at(place)
    while place - low > 1:
        middle = (low + place) // 2
        tried = at(middle)
        if tried.recall.reaches(level):
            place, best = middle, tried
        else:
            low = middle
    return best
