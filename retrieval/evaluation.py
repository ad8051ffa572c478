"""How often the nearest clips share a label with the query, when the easy ones are left out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError

Metric = Literal["cosine", "l2"]
METRICS: tuple[Metric, ...] = ("cosine", "l2")
Labels = Sequence[Hashable] | NDArray[np.generic]

_BLOCK_VALUES = 8_000_000


@dataclass(frozen=True)
class PrecisionAtK:
    """Mean precision of the first k places.

    Args:
        value: share of the first k that have the query's label, mean over queries, in [0, 1].
        chance: what a random order of the same candidates reaches in expectation: relevant / candidates, mean over
            queries.
        queries: how many clips were asked.
        skipped: how many were not, for want of k candidates or of a single relevant one.
    """

    value: float
    chance: float
    queries: int
    skipped: int


@dataclass(frozen=True)
class Question:
    """What counts as found, and what is no candidate: N labels each, compared by equality.

    Args:
        relevant: a candidate with the query's label counts as found.
        leave_out: a clip with the query's label is no candidate; None leaves out the clip alone.
    """

    relevant: Labels
    leave_out: Labels | None = None


def precision_at_k(
    vectors: NDArray[np.float32],
    *,
    relevant: Labels,
    leave_out: Labels | None = None,
    k: int = 10,
    metric: Metric = "cosine",
) -> PrecisionAtK:
    """Every clip asks for its k nearest among the others; precision is the share that has its ``relevant`` label.

    The clip itself, and every clip that has its ``leave_out`` label, are no candidates: with the action as ``relevant``
    and the character as ``leave_out`` this measures "same motion, someone else".

    A query with fewer than k candidates, or none that is relevant, cannot be answered and is skipped. One with fewer
    than k relevant candidates is asked: it cannot reach 1, and its chance is low likewise.

    Ties: candidates at the same distance as the k-th count as in a random order of them, in expectation (McSherry and
    Najork, "Computing information retrieval performance measures efficiently in the presence of tied scores", 2008).
    So the result depends neither on the order of the rows nor on a draw: vectors that are all equal score chance.

    The search is exhaustive, in float32, in blocks of queries: beyond ``vectors`` it takes some hundred MB at most.

    Args:
        vectors: (N, D) float32, finite.
        relevant: N labels, compared by equality.
        leave_out: N labels, or None to leave out the clip alone.
        k: places counted.
        metric: "cosine" (a zero vector is at similarity 0 to all) or "l2" (Euclidean distance).

    Raises:
        RetrievalError: lengths disagree, k < 1, unknown metric, values not finite, or no query could be asked.
    """
    return precisions_at_k(vectors, {"relevant": Question(relevant, leave_out)}, k=k, metric=metric)["relevant"]


def precisions_at_k(
    vectors: NDArray[np.float32],
    questions: Mapping[str, Question],
    *,
    k: int = 10,
    metric: Metric = "cosine",
) -> dict[str, PrecisionAtK]:
    """:func:`precision_at_k` of several questions at the price of one: the distances are computed once.

    Raises:
        RetrievalError: as there; the message names the question.
    """
    if vectors.ndim != 2:
        raise RetrievalError(f"vectors of shape {vectors.shape}: (clips, dimensions) expected")
    if k < 1:
        raise RetrievalError(f"k = {k}: at least 1 expected")
    if metric not in METRICS:
        raise RetrievalError(f"metric {metric!r}: one of {', '.join(METRICS)} expected")
    count = len(vectors)
    tallies = {name: _Tally(name, question, count, k) for name, question in questions.items()}
    prepared = _Prepared(vectors, metric)
    rows_a_block = max(1, _BLOCK_VALUES // max(count, vectors.shape[1], 1))
    for start in range(0, count, rows_a_block):
        block = slice(start, min(start + rows_a_block, count))
        scores = prepared.scores(block)
        for tally in tallies.values():
            tally.add(block, scores)
    return {name: tally.result() for name, tally in tallies.items()}


def best_mean_precision(questions: Mapping[str, Question], *, k: int = 10) -> float:
    """The most that any one ranking can reach on the mean precision at k of several questions.

    Clips that share more of the query's labels first: no other order has more of them in the first k places. Where no
    k clips share all of them, it is below 1, however good the vectors.

    Args:
        questions: what is asked of the same ranking; all leave out the same clips.
        k: places counted.

    Raises:
        RetrievalError: as :func:`precisions_at_k`.
    """
    codes = [_codes(name, question.relevant, len(question.relevant)) for name, question in questions.items()]
    shared = np.concatenate([np.eye(code.max() + 1, dtype=np.float32)[code] for code in codes], axis=1)
    found = precisions_at_k(shared, questions, k=k)
    return sum(each.value for each in found.values()) / len(found)


class _Tally:
    """Precision and chance of one question, gathered block by block."""

    def __init__(self, name: str, question: Question, count: int, k: int) -> None:
        self.name, self.count, self.k = name, count, k
        self.wanted = _codes(f"{name}: relevant", question.relevant, count)
        left_out = question.leave_out
        self.groups = np.arange(count) if left_out is None else _codes(f"{name}: leave_out", left_out, count)
        self.precisions: list[NDArray[np.float64]] = []
        self.chances: list[NDArray[np.float64]] = []

    def add(self, block: slice, scores: NDArray[np.float32]) -> None:
        """Score the queries of a block by their (queries, N) similarities to all clips."""
        candidates = self.groups[block, None] != self.groups[None, :]
        hits = candidates & (self.wanted[block, None] == self.wanted[None, :])
        asked = (candidates.sum(1) >= self.k) & hits.any(1)
        if asked.any():
            allowed = np.where(candidates[asked], scores[asked], -np.inf)
            self.precisions.append(_expected_precision(allowed, hits[asked], self.k))
            self.chances.append(hits[asked].sum(1) / candidates[asked].sum(1))

    def result(self) -> PrecisionAtK:
        """Means over the queries that could be asked."""
        if not self.precisions:
            raise RetrievalError(
                f"none of {self.count} clips can be asked for {self.name}: a query needs {self.k} candidates, one of "
                "them with its label, once those that share the left-out label are gone; use more clips or a smaller k"
            )
        precisions = np.concatenate(self.precisions)
        return PrecisionAtK(
            value=float(precisions.mean()),
            chance=float(np.concatenate(self.chances).mean()),
            queries=len(precisions),
            skipped=self.count - len(precisions),
        )


def _expected_precision(scores: NDArray[np.float32], hits: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Precision of the k highest of each row (Q, N), mean over all orders of the candidates tied at the k-th place."""
    kth = np.partition(scores, -k, axis=1)[:, -k, None]
    above, tied = scores > kth, scores == kth
    places_left = k - above.sum(1)
    share = (tied & hits).sum(1) / tied.sum(1)
    mean: NDArray[np.float64] = ((above & hits).sum(1) + places_left * share) / k
    return mean


class _Prepared:
    """Vectors with their norms, so that scores (larger is nearer) come in blocks without a second copy of them."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric) -> None:
        self.vectors = np.asarray(vectors, dtype=np.float32)
        self.metric = metric
        # Summed in float64, or the norms of rows of 100,000 pixels would blur the order of near neighbours.
        squares = np.einsum("nd,nd->n", self.vectors, self.vectors, dtype=np.float64, casting="safe")
        if not np.isfinite(squares).all() or (squares > np.finfo(np.float32).max).any():
            raise RetrievalError(
                "vectors hold NaN, infinity or squares beyond float32: finite, moderate values expected"
            )
        norms = np.sqrt(squares)
        self.squares = squares.astype(np.float32)
        self.scales = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0).astype(np.float32)

    def scores(self, block: slice) -> NDArray[np.float32]:
        """(rows of the block, N): cosine similarity, or the squared distance negated."""
        products: NDArray[np.float32] = self.vectors[block] @ self.vectors.T
        if self.metric == "cosine":
            products *= self.scales[block, None]
            products *= self.scales[None, :]
        else:
            products *= 2
            products -= self.squares[None, :]  # the query's own square is the same for all and moves no rank
        return products


def _codes(name: str, labels: Labels, count: int) -> NDArray[np.int64]:
    """Labels as small integers, equal where the labels are equal."""
    if len(labels) != count:
        raise RetrievalError(f"{name} has {len(labels)} labels for {count} vectors: one each expected")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.int64)
