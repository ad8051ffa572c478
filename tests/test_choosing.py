"""Which kind is chosen, how it is tuned, and what is said when nothing will do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clustered_index import METRICS, clustered, clustered_index, clustered_parts

from kineme.retrieval import budget as budgets
from kineme.retrieval.budget import Budget
from kineme.retrieval.choosing import structures
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import Neighbours
from kineme.retrieval.growing import add_clips, compact, remove_clips
from kineme.retrieval.index import open_index
from kineme.retrieval.index_report import read_report
from kineme.retrieval.kinds import EXACT, ivf_pq
from kineme.retrieval.trials import Searched, look_at, try_kind
from kineme.retrieval.tuning import HeldOut, Recall, hold_out, tune
from kineme.retrieval.vectors import SPACES, normalised

ROWS = 5200
# Of the two spaces: vectors of 16 and 8 numbers.
EXACT_GB = ROWS * 4 * 24 / (1 << 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clustered_index(tmp_path / "index", ROWS, "cosine")
    return tmp_path / "index"


def test_exact_where_nothing_is_asked(folder: Path) -> None:
    info = compact(folder, structures(Budget()))
    report = read_report(folder)
    assert report is not None
    assert info.structures == {}
    assert report.generation == info.generation == 2
    for space in SPACES:
        said = report.spaces[space]
        assert (said.kind, said.recall, said.rejected, said.rows) == (EXACT, 1.0, (), ROWS)
        assert said.bytes_per_vector == 4 * info.dims[space]
        assert 0 < said.p50_ms <= said.p99_ms
        assert said.why.startswith("the first of exact, ivf, hnsw, ivf-pq that keeps 100 ms a query and ")


def test_the_report_is_json_for_people(folder: Path) -> None:
    compact(folder, structures(Budget(kind="ivf")))
    content = json.loads((folder / "index_report.json").read_text(encoding="utf-8"))
    motion = content["spaces"]["motion"]
    assert content["asked"] == {"kind": "ivf", "memory_gb": None, "latency_ms": None, "recall": 0.95}
    assert (motion["kind"], motion["effort_name"], motion["queries"]) == ("ivf", "nprobe", ROWS // 40)
    assert motion["why"].startswith("asked for by name: ")
    size = (folder / "motion-000002.ivf.faiss").stat().st_size
    assert motion["bytes_per_vector"] == pytest.approx(size / ROWS)


def test_what_is_larger_than_the_memory_is_quantised(folder: Path) -> None:
    allowed = 0.9 * EXACT_GB
    lines: list[str] = []
    info = compact(folder, structures(Budget(memory_gb=allowed, latency_ms=1e4, recall=0.8), lines.append))
    report = read_report(folder)
    assert report is not None
    for space in SPACES:
        said = report.spaces[space]
        assert info.structures[space].kind == said.kind == "ivf-pq"
        assert [line.split(":")[0] for line in said.rejected] == ["exact", "ivf", "hnsw"]
        assert said.bytes_per_vector < 0.9 * 4 * info.dims[space]
        assert said.recall - 2 * said.recall_error >= 0.8
    # Kinds that cannot fit were not built for that.
    assert lines == [
        f"{space}: {line}"
        for space in SPACES
        for line in (f"building ivf-pq over {ROWS} vectors", "tuning ivf-pq until it finds 0.8 of the 10 nearest")
    ]


def test_a_budget_that_nothing_keeps_names_the_nearest_and_changes_nothing(folder: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.name != ".lock")
    with pytest.raises(
        RetrievalError,
        match=r"no kind keeps 1e-06 ms a query and .* GB for all spaces in motion: the nearest is "
        r"(exact|ivf|hnsw|ivf-pq), which needs .* ms and .* GB; allow --latency-ms [0-9.]+$",
    ):
        compact(folder, structures(Budget(latency_ms=1e-6)))
    with pytest.raises(
        RetrievalError, match=r"the nearest is ivf-pq, which needs [^;]* GB; allow --memory-gb [0-9.e-]+$"
    ):
        compact(folder, structures(Budget(memory_gb=1e-9)))
    with pytest.raises(RetrievalError, match=r"--kind hnsw does not keep 1e-09 GB .*; allow --memory-gb [0-9.e-]+$"):
        compact(folder, structures(Budget(kind="hnsw", memory_gb=1e-9)))
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.name != ".lock") == before
    assert open_index(folder).count == ROWS


def test_what_the_message_says_to_allow_is_enough(folder: Path) -> None:
    with pytest.raises(RetrievalError) as refused:
        compact(folder, structures(Budget(kind="hnsw", memory_gb=EXACT_GB)))
    allowed = float(str(refused.value).rpartition(" ")[2])
    # Each space has its share, so the other may need more yet.
    with pytest.raises(RetrievalError, match="in appearance") as refused:
        compact(folder, structures(Budget(kind="hnsw", memory_gb=allowed)))
    compact(folder, structures(Budget(kind="hnsw", memory_gb=float(str(refused.value).rpartition(" ")[2]))))
    assert {entry.kind for entry in open_index(folder).info.structures.values()} == {"hnsw"}


def test_without_being_asked_nothing_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "LATENCY_MS", 1e-6)
    info = compact(folder, structures(Budget()))
    report = read_report(folder)
    assert report is not None
    assert info.structures == {}
    assert report.spaces["motion"].why.startswith("nothing was asked, and no kind keeps 1e-06 ms a query and ")
    assert [line.split(":")[0] for line in report.spaces["motion"].rejected] == ["ivf", "hnsw", "ivf-pq"]
    assert list(folder.glob("*.faiss")) == []


def test_few_vectors_are_searched_exactly_whatever_is_asked(tmp_path: Path) -> None:
    clustered_index(tmp_path / "index", 90, "l2")
    info = compact(tmp_path / "index", structures(Budget(kind="hnsw")))
    report = read_report(tmp_path / "index")
    assert report is not None
    assert info.structures == {}
    assert report.spaces["motion"].why.startswith("fewer than 5000 vectors are searched exactly, not by --kind hnsw: ")


def test_a_kind_that_cannot_find_enough_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By its rough scores alone.
    monkeypatch.setattr(ivf_pq, "KIND", replace(ivf_pq.KIND, candidates=(1,)))
    with pytest.raises(
        RetrievalError,
        match=r"^--kind ivf-pq finds 0\.\d{3} of the 10 nearest at most in motion, --recall 0.99 is asked: ask",
    ):
        compact(folder, structures(Budget(kind="ivf-pq", recall=0.99)))
    assert list(folder.glob("*.faiss")) == []
    with pytest.raises(RetrievalError, match=r"in motion: the nearest is (exact|ivf|hnsw), which needs .*; allow --m"):
        compact(folder, structures(Budget(memory_gb=0.9 * EXACT_GB, recall=0.99)))


def test_what_takes_too_long_to_build_is_given_up(tmp_path: Path) -> None:
    searched = Searched("motion", clustered(ROWS, 16, seed=0), "l2", 1.0, recall=0.9)
    trial = try_kind(searched, "hnsw", tmp_path / "structure", build_seconds=0.0, tell=lambda line: None)
    assert trial.flaw == "would take 1 minutes to build, --kind hnsw does"
    assert trial.entry is None
    assert not (tmp_path / "structure").exists()
    assert trial.memory_gb == look_at(searched, "hnsw").memory_gb > EXACT_GB


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Budget(kind="tree"), "--kind tree: one of exact, ivf, hnsw, ivf-pq expected"),
        (Budget(latency_ms=0), "--latency-ms 0: more than 0 expected"),
        (Budget(memory_gb=-1), "--memory-gb -1: more than 0 expected"),
        (Budget(memory_gb=float("nan")), "--memory-gb nan: more than 0 expected"),
        (Budget(recall=1.01), "--recall 1.01: more than 0 and at most 1 expected"),
        (Budget(recall=0), "--recall 0: more than 0"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_at_once(asked: Budget, message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        structures(asked)


def test_structures_follow_the_clips_through_compactions(folder: Path) -> None:
    build = structures(Budget(kind="ivf"))
    compact(folder, build)
    vectors, records = clustered_parts(200, seed=2, first=ROWS)
    add_clips(folder, vectors, records, [])
    remove_clips(folder, open_index(folder).keys[:100])
    assert open_index(folder).info.structures["motion"].rows == ROWS
    info = compact(folder, build)
    assert info.structures["motion"].rows == info.count == ROWS + 100
    assert sorted(path.name for path in folder.glob("*.faiss")) == [
        f"{space}-{info.generation:06d}.ivf.faiss" for space in sorted(SPACES)
    ]
    report = read_report(folder)
    assert report is not None
    assert report.generation == info.generation
    exact = compact(folder, structures(Budget()))
    assert exact.structures == {}
    assert list(folder.glob("*.faiss")) == []


def test_one_piece_is_not_written_again_for_its_structures(folder: Path) -> None:
    before = open_index(folder).info
    after = compact(folder, structures(Budget(kind="ivf")))
    assert after.segments == before.segments
    assert after.generation == before.generation + 1
    remove_clips(folder, open_index(folder).keys[:1])
    assert compact(folder).segments != before.segments


@pytest.mark.parametrize("metric", METRICS)
def test_those_that_ask_do_not_answer(metric: Metric) -> None:
    vectors = clustered(1000, 8, seed=0)
    if metric == "cosine":
        vectors = normalised(vectors)
    asked = hold_out(vectors, metric)
    assert len(asked.rows) == 25
    assert sorted([*asked.rows.tolist(), *asked.others.tolist()]) == list(range(1000))
    for query, nearest in zip(asked.queries, asked.nearest, strict=True):
        others = vectors[asked.others]
        scores = others @ query if metric == "cosine" else -np.linalg.norm(others - query, axis=1)
        np.testing.assert_allclose(nearest, np.sort(scores)[::-1][:100], atol=1e-5)


def truth_of(asked: HeldOut) -> np.ndarray:
    """(Q, 10): the ten nearest others of each query."""
    order = np.argsort(np.linalg.norm(asked.vectors[asked.others] - asked.queries[:, None], axis=2), axis=1)
    return asked.others[order[:, :10]]


def test_recall_counts_what_is_as_near_as_the_tenth() -> None:
    asked = hold_out(clustered(1600, 8, seed=0), "l2")
    truth = truth_of(asked)
    assert asked.recall(truth) == Recall(1.0, 0.0, 40)
    missed = truth.copy()
    missed[:, 7:] = -1
    assert asked.recall(missed).value == pytest.approx(0.7)
    missed[:20] = truth[:20]
    half = asked.recall(missed)
    assert half.value == pytest.approx(0.85)
    assert half.error == pytest.approx(0.15 / 40**0.5)
    # Twins of the tenth are as good as the tenth.
    twins = np.concatenate([asked.vectors, asked.vectors[truth[:, 9]]])
    doubled = HeldOut(asked.rows, asked.others, asked.queries, twins, "l2", asked.nearest)
    found = np.concatenate([truth[:, :9], 1600 + np.arange(40)[:, None]], axis=1)
    assert doubled.recall(found).value == 1.0


def test_recall_must_be_sure() -> None:
    assert Recall(0.95, 0.0, 10).reaches(0.95)
    assert not Recall(0.95, 0.001, 10).reaches(0.95)
    assert Recall(0.96, 0.005, 10).reaches(0.95)


@pytest.mark.parametrize(("needed", "most"), [(1, 30), (2, 30), (13, 30), (16, 30), (29, 30), (30, 30), (7, 7), (1, 1)])
def test_the_least_effort_that_is_enough_is_found_with_few_tries(needed: int, most: int) -> None:
    asked = hold_out(clustered(1200, 8, seed=0), "l2")
    truth, tried = truth_of(asked), []

    def search(effort: int) -> Neighbours:
        tried.append(effort)
        rows = truth if effort >= needed else np.where(np.arange(10) < 9, truth, -1)
        return Neighbours(np.zeros(rows.shape, np.float32), rows)

    tuned = tune(search, range(1, most + 1), asked, 0.95)
    assert tuned.effort == needed
    assert tuned.recall.value == 1.0
    assert len(tried) == len(set(tried)) <= 10
    # Nothing dearer than twice the answer was tried.
    assert max(tried) <= max(2 * needed, 1)


def test_where_no_effort_is_enough_the_last_is_told() -> None:
    asked = hold_out(clustered(1200, 8, seed=0), "l2")
    rows = np.where(np.arange(10) < 6, truth_of(asked), -1)
    tuned = tune(lambda effort: Neighbours(np.zeros(rows.shape, np.float32), rows), [1, 4, 9], asked, 0.95)
    assert (tuned.effort, tuned.recall.value) == (9, pytest.approx(0.6))
