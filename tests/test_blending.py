"""Search by both spaces against a slow reference, and several clips as one query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_clips import make_index

from kineme.retrieval.blending import mean_vector, nearest_by, search_both, search_by
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.growing import remove_clips
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.search import search

COUNT = 90


@pytest.fixture(scope="module", params=["whole", "with removed clips"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    labels = [{"speed": i % 7} for i in range(COUNT)]
    folder = tmp_path_factory.mktemp("blending") / "index"
    index = make_index(folder, labels, metrics={"motion": "cosine", "appearance": "l2"})
    if request.param != "whole":
        remove_clips(folder, [index.keys[number] for number in (0, 3, 4, 50, 89)])
    return open_index(folder)


def draw(index: Index, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    motion, appearance = (random.standard_normal(index.info.dims[space]) for space in ("motion", "appearance"))
    return motion.astype(np.float32), appearance.astype(np.float32)


def reference(index: Index, motion: np.ndarray, appearance: np.ndarray, weight: float) -> dict[str, float]:
    """Key -> score, one clip at a time."""
    moves, looks = {}, {}
    for key in index.keys:
        stored = index.vector(key, "motion").astype(float)
        moves[key] = stored @ motion / np.linalg.norm(stored) / np.linalg.norm(motion)
        looks[key] = -np.sqrt(((index.vector(key, "appearance").astype(float) - appearance) ** 2).sum())

    def standard(scores: dict[str, float], key: str) -> float:
        values = list(scores.values())
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        return (scores[key] - mean) / deviation

    return {key: weight * standard(moves, key) + (1 - weight) * standard(looks, key) for key in index.keys}


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(
    ("where", "keep"), [(None, range(7)), ("speed in (2, 5)", (2, 5)), ("speed = 99", ())], ids=["all", "some", "none"]
)
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_agrees_with_the_slow_reference(index: Index, weight: float, where: str | None, keep, k: int) -> None:
    motion, appearance = draw(index, k)
    hits = search_both(index, motion, appearance, weight=weight, k=k, where=where, exclude=[index.keys[9]])
    scores = reference(index, motion, appearance, weight)
    speeds = {key: index.clip(index.row_of(key)).labels["speed"] for key in index.keys}
    allowed = [key for key, speed in speeds.items() if speed in keep and key != index.keys[9]]
    expected = sorted(allowed, key=lambda key: -scores[key])[:k]
    assert [hit.key for hit in hits] == expected
    np.testing.assert_allclose([hit.score for hit in hits], [scores[key] for key in expected], rtol=1e-4, atol=1e-4)
    assert [hit.rank for hit in hits] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize(("weight", "by"), [(1, "motion"), (0, "appearance")])
@pytest.mark.parametrize("where", [None, "speed < 3"])
def test_the_whole_weight_on_one_space_is_search_by_it(index: Index, weight: float, by: str, where: str | None) -> None:
    motion, appearance = draw(index, 3)
    both = search_both(index, motion, appearance, weight=weight, k=40, where=where)
    one = search(index, motion if by == "motion" else appearance, by=by, k=40, where=where)
    assert [hit.key for hit in both] == [hit.key for hit in one]


def test_equal_scores_come_in_the_order_of_the_index(tmp_path: Path) -> None:
    """Three motions, ten clips each: within each the order is the index's, also where k cuts one in two."""
    groups = np.eye(3, 6, dtype=np.float32)[np.arange(30) % 3]
    index = make_index(tmp_path / "index", [{}] * 30, motion=groups)
    _, appearance = draw(index, 0)
    hits = search_both(index, np.array([1, 0.5, 0, 0, 0, 0], np.float32), appearance, weight=1, k=15)
    assert [hit.key for hit in hits] == [*index.keys[0::3], *index.keys[1::3][:5]]


def test_a_space_where_all_are_alike_does_not_count(tmp_path: Path) -> None:
    """Equal but for what float32 makes of them: that must not be blown up to a deviation of 1."""
    alike = np.full((40, 6), 0.1, np.float32) * np.linspace(0.5, 3, 40, dtype=np.float32)[:, None]
    index = make_index(tmp_path / "index", [{}] * 40, motion=alike)
    motion, appearance = draw(index, 1)
    both = search_both(index, motion, appearance, weight=0.9, k=40)
    assert [hit.key for hit in both] == [hit.key for hit in search(index, appearance, by="appearance", k=40)]
    only = search_both(index, motion, appearance, weight=1, k=40)
    assert [(hit.key, hit.score) for hit in only] == [(key, 0) for key in index.keys]


@pytest.mark.parametrize("by", ["motion", "appearance", "both"])
def test_many_queries_find_what_each_finds(index: Index, by: str) -> None:
    drawn = [draw(index, seed) for seed in range(4)]
    vectors = {"motion": np.stack([pair[0] for pair in drawn]), "appearance": np.stack([pair[1] for pair in drawn])}
    near = nearest_by(index, vectors, by=by, weight=0.4, k=5, rows=index.filter.rows("speed < 5"))
    for number, (motion, appearance) in enumerate(drawn):
        one = {"motion": motion, "appearance": appearance}
        hits = search_by(index, one, by=by, weight=0.4, k=5, where="speed < 5")
        assert [clip.key for clip in index.clips(near.rows[number])] == [hit.key for hit in hits]
        np.testing.assert_allclose(near.scores[number], [hit.score for hit in hits], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 1.5}, r"weight 1.5: from 0 \(appearance alone\) to 1"),
        ({"weight": float("nan")}, "weight nan"),
        ({"k": 0}, "k = 0: at least 1"),
        ({"where": "sped = 1"}, "did you mean speed"),
        ({"motion": np.zeros(3, np.float32)}, "the motion vectors of .* have 6 dimensions"),
        ({"appearance": np.full(5, np.nan, np.float32)}, "the appearance vector of the query holds NaN"),
    ],
)
def test_bad_questions(index: Index, change: dict[str, object], message: str) -> None:
    motion, appearance = draw(index, 0)
    question = {"motion": motion, "appearance": appearance, "k": 3} | change
    with pytest.raises(RetrievalError, match=message):
        search_both(index, question.pop("motion"), question.pop("appearance"), **question)


def test_several_clips_are_their_mean() -> None:
    vectors = np.array([[4, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(mean_vector(vectors, "l2"), [2, 0.5])
    # A long vector is no louder than a short one where angles are compared, and a zero vector says nothing.
    np.testing.assert_allclose(mean_vector(vectors, "cosine"), [0.5, 0.5])
    np.testing.assert_allclose(mean_vector(np.array([[0, 0], [0, 3]], np.float32), "cosine"), [0, 0.5])
