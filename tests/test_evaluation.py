"""Precision at k against the same thing written out slowly."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineme.retrieval import evaluation
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import PrecisionAtK, Question, best_mean_precision, precision_at_k, precisions_at_k


def slow(vectors: np.ndarray, relevant, leave_out, k: int, metric: str) -> PrecisionAtK | None:
    """One query, one candidate at a time; ties at the k-th place shared out as exact fractions."""
    count = len(vectors)
    values, chances = [], []
    for query in range(count):
        ranking = []
        for other in range(count):
            if other == query or (leave_out is not None and leave_out[other] == leave_out[query]):
                continue
            a, b = vectors[query].astype(float), vectors[other].astype(float)
            if metric == "l2":
                score = -float(((a - b) ** 2).sum())
            else:
                norms = np.linalg.norm(a) * np.linalg.norm(b)
                score = float(a @ b / norms) if norms > 0 else 0.0
            ranking.append((score, relevant[other] == relevant[query]))
        hits = sum(hit for _, hit in ranking)
        if len(ranking) < k or not hits:
            continue
        kth = sorted((score for score, _ in ranking), reverse=True)[k - 1]
        above = [hit for score, hit in ranking if score > kth]
        tied = [hit for score, hit in ranking if score == kth]
        values.append((sum(above) + (k - len(above)) * Fraction(sum(tied), len(tied))) / k)
        chances.append(Fraction(hits, len(ranking)))
    if not values:
        return None
    return PrecisionAtK(
        float(sum(values) / len(values)), float(sum(chances) / len(chances)), len(values), count - len(values)
    )


def assert_same(fast: PrecisionAtK, expected: PrecisionAtK) -> None:
    assert fast.value == pytest.approx(expected.value, abs=1e-9)
    assert fast.chance == pytest.approx(expected.chance, abs=1e-9)
    assert (fast.queries, fast.skipped) == (expected.queries, expected.skipped)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[str], list[int] | None, int]:
    """Whole numbers in few dimensions: many ties, and every squared distance exact in float32."""
    count = draw(st.integers(2, 14))
    rows = draw(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=count, max_size=count))
    relevant = draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    leave_out = draw(st.none() | st.lists(st.integers(0, 4), min_size=count, max_size=count))
    return np.array(rows, dtype=np.float32), relevant, leave_out, draw(st.integers(1, 6))


@settings(max_examples=80, deadline=None)
@given(problems())
def test_agrees_with_the_slow_one_ties_and_all(problem: tuple) -> None:
    vectors, relevant, leave_out, k = problem
    expected = slow(vectors, relevant, leave_out, k, "l2")
    if expected is None:
        with pytest.raises(RetrievalError, match="none of"):
            precision_at_k(vectors, relevant=relevant, leave_out=leave_out, k=k, metric="l2")
    else:
        assert_same(precision_at_k(vectors, relevant=relevant, leave_out=leave_out, k=k, metric="l2"), expected)


@settings(max_examples=30, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(problem: tuple, random) -> None:
    vectors, relevant, leave_out, k = problem
    order = list(range(len(vectors)))
    random.shuffle(order)
    if slow(vectors, relevant, leave_out, k, "l2") is None:
        return
    moved = precision_at_k(
        vectors[order],
        relevant=[relevant[row] for row in order],
        leave_out=None if leave_out is None else [leave_out[row] for row in order],
        k=k,
        metric="l2",
    )
    assert_same(moved, precision_at_k(vectors, relevant=relevant, leave_out=leave_out, k=k, metric="l2"))


@settings(max_examples=30, deadline=None)
@given(problems())
def test_bounds(problem: tuple) -> None:
    vectors, relevant, leave_out, k = problem
    if slow(vectors, relevant, leave_out, k, "cosine") is None:
        return
    result = precision_at_k(vectors, relevant=relevant, leave_out=leave_out, k=k)
    assert 0 <= result.value <= 1
    assert 0 < result.chance <= 1
    assert result.queries + result.skipped == len(vectors)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("with_leave_out", [False, True])
def test_agrees_with_the_slow_one_on_many_dimensions(metric: str, with_leave_out: bool) -> None:
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((60, 40)).astype(np.float32)
    relevant = draw.integers(0, 4, 60)
    leave_out = draw.integers(0, 9, 60) if with_leave_out else None
    fast = precision_at_k(vectors, relevant=relevant, leave_out=leave_out, k=5, metric=metric)
    assert_same(fast, slow(vectors, relevant, leave_out, 5, metric))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(4)
    vectors = draw.integers(-5, 6, (50, 3)).astype(np.float32)
    relevant = draw.integers(0, 3, 50)
    whole = precision_at_k(vectors, relevant=relevant, k=4, metric="l2")
    monkeypatch.setattr(evaluation, "_BLOCK_VALUES", 7 * 50)
    assert_same(precision_at_k(vectors, relevant=relevant, k=4, metric="l2"), whole)


def test_several_questions_at_once_are_the_same_as_one_by_one() -> None:
    draw = np.random.default_rng(8)
    vectors = draw.standard_normal((70, 4)).astype(np.float32)
    action, hair = draw.integers(0, 3, 70), draw.integers(0, 5, 70)
    both = precisions_at_k(vectors, {"action": Question(action, hair), "hair": Question(hair)}, k=4)
    assert both["action"] == precision_at_k(vectors, relevant=action, leave_out=hair, k=4)
    assert both["hair"] == precision_at_k(vectors, relevant=hair, k=4)
    with pytest.raises(RetrievalError, match="can be asked for nothing"):
        precisions_at_k(vectors, {"action": Question(action), "nothing": Question(np.arange(70))})


def test_vectors_that_say_nothing_score_chance() -> None:
    relevant = np.repeat([0, 1, 2], 20)
    result = precision_at_k(np.ones((60, 8), np.float32), relevant=relevant, k=10)
    assert result.value == pytest.approx(result.chance)
    assert result.chance == pytest.approx(19 / 59)
    zeros = precision_at_k(np.zeros((60, 8), np.float32), relevant=relevant, k=10)
    assert zeros.value == pytest.approx(zeros.chance)


def test_random_vectors_score_chance() -> None:
    draw = np.random.default_rng(5)
    relevant = draw.integers(0, 4, 800)
    result = precision_at_k(draw.standard_normal((800, 16)).astype(np.float32), relevant=relevant, k=10)
    assert result.value == pytest.approx(result.chance, abs=0.02)


def test_same_motion_someone_else() -> None:
    """Vectors hold the action weakly, the character strongly: only leaving out the character finds the action."""
    action, character = np.divmod(np.arange(40), 10)
    vectors = np.concatenate([np.eye(4)[action], 3 * np.eye(10)[character]], axis=1).astype(np.float32)
    alone = precision_at_k(vectors, relevant=action, k=3)
    others = precision_at_k(vectors, relevant=action, leave_out=character, k=3)
    assert alone.value == 0
    assert others.value == 1
    assert others.chance == pytest.approx(9 / 36)


def test_labels_may_be_text_numbers_or_pairs() -> None:
    vectors = np.array([[0.0], [0.1], [5.0], [5.1]], dtype=np.float32)
    for labels in (["a", "a", "b", "b"], np.array([1.5, 1.5, 2, 2]), [(1, 2), (1, 2), (3, "x"), (3, "x")]):
        assert precision_at_k(vectors, relevant=labels, k=1, metric="l2").value == 1


def test_the_scale_of_a_vector_matters_to_l2_only() -> None:
    draw = np.random.default_rng(6)
    vectors = draw.standard_normal((40, 6)).astype(np.float32)
    scaled = vectors * draw.uniform(0.5, 20, (40, 1)).astype(np.float32)
    relevant = draw.integers(0, 3, 40)
    cosine = precision_at_k(vectors, relevant=relevant, k=3)
    assert_same(precision_at_k(scaled, relevant=relevant, k=3), cosine)
    assert precision_at_k(scaled, relevant=relevant, k=3, metric="l2") != cosine


def test_queries_that_cannot_be_answered_are_counted() -> None:
    vectors = np.arange(5, dtype=np.float32)[:, None]
    result = precision_at_k(vectors, relevant=["a", "a", "a", "a", "alone"], k=2, metric="l2")
    assert (result.queries, result.skipped) == (4, 1)


def test_raw_pixels_of_wide_rows() -> None:
    """Bright frames, small differences: the order must survive float32 in 100,000 dimensions."""
    draw = np.random.default_rng(7)
    prototypes = draw.integers(100, 256, (3, 98_304))
    relevant = np.arange(12) % 3
    vectors = np.clip(prototypes[relevant] + draw.integers(-30, 31, (12, 98_304)), 0, 255).astype(np.float32)
    for metric in ("cosine", "l2"):
        assert precision_at_k(vectors, relevant=relevant, k=3, metric=metric).value == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k = 0: at least 1"),
        ({"metric": "dot"}, "one of cosine, l2"),
        ({"relevant": ["a"]}, "relevant has 1 labels for 3 vectors"),
        ({"leave_out": ["a"] * 4}, "leave_out has 4 labels for 3 vectors"),
        ({"vectors": np.ones(3, np.float32)}, r"shape \(3,\)"),
        ({"vectors": np.full((3, 2), np.nan, np.float32)}, "NaN"),
        ({"vectors": np.full((3, 2), 1e30, np.float32)}, "beyond float32"),
        ({"k": 3}, "a query needs 3 candidates"),
        ({"leave_out": ["a"] * 3}, "none of 3 clips"),
        ({"relevant": [1, 2, 3]}, "none of 3 clips"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    question = {"vectors": np.ones((3, 2), np.float32), "relevant": ["a", "a", "b"], "k": 1} | change
    with pytest.raises(RetrievalError, match=message):
        precision_at_k(question.pop("vectors"), **question)


def test_best_mean_precision_is_that_of_the_best_of_all_choices() -> None:
    """Of each query, every choice of two candidates is tried."""
    hair, top, group = "aabbabab", "xyxyyxxx", [0, 0, 1, 1, 2, 2, 3, 3]
    best = []
    for query in range(8):
        candidates = [other for other in range(8) if group[other] != group[query]]
        hits = [
            sum((hair[other] == hair[query]) + (top[other] == top[query]) for other in choice)
            for choice in itertools.combinations(candidates, 2)
        ]
        best.append(max(hits) / 4)
    questions = {"hair": Question(hair, group), "top": Question(top, group)}
    assert best_mean_precision(questions, k=2) == pytest.approx(sum(best) / 8)
    assert sum(best) < 8


def test_no_vectors_beat_the_best_mean_precision() -> None:
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, 3, 60).tolist() for name in ("hair", "top", "skin")}
    group = rng.integers(0, 6, 60).tolist()
    questions = {name: Question(values, group) for name, values in labels.items()}
    best = best_mean_precision(questions, k=10)
    for scale in ((1, 1, 1), (3, 1, 1), (0, 1, 0)):
        vectors = np.concatenate(
            [s * np.eye(3)[values] for s, values in zip(scale, labels.values(), strict=True)], axis=1
        )
        found = precisions_at_k(vectors.astype(np.float32), questions, k=10)
        assert sum(each.value for each in found.values()) / 3 <= best + 1e-9
    assert best < 1
