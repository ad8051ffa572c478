"""Structures find what they were tuned to find, whatever happens to the index after; filters stay exact under them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import faiss
import numpy as np
import pytest
from clustered_index import DIMS, METRICS, brute_force, clustered, clustered_index, clustered_parts

from kineme.retrieval.budget import Budget
from kineme.retrieval.choosing import structures
from kineme.retrieval.commits import StructureEntry
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import nearest_rows, rescored
from kineme.retrieval.growing import add_clips, compact, remove_clips
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.index_report import read_report
from kineme.retrieval.kinds import KINDS, find_kind, find_near
from kineme.retrieval.kinds.ivf import lists
from kineme.retrieval.kinds.ivf_pq import code_bytes
from kineme.retrieval.search import search
from kineme.retrieval.vectors import SPACES, normalised

ROWS = 5000
LEVEL = 0.95


@pytest.fixture(scope="module", params=[(kind, metric) for kind in KINDS for metric in METRICS], ids="-".join)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index whose both spaces have a structure of one kind. Tests must not change it."""
    kind, metric = request.param
    folder: Path = tmp_path_factory.mktemp("kinds") / "index"
    clustered_index(folder, ROWS, metric)
    compact(folder, structures(Budget(kind=kind, recall=LEVEL)))
    return folder


@pytest.fixture
def changing(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(built, tmp_path / "index")
    return tmp_path / "index"


def finds(index: Index, space: str, queries: np.ndarray, k: int = 10, level: float = LEVEL) -> bool:
    """Whether recall among the live clips is what it was tuned to, as far as so many queries can tell.

    By scores: which of equals are found is the same.
    """
    vectors, metric = index.space(space), index.info.metrics[space]
    found = index.nearest(queries, space, k)
    assert found.rows.shape == (len(queries), k)
    hits = []
    for query, scores, rows in zip(queries, found.scores, found.rows, strict=True):
        truth = np.sort(brute_force(vectors, query, metric))[::-1]
        assert len(set(rows.tolist())) == k
        assert set(rows.tolist()) <= set(index.live_rows.tolist())
        assert (np.diff(scores) <= 0).all()
        hits.append((scores >= truth[k - 1] - 1e-4).mean())
    return bool(np.mean(hits) + 2 * np.std(hits) / len(hits) ** 0.5 >= level)


def test_it_finds_what_it_was_tuned_to_find(built: Path) -> None:
    index, report = open_index(built), read_report(built)
    assert report is not None
    for space in SPACES:
        entry, said = index.info.structures[space], report.spaces[space]
        assert (said.kind, said.effort, said.candidates) == (entry.kind, entry.effort, entry.candidates)
        assert said.recall - 2 * said.recall_error >= LEVEL
        queries = clustered(300, DIMS[space], seed=7)
        for k in (1, 10, 60, 100):
            assert finds(index, space, queries, k)


def test_scores_are_those_of_exact_search(built: Path) -> None:
    index = open_index(built)
    query = clustered(1, 16, seed=9)
    found = index.nearest(query, "motion", 10)
    exact = brute_force(index.space("motion"), query[0], index.info.metrics["motion"])
    np.testing.assert_allclose(found.scores[0], exact[found.rows[0]], atol=1e-4)


def test_additions_and_removals_cost_no_recall(changing: Path) -> None:
    queries = clustered(60, 16, seed=8)
    index = open_index(changing)
    near = index.nearest(queries[:20], "motion", 12).rows
    remove_clips(changing, [clip.key for clip in index.clips(np.unique(near))])
    vectors, records = clustered_parts(300, seed=3, first=ROWS)
    add_clips(changing, vectors, records, [])
    changed = open_index(changing)
    assert changed.info.structures == index.info.structures
    assert changed.count == ROWS + 300 - len(np.unique(near))
    assert finds(changed, "motion", queries)
    # What was added is found: exactly, beside the structure.
    hit = search(changed, vectors.motion[5], by="motion", k=1)[0]
    assert hit.score == pytest.approx(search(changed, vectors.motion[5], by="motion", k=1, where="true")[0].score)
    assert int(hit.labels["number"]) >= ROWS


@pytest.mark.parametrize("part", [0.001, 0.01, 0.5])
def test_filters_are_exact(changing: Path, part: float) -> None:
    remove_clips(changing, [open_index(changing).keys[number] for number in range(0, ROWS, 197)])
    index = open_index(changing)
    for number, query in enumerate(clustered(20, 16, seed=11)):
        allowed = np.sort(np.random.default_rng(number).choice(index.live_rows, int(part * ROWS), replace=False))
        exact = brute_force(
            index.space("motion")[np.searchsorted(index.live_rows, allowed)], query, index.info.metrics["motion"]
        )
        found = index.nearest(query[None], "motion", 10, allowed)
        best = np.sort(exact)[::-1][:10]
        np.testing.assert_allclose(found.scores[0], best, atol=1e-4)
        assert set(found.rows[0].tolist()) <= set(allowed.tolist())


def test_answers_are_never_short(changing: Path) -> None:
    query = clustered(2, 16, seed=12)
    index = open_index(changing)
    for k in (50, ROWS):
        assert len(set(index.nearest(query, "motion", k).rows[0].tolist())) == k
    near = search(index, query[0], by="motion", k=300)
    remove_clips(changing, [hit.key for hit in near])
    without_them = open_index(changing)
    assert finds(without_them, "motion", query[:1], k=20, level=1.0)
    assert finds(without_them, "motion", query, k=ROWS - 300, level=1.0)


def test_all_may_be_removed(changing: Path) -> None:
    remove_clips(changing, open_index(changing).keys)
    index = open_index(changing)
    assert index.nearest(clustered(3, 16, seed=1), "motion", 5).rows.shape == (3, 0)
    compact(changing, structures(Budget()))
    assert open_index(changing).count == 0
    assert list(changing.glob("*.faiss")) == []


def test_threads_share_a_structure(built: Path) -> None:
    index = open_index(built)
    queries = clustered(80, 16, seed=13)
    alone = [index.nearest(query[None], "motion", 10).rows for query in queries]
    answers: dict[int, list[np.ndarray]] = {}

    def ask(number: int) -> None:
        answers[number] = [index.nearest(query[None], "motion", 10).rows for query in queries]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_array_equal(answers[number], alone)


def test_many_queries_are_answered_like_single_ones(built: Path) -> None:
    index, queries = open_index(built), clustered(40, 16, seed=14)
    together = index.nearest(queries, "motion", 10)
    single = [index.nearest(query[None], "motion", 10) for query in queries]
    np.testing.assert_allclose(together.scores, np.concatenate([near.scores for near in single]), atol=1e-5)


def test_queries_may_be_of_any_length_and_number(built: Path) -> None:
    index, query = open_index(built), clustered(1, 16, seed=15)
    assert index.nearest(query[:0], "motion", 10).rows.shape == (0, 10)
    if index.info.metrics["motion"] == "cosine":
        found = [index.nearest(query * length, "motion", 10) for length in (1, 1e-3, 1e3)]
        for near in found:
            np.testing.assert_allclose(near.scores, found[0].scores, atol=1e-5)
        assert (index.nearest(query * 0, "motion", 10).scores == 0).all()


def test_one_query_does_not_change_how_many_threads_there_are(built: Path) -> None:
    index = open_index(built)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        index.nearest(clustered(1, 16, seed=1), "motion", 5)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_a_structure_that_is_damaged_or_of_another_index_is_refused(changing: Path) -> None:
    (path,) = changing.glob("motion-*.faiss")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RetrievalError, match=f"{path.name}: unreadable .*copy the index again"):
        open_index(changing)
    path.write_bytes(b"no index")
    with pytest.raises(RetrievalError, match="unreadable"):
        open_index(changing)
    path.unlink()
    with pytest.raises(RetrievalError, match=f"{path.name} is missing"):
        open_index(changing)
    path.write_bytes(whole)
    entry = open_index(changing).info.structures["motion"]
    with pytest.raises(RetrievalError, match=f"over {ROWS} rows, the index says 7"):
        find_kind(entry.kind).open(path, entry.model_copy(update={"rows": 7}), "l2")


@pytest.mark.parametrize("name", KINDS)
def test_files_are_mapped_and_not_read(name: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((4000, 512)).astype(np.float32)
    kind, rows = find_kind(name), np.arange(len(vectors))
    growing = kind.begun(vectors, rows, "l2")
    for _ in range(1 if name == "hnsw" else 8):
        growing.add(vectors, rows)
    growing.write(tmp_path / "structure")
    effort = kind.efforts(len(rows))[-1]
    count = len(rows) * (1 if name == "hnsw" else 8)
    before = private_bytes()
    structure = kind.open(
        tmp_path / "structure", StructureEntry(kind=name, location="structure", rows=count, effort=effort), "l2"
    )
    size = (tmp_path / "structure").stat().st_size
    assert private_bytes() - before < size / 2
    assert str(tmp_path / "structure") in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert 0 in structure.search(vectors[:1], 10).rows


def private_bytes() -> int:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


@pytest.mark.parametrize("metric", METRICS)
def test_candidates_are_rescored_exactly(metric: Metric) -> None:
    vectors, queries = clustered(50, 8, seed=0), clustered(3, 8, seed=1)
    rows = np.array([[4, 7, -1, 49], [1, 0, 30, 2], [-1, -1, -1, 5]])
    near = rescored(queries, vectors, rows, 3, metric)
    for query, asked, scores, best in zip(queries, rows, near.scores, near.rows, strict=True):
        known = asked[asked >= 0]
        exact = vectors[known] @ query if metric == "cosine" else brute_force(vectors[known], query, metric)
        order = np.argsort(-exact)[:3]
        np.testing.assert_allclose(scores[: len(order)], exact[order], rtol=1e-5)
        np.testing.assert_array_equal(best[: len(order)], known[order])
        assert (best[len(order) :] == -1).all()
        assert np.isneginf(scores[len(order) :]).all()


def test_rough_scores_are_not_handed_out(built: Path) -> None:
    index = open_index(built)
    entry, vectors = index.info.structures["motion"], index.segments[0].vectors["motion"]
    metric = index.info.metrics["motion"]
    queries = np.array(vectors[:5])
    near = find_near(index.structures["motion"], entry.candidates, vectors, queries, metric, 1, 1)
    np.testing.assert_allclose(near.scores[:, 0], 1.0 if metric == "cosine" else 0.0, atol=1e-5)


def test_lists_and_codes_suit_every_size() -> None:
    assert [lists(rows) for rows in (1, 100, 900, 10_000, 1_000_000, 10**8)] == [1, 25, 120, 400, 4000, 8192]
    assert [code_bytes(dim) for dim in (1, 5, 7, 64, 100, 512, 513)] == [1, 1, 1, 8, 10, 64, 57]


def test_an_unknown_kind() -> None:
    with pytest.raises(RetrievalError, match="kind 'tree': one of exact, ivf, hnsw, ivf-pq expected"):
        find_kind("tree")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 3, 4, 600])
@pytest.mark.parametrize("allowed", [None, 3, 2])
def test_exact_search_is_brute_force(metric: Metric, queries: int, allowed: int | None) -> None:
    vectors, asked = clustered(20_000, 8, seed=0), clustered(queries, 8, seed=1)
    if metric == "cosine":
        vectors, asked = normalised(vectors), normalised(asked)
    rows = np.arange(20_000) if allowed is None else np.arange(0, 20_000, allowed)
    near = nearest_rows(asked, vectors, 10, metric, allowed=None if allowed is None else rows)
    for query, scores, found in list(zip(asked, near.scores, near.rows, strict=True))[:20]:
        exact = brute_force(vectors, query, metric)
        np.testing.assert_allclose(scores, np.sort(exact[rows])[::-1][:10], atol=1e-5)
        np.testing.assert_allclose(scores, exact[found], atol=1e-5)
        assert len(set(found.tolist())) == 10
        same = scores[1:] == scores[:-1]
        assert (found[1:][same] > found[:-1][same]).all()


def test_near_copies_are_told_apart_however_many_ask() -> None:
    """Far from the origin, and nearer to one another than products of float32 can tell."""
    draw = np.random.default_rng(0)
    vectors = (100 + draw.standard_normal(512) + 1e-3 * draw.standard_normal((1000, 512))).astype(np.float32)
    near = nearest_rows(vectors, vectors, 2, "l2")
    assert near.rows[:, 0].tolist() == list(range(1000))
    assert near.scores[:, 0].min() == 0
    only = nearest_rows(vectors, vectors, 1, "l2", allowed=np.arange(0, 1000, 2))
    assert only.rows[::2, 0].tolist() == list(range(0, 1000, 2))


def test_a_structure_that_finds_no_room_is_one_line(tmp_path: Path) -> None:
    vectors = np.ones((100, 8), np.float32)
    growing = find_kind("ivf").begun(vectors, np.arange(100), "l2")
    growing.add(vectors, np.arange(100))
    with pytest.raises(RetrievalError, match=r"/dev/full: cannot be written \(.*No space left.*\); make room"):
        growing.write(Path("/dev/full"))
