"""Keypoint displacement distances and what is made of them, against the same things written out slowly."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineme.retrieval import displacement
from kineme.retrieval.displacement import (
    NearestRow,
    bootstrap_interval,
    displacement_distances,
    linear_r2,
    nearest,
    regression_targets,
    trajectory_distances,
    way_to_oracle,
)
from kineme.retrieval.errors import RetrievalError


def slow_distance(a: np.ndarray, b: np.ndarray, *, interchangeable: bool) -> float:
    """Two clips' keypoints (T, K, 2), one number after the other, every assignment tried."""
    steps, count = len(a) - 1, a.shape[1]
    totals = []
    for order in permutations(range(count)) if interchangeable else [tuple(range(count))]:
        total = 0.0
        for t in range(steps):
            for k in range(count):
                for c in range(2):
                    mine = float(a[t + 1, k, c]) - float(a[t, k, c])
                    other = float(b[t + 1, order[k], c]) - float(b[t, order[k], c])
                    total += abs(mine - other)
        totals.append(total / count)
    return min(totals)


def keypoints(clips: int, points: int, frames: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, clips, points)).normal(20, 8, (clips, frames, points, 2)).astype(np.float32)


@pytest.mark.parametrize("interchangeable", [True, False])
@pytest.mark.parametrize("points", [1, 2, 3, 4, 5])
def test_agrees_with_the_slow_one(points: int, interchangeable: bool) -> None:
    queries, database = keypoints(4, points), keypoints(6, points)
    found = displacement_distances(queries, database, interchangeable=interchangeable)
    expected = [[slow_distance(a, b, interchangeable=interchangeable) for b in database] for a in queries]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_clip_in_numbers() -> None:
    """One point goes 3 to the right and 1 down, the other stays; 4 apart from one that stays: 4 / 2 keypoints."""
    moving = np.array([[[[0, 0], [9, 9]], [[3, 1], [9, 9]]]], np.float32)
    still = np.array([[[[5, 5], [7, 7]], [[5, 5], [7, 7]]]], np.float32)
    swapped = moving[:, :, ::-1]
    assert displacement_distances(moving, still, interchangeable=False) == 2
    assert displacement_distances(moving, swapped, interchangeable=False) == 4
    assert displacement_distances(moving, swapped, interchangeable=True) == 0
    assert trajectory_distances(moving, still, interchangeable=False) == (5 + 5 + 2 + 4 + 2 + 2 + 2 + 2) / 2


tracks = st.integers(1, 5).flatmap(
    lambda points: st.tuples(st.just(points), st.integers(2, 4), st.integers(0, 2**32), st.booleans())
)


@settings(max_examples=40, deadline=None)
@given(tracks)
def test_what_a_distance_owes_to_whom(drawn: tuple[int, int, int, bool]) -> None:
    points, frames, seed, interchangeable = drawn
    clips = keypoints(7, points, frames, seed)
    found = displacement_distances(clips, clips, interchangeable=interchangeable)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-4)
    np.testing.assert_allclose(found, found.T, rtol=1e-4, atol=1e-4)
    assert (found[:, None] <= found[:, :, None] + found[None] + 1e-3).all(), "a way round is shorter"
    order = np.random.default_rng(seed).permutation(points)
    free = displacement_distances(clips, clips, interchangeable=True)
    np.testing.assert_allclose(displacement_distances(clips[:, :, order], clips, interchangeable=True), free, atol=1e-4)
    assert (free <= displacement_distances(clips, clips[:, :, order], interchangeable=False) + 1e-4).all()
    moved = clips + np.float32(5)
    np.testing.assert_allclose(displacement_distances(moved, clips, interchangeable=True), free, atol=1e-3)


def test_one_assignment_holds_for_the_whole_clip() -> None:
    """Two points that change roles in the middle are not two that keep them."""
    right, down = [1.0, 0.0], [0.0, 1.0]
    keep = np.cumsum([[[0, 0], [30, 30]], [right, down], [right, down]], axis=0)[None]
    change = np.cumsum([[[0, 0], [30, 30]], [right, down], [down, right]], axis=0)[None]
    assert displacement_distances(keep, change, interchangeable=True) == 2


@pytest.mark.parametrize("points", [2, 5])
def test_blocks_do_not_show(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, database = keypoints(11, points), keypoints(9, points)
    whole = displacement_distances(queries, database, interchangeable=True)
    monkeypatch.setattr(displacement, "_BLOCK_VALUES", 3 * 9 * points**2)
    np.testing.assert_array_equal(displacement_distances(queries, database, interchangeable=True), whole)


def test_enumerating_and_assigning_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, database = keypoints(5, 4), keypoints(8, 4)
    enumerated = displacement_distances(queries, database, interchangeable=True)
    monkeypatch.setattr(displacement, "_ENUMERATED", 0)
    np.testing.assert_allclose(displacement_distances(queries, database, interchangeable=True), enumerated, rtol=1e-6)


@pytest.mark.parametrize(
    ("queries", "database", "message"),
    [
        (np.zeros((1, 3, 2)), np.zeros((1, 3, 2)), r"\(clips, T, K, 2\) twice"),
        (np.zeros((1, 3, 2, 2)), np.zeros((1, 4, 2, 2)), "twice expected"),
        (np.zeros((1, 3, 0, 2)), np.zeros((1, 3, 0, 2)), "twice expected"),
        (np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2)), "keypoints of 1 frames"),
        (np.zeros((1, 3, 2, 2)), np.full((1, 3, 2, 2), np.nan), "NaN"),
    ],
)
def test_keypoints_that_do_not_fit(queries: np.ndarray, database: np.ndarray, message: str) -> None:
    with pytest.raises(RetrievalError, match=message) as error:
        displacement_distances(queries, database, interchangeable=True)
    assert "\n" not in str(error.value)


def slow_nearest(queries: np.ndarray, database: np.ndarray, metric: str) -> list[int]:
    rows = []
    for query in queries.astype(float):
        scores = []
        for row in database.astype(float):
            norms = np.linalg.norm(query) * np.linalg.norm(row)
            cosine = float(query @ row / norms) if norms > 0 else 0.0
            scores.append(cosine if metric == "cosine" else -float(((query - row) ** 2).sum()))
        rows.append(scores.index(max(scores)))
    return rows


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=2), min_size=1, max_size=6),
    st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=2), min_size=1, max_size=12),
)
def test_the_nearest_row_and_the_lowest_of_equals(queries: list[list[int]], database: list[list[int]]) -> None:
    asked, rows = np.array(queries, np.float32), np.array(database, np.float32)
    assert nearest(asked, rows, "l2").tolist() == slow_nearest(asked, rows, "l2")


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_nearest_row_in_many_dimensions_whatever_the_pieces(metric: str) -> None:
    draw = np.random.default_rng(2)
    queries, database = draw.standard_normal((20, 30)), draw.standard_normal((600, 30))
    queries[3] = 0
    expected = slow_nearest(queries, database, metric)
    assert nearest(queries, database, metric).tolist() == expected
    pieces = NearestRow(queries, metric)
    for piece in np.split(database, [1, 7, 300]):
        pieces.add(piece)
    assert pieces.rows.tolist() == expected


def test_pixels_are_compared_as_they_are() -> None:
    """uint8 must not wrap round: 255 is far from 0, and the product of two bright rows is more than 255."""
    database = np.array([[0, 0, 5], [255, 250, 255]], np.uint8)
    queries = np.array([[255, 255, 255], [0, 0, 1]], np.uint8)
    for metric in ("cosine", "l2"):
        assert nearest(queries, database, metric).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("queries", "database", "metric", "message"),
    [
        (np.ones((1, 2)), np.ones((1, 3)), "cosine", "rows of 2 like the queries"),
        (np.ones((1, 2)), np.ones((0, 2)), "cosine", "at least 1 row"),
        (np.ones((1, 2)), np.full((1, 2), np.inf), "l2", "infinity"),
        (np.full((1, 2), np.nan), np.ones((1, 2)), "l2", "NaN"),
        (np.ones((1, 2)), np.ones((1, 2)), "dot", "one of cosine, l2"),
    ],
)
def test_vectors_that_do_not_fit(queries: np.ndarray, database: np.ndarray, metric, message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        nearest(queries, database, metric)


def test_the_way_to_the_oracle() -> None:
    assert way_to_oracle(60.0, 60.0, 10.0) == 0
    assert way_to_oracle(10.0, 60.0, 10.0) == 1
    assert way_to_oracle(24.0, 60.0, 10.0) == pytest.approx(36 / 50)
    assert way_to_oracle(70.0, 60.0, 10.0) == pytest.approx(-0.2)
    assert way_to_oracle(3.0, 3.0, 3.0) == 0
    np.testing.assert_allclose(way_to_oracle(np.array([1.0, 2.0]), np.array([3.0, 2.0]), np.array([1.0, 2.0])), [1, 0])


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for repeat in range(100):
        low, high = bootstrap_interval(draw.normal(5, 2, 60), seed=repeat)
        covered += low <= 5 <= high
    assert 87 <= covered <= 99
    low, high = bootstrap_interval(draw.normal(5, 2, 10_000))
    assert high - low == pytest.approx(2 * 1.96 * 2 / 100, rel=0.1)


def test_the_interval_of_a_ratio_draws_queries_with_all_their_values() -> None:
    """A distance that is always half way has no spread at all, however hard its queries are."""
    draw = np.random.default_rng(2)
    oracle = draw.uniform(0, 50, 200)
    random = oracle + draw.uniform(1, 50, 200)
    half = (random + oracle) / 2
    low, high = bootstrap_interval(half, random, oracle, statistic=way_to_oracle)
    assert (low, high) == (pytest.approx(0.5), pytest.approx(0.5))
    low, high = bootstrap_interval(draw.permutation(half), random, oracle, statistic=way_to_oracle)
    assert high - low > 0.05


def test_the_interval_depends_on_its_seed_alone() -> None:
    values = np.random.default_rng(3).normal(size=50)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)
    with pytest.raises(RetrievalError, match="1 queries give no interval"):
        bootstrap_interval(values[:1])


def test_targets_of_interchangeable_keypoints_do_not_know_their_order() -> None:
    clips = keypoints(5, 3)
    order = [2, 0, 1]
    targets = regression_targets(clips, interchangeable=True)
    assert targets.shape == (5, 4 * 3 * 2)
    np.testing.assert_array_equal(regression_targets(clips[:, :, order], interchangeable=True), targets)
    assert (regression_targets(clips[:, :, order], interchangeable=False) != clips.reshape(5, -1)).any()
    np.testing.assert_allclose(
        targets.reshape(5, 4, 3, 2).mean(axis=2), clips.mean(axis=2), rtol=1e-6, err_msg="the mean is kept"
    )


def test_r2_of_what_is_there_and_of_what_is_not() -> None:
    draw = np.random.default_rng(5)
    x = draw.normal(3, 10, (400, 6)).astype(np.float32)
    linear = x @ draw.normal(size=(6, 4))
    noise = draw.normal(size=(400, 4)) * linear.std(axis=0)
    assert linear_r2(x[:300], linear[:300], x[300:], linear[300:]) == pytest.approx(1, abs=1e-4)
    assert linear_r2(x[:300], noise[:300], x[300:], noise[300:]) == pytest.approx(0, abs=0.05)
    half = linear + noise
    assert linear_r2(x[:300], half[:300], x[300:], half[300:]) == pytest.approx(0.5, abs=0.1)


def test_r2_weighs_targets_by_their_variance() -> None:
    draw = np.random.default_rng(6)
    x = draw.normal(size=(400, 3))
    known, unknown = 10 * x[:, :1], draw.normal(size=(400, 1))
    y = np.concatenate([known, unknown], axis=1)
    share = known[300:].var() / (known[300:].var() + unknown[300:].var())
    assert linear_r2(x[:300], y[:300], x[300:], y[300:]) == pytest.approx(share, abs=0.01)
