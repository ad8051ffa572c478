"""How alike two clips move, by the true places of their keypoints, and how well neighbours found otherwise do at it.

The measure is the average keypoint displacement distance of the thesis (7.5.2, table 7.1). Keypoints are (N, T, K, 2),
K points in T frames of N clips, x before y, in pixels.

Keypoints of which none is the first, such as those of two digits, are interchangeable: two clips are then compared
under the assignment of one's keypoints to the other's that suits them best, one assignment for the whole clip.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import METRICS, Metric
from kineme.retrieval.vectors import Vectors, normalised

Tracks = NDArray[np.floating]
"""(N, S, K, 2): places in, or displacements between, the frames of N clips, in pixels."""

_ENUMERATED = 4
_BLOCK_VALUES = 4_000_000
_BLOCK_ROWS = 256
_RESAMPLES = 2000
_RESAMPLES_AT_ONCE = 100


def displacement_distances(queries: Tracks, database: Tracks, *, interchangeable: bool) -> Vectors:
    """How differently the keypoints of two clips move, wherever they are.

    A displacement is a keypoint's way from one frame to the next. The distance of two clips is the sum of the absolute
    differences of their displacements over the T - 1 steps and both coordinates, the mean over the K keypoints.

    Args:
        queries: keypoints (Q, T, K, 2), pixels.
        database: keypoints (N, T, K, 2).
        interchangeable: whether keypoints may be assigned to one another at will.

    Returns:
        (Q, N) float32, pixels a keypoint.

    Raises:
        RetrievalError: shapes that do not fit, fewer than two frames, or values that are not finite.
    """
    _check(queries, database, frames=2)
    return _distances(np.diff(queries, axis=1), np.diff(database, axis=1), interchangeable)


def trajectory_distances(queries: Tracks, database: Tracks, *, interchangeable: bool) -> Vectors:
    """The same of the keypoints' places instead of their displacements: near are clips that move alike in one place.

    Raises:
        RetrievalError: shapes that do not fit, or values that are not finite.
    """
    _check(queries, database, frames=1)
    return _distances(queries, database, interchangeable)


def _check(queries: Tracks, database: Tracks, frames: int) -> None:
    if queries.ndim != 4 or queries.shape[-1] != 2 or queries.shape[1:] != database.shape[1:] or not queries.shape[2]:
        raise RetrievalError(f"keypoints are {queries.shape} and {database.shape}: (clips, T, K, 2) twice expected")
    if queries.shape[1] < frames:
        raise RetrievalError(f"keypoints of {queries.shape[1]} frames: displacements need {frames} or more")
    if not (np.isfinite(queries).all() and np.isfinite(database).all()):
        raise RetrievalError("keypoints hold NaN or infinity: every keypoint needs a place in every frame")


def _distances(queries: Tracks, database: Tracks, interchangeable: bool) -> Vectors:
    keypoints = queries.shape[2]
    distances = np.empty((len(queries), len(database)), np.float32)
    rows = max(1, _BLOCK_VALUES // (keypoints**2 * max(1, len(database))))
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        if not interchangeable:
            best = _sums(queries[block], database)
        elif keypoints <= _ENUMERATED:
            costs = _costs(queries[block], database)
            orders = permutations(range(keypoints))
            best = np.min([costs[np.arange(keypoints), order].sum(axis=0) for order in orders], axis=0)
        else:
            best = _assigned(_costs(queries[block], database))
        distances[block] = best / keypoints
    return distances


def _sums(queries: Tracks, database: Tracks) -> NDArray[np.float64]:
    """(Q, ...) and (N, ...) -> (Q, N), sums of absolute differences."""
    from scipy.spatial.distance import cdist

    sums: NDArray[np.float64] = cdist(
        queries.reshape(len(queries), -1), database.reshape(len(database), -1), "cityblock"
    )
    return sums


def _costs(queries: Tracks, database: Tracks) -> NDArray[np.float64]:
    """(K, K, Q, N): what it costs to take keypoint m of a clip of the database for keypoint k of a query."""
    numbers = range(queries.shape[2])
    return np.array([[_sums(queries[:, :, k], database[:, :, m]) for m in numbers] for k in numbers])


def _assigned(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs of the best assignments, (Q, N); some microseconds a pair."""
    from scipy.optimize import linear_sum_assignment

    pairs = np.moveaxis(costs, (0, 1), (2, 3))
    best = [pair[linear_sum_assignment(pair)].sum() for row in pairs for pair in row]
    return np.array(best).reshape(pairs.shape[:2])


class NearestRow:
    """The nearest row of a database that comes in pieces, for each query: no more than a piece is held.

    Args:
        queries: (Q, D), of any number type.
        metric: "cosine" (a zero vector is at similarity 0 to all) or "l2" (Euclidean distance).
    """

    def __init__(self, queries: NDArray[np.number], metric: Metric = "cosine") -> None:
        if metric not in METRICS:
            raise RetrievalError(f"metric {metric!r}: one of {', '.join(METRICS)} expected")
        self._metric = metric
        self._queries = self._prepared(queries)
        self._scores = np.full(len(queries), -np.inf, np.float32)
        self._seen = 0
        self.rows = np.zeros(len(queries), np.int64)
        """(Q,) the nearest so far, counted through all pieces. Of rows that are equally near, the lowest."""

    def add(self, vectors: NDArray[np.number]) -> None:
        """Compare with the next rows of the database, (M, D).

        Raises:
            RetrievalError: they have another length than the queries, or values that are not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._queries.shape[1]:
            raise RetrievalError(
                f"vectors of shape {vectors.shape}: rows of {self._queries.shape[1]} like the queries expected"
            )
        for start in range(0, len(vectors), _BLOCK_ROWS):
            self._add(self._prepared(vectors[start : start + _BLOCK_ROWS]))

    def _prepared(self, vectors: NDArray[np.number]) -> Vectors:
        exact = np.asarray(vectors, np.float32)
        if not np.isfinite(exact).all():
            raise RetrievalError("vectors hold NaN or infinity: the encoder failed on a clip")
        return normalised(exact) if self._metric == "cosine" else exact

    def _add(self, block: Vectors) -> None:
        scores = self._queries @ block.T
        if self._metric == "l2":
            # The query's own square is the same for all rows and moves none.
            scores = 2 * scores - np.einsum("nd,nd->n", block, block)
        nearest = scores.argmax(axis=1)
        best = scores[np.arange(len(nearest)), nearest]
        nearer = best > self._scores
        self.rows[nearer] = self._seen + nearest[nearer]
        self._scores[nearer] = best[nearer]
        self._seen += len(block)


def nearest(
    query_vectors: NDArray[np.number], database_vectors: NDArray[np.number], metric: Metric = "cosine"
) -> NDArray[np.int64]:
    """(Q, D) and (N, D) -> (Q,) the number of each query's nearest row; of rows that are equally near, the lowest.

    Raises:
        RetrievalError: an empty database, another number of dimensions, values not finite, or an unknown metric.
    """
    if not len(database_vectors):
        raise RetrievalError("no vectors to search: a database of at least 1 row is needed")
    found = NearestRow(query_vectors, metric)
    found.add(database_vectors)
    return found.rows


def way_to_oracle(
    distance: float | NDArray[np.float64], random: float | NDArray[np.float64], oracle: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far ``distance`` gets from a random neighbour's (0) to the best there is (1); negative: worse than random.

    (random - distance) / (random - oracle); 0 where those two are equal and there is no way to go.
    """
    gap = np.asarray(random, np.float64) - oracle
    return np.divide(random - np.asarray(distance, np.float64), gap, out=np.zeros_like(gap), where=gap != 0)


def bootstrap_interval(
    *values: NDArray[np.floating], statistic: Callable[..., NDArray[np.float64]] | None = None, seed: int = 0
) -> tuple[float, float]:
    """The 95% interval of a statistic of means over queries, by the percentiles of 2000 bootstrap resamples.

    Queries are drawn, with all their values: ``bootstrap_interval(distance, random, oracle, statistic=way_to_oracle)``
    knows that a query which is hard for one is hard for all.

    Args:
        values: (Q,) each, one value a query.
        statistic: of the means of ``values``, elementwise; the mean itself, of one ``values``, if not given.
        seed: decides the draws.

    Raises:
        RetrievalError: fewer than two queries.
    """
    from scipy.stats import bootstrap

    if len(values[0]) < 2:
        raise RetrievalError(f"{len(values[0])} queries give no interval: 2 or more are needed")

    def of_means(*resampled: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        means = [sample.mean(axis=axis) for sample in resampled]
        return means[0] if statistic is None else statistic(*means)

    found = bootstrap(
        [np.asarray(value, np.float64) for value in values],
        of_means,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        rng=seed,
    ).confidence_interval
    return float(found.low), float(found.high)


def regression_targets(tracks: Tracks, *, interchangeable: bool) -> NDArray[np.float64]:
    """(N, S, K, 2) -> (N, S * K * 2), what :func:`linear_r2` is to find in a vector.

    Interchangeable keypoints have no first: every coordinate of every frame is sorted over them by itself, so that the
    targets of two digits are the smaller and the larger x, the smaller and the larger y. That is the same whatever the
    order of the keypoints, is continuous in their places, and holds their mean; which x goes with which y, and with
    which x of the next frame, is lost.
    """
    ordered = np.sort(tracks, axis=2) if interchangeable else tracks
    return np.asarray(ordered, np.float64).reshape(len(tracks), -1)


def linear_r2(
    train_x: NDArray[np.floating],
    train_y: NDArray[np.floating],
    test_x: NDArray[np.floating],
    test_y: NDArray[np.floating],
) -> float:
    """Share of the variance of ``test_y`` that ridge regression from vectors explains; 1 at best, 0 as the mean does.

    Vectors are standardised, the penalty is chosen on the training rows by leaving one out. The squared errors of all
    targets are added up before they are divided by their variances' sum.

    Args:
        train_x: (N, D) vectors.
        train_y: (N, M) targets.
        test_x: (Q, D).
        test_y: (Q, M).
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 6, 9)))
    model.fit(np.asarray(train_x, np.float64), train_y)
    return float(r2_score(test_y, model.predict(np.asarray(test_x, np.float64)), multioutput="variance_weighted"))
