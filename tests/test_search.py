"""Search against brute force, and filters against those who would abuse them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_up_clips import make_index

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.filters import MetadataFilter
from kineme.retrieval.index import Index
from kineme.retrieval.search import search

ACTIONS = ("walk", "wave", "jump", "O'Hara")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    labels = [{"action": ACTIONS[i % 4], "speed": i % 7, "done": i % 2 == 0} for i in range(90)]
    folder = tmp_path_factory.mktemp("search") / "index"
    return make_index(folder, labels, metrics={"motion": "cosine", "appearance": "l2"})


def brute_force(index: Index, vector: np.ndarray, by: str, rows: list[int]) -> list[tuple[float, int]]:
    scored = []
    for row in rows:
        stored = index.space(by)[row].astype(float)
        if by == "motion":
            score = stored @ vector / np.linalg.norm(stored) / np.linalg.norm(vector)
        else:
            score = -np.linalg.norm(stored - vector)
        scored.append((score, row))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


@pytest.mark.parametrize("by", ["motion", "appearance"])
@pytest.mark.parametrize(
    ("where", "keep"),
    [
        (None, lambda row: True),
        ("action = 'walk' and height >= 64", lambda row: row % 4 == 0),
        ("speed between 2 and 3 or not done", lambda row: row % 7 in (2, 3) or row % 2 == 1),
        ("speed = 6 and action in ('wave', 'jump')", lambda row: row % 7 == 6 and row % 4 in (1, 2)),
        ("action = 'O''Hara'", lambda row: row % 4 == 3),
        ("num_frames = 9999", lambda row: False),
    ],
)
@pytest.mark.parametrize("k", [1, 5, 90])
def test_agrees_with_brute_force(index: Index, by: str, where: str | None, keep, k: int) -> None:
    vector = np.random.default_rng(k).standard_normal(index.info.dims[by]).astype(np.float32)
    hits = search(index, vector, by=by, k=k, where=where)
    expected = brute_force(index, vector, by, [row for row in range(index.count) if keep(row)])[:k]
    assert [hit.key for hit in hits] == [index.keys[row] for _, row in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for score, _ in expected], rtol=1e-4, atol=1e-5)
    assert [hit.rank for hit in hits] == list(range(1, len(expected) + 1))


def test_a_hit_carries_its_metadata(index: Index) -> None:
    hit = search(index, index.vector(index.keys[5], "motion"), by="motion", k=1)[0]
    assert hit.key == index.keys[5]
    assert hit.score == pytest.approx(1, abs=1e-5)
    assert hit.labels == {"action": "wave", "speed": 5, "done": False}
    assert (hit.source, hit.start_s, hit.end_s) == ("videos/5.mp4", 0.0, 0.8)


def test_excluded_keys_are_not_found_and_do_not_shorten_the_answer(index: Index) -> None:
    key = index.keys[5]
    hits = search(index, index.vector(key, "motion"), by="motion", k=10, exclude=[key, "no such key"])
    assert len(hits) == 10
    assert key not in {hit.key for hit in hits}
    assert len(search(index, index.vector(key, "motion"), by="motion", k=10**9, exclude=[key])) == index.count - 1


def test_equal_scores_come_in_the_order_of_the_index(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", [{}] * 6, motion=np.ones((6, 3), dtype=np.float32))
    hits = search(index, np.ones(3, dtype=np.float32), by="motion", k=6)
    assert [hit.key for hit in hits] == index.keys


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "sound"}, "one of motion, appearance"),
        ({"k": 0}, "k = 0: at least 1"),
        ({"vector": np.zeros(3, dtype=np.float32)}, "have 6 dimensions"),
        ({"vector": np.full(6, np.nan, dtype=np.float32)}, "NaN or infinity"),
    ],
)
def test_bad_questions(index: Index, arguments: dict[str, object], message: str) -> None:
    question = {"vector": np.ones(6, dtype=np.float32), "by": "motion", "k": 3} | arguments
    with pytest.raises(RetrievalError, match=message):
        search(index, question.pop("vector"), **question)


@pytest.mark.parametrize(
    "where",
    [
        "1=1; drop table clips",
        "1=1; select 1",
        "true) union select (1",
        "true) or (true",
        "true union select 1",
        "true order by key",
        "true limit 1",
        "true group by key",
        "true having true",
        "true window w as (order by key)",
        "(select count(*) from read_text('/etc/passwd')) > 0",
        "exists (select 1 from read_csv('/etc/passwd'))",
        "exists (select 1 from '/etc/passwd')",
        "key in (select key from clips)",
        "key = (from clips select key limit 1)",
        "read_text('/etc/passwd') is not null",
        "read_csv('/etc/passwd') is not null",
        "getenv('HOME') is not null",
        "current_setting('home_directory') is not null",
        "current_user = 'x'",
        "getvariable('x') = 1",
        "nextval('x') = 1",
        "query('select 1') = 1",
        "ATTACH '/tmp/x.db'",
        "COPY clips TO '/tmp/x.csv'",
        "true; COPY (select 1) TO '/tmp/x.csv'",
        "INSTALL httpfs",
        "PRAGMA database_list",
        "SET lock_configuration = false",
        "count(*) > 1",
        "row_number() over () = 1",
        "list_transform([1], x -> x) = [1]",
        "columns('key') = 'a'",
        "key = ?",
        "key = $1",
        "#1 = 1",
        "rowid < 3",
        "repeat('x', 1000000000) = key",
        "key = 'a",
        "true /*",
        "",
        "   ",
        "-- nothing",
        "select true",
        "true, false",
        "not " * 600 + "true",
        "true and " * 2000 + "true",
    ],
)
def test_a_filter_is_one_boolean_expression_and_nothing_else(index: Index, where: str) -> None:
    with pytest.raises(RetrievalError) as refusal:
        index.filter.rows(where)
    assert "\n" not in str(refusal.value).replace(where, "")
    assert index.filter.rows("true").tolist() == list(range(index.count)), "the table outlives the attempt"


def test_a_deep_filter_is_refused_whatever_depth_python_allows(index: Index) -> None:
    """torch's compiler, imported in the same process, raises the limit."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with pytest.raises(RetrievalError, match="nested too deeply"):
            index.filter.rows("not " * 600 + "true")
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    "where",
    [
        "source like 'videos/%' -- a comment",
        "lower(split) = 'test' and abs(speed - 3) <= 100",
        "case when done then speed >= 0 else true end",
        "cast(speed as varchar) || 'x' <> ''",
        "\"action\" is not null and regexp_matches(key, '^[0-9a-f-]+$')",
        "KEY is not null",
    ],
)
def test_what_a_filter_may_say(index: Index, where: str) -> None:
    assert len(index.filter.rows(where)) == index.count


def test_an_unknown_column_is_answered_with_the_nearest() -> None:
    table = MetadataFilter(pa.table({"action": ["walk"], "height": [64]}))
    with pytest.raises(
        RetrievalError, match=r"unknown column 'hieght': did you mean height\? the columns are action, height"
    ):
        table.rows("hieght > 3")
    with pytest.raises(RetrievalError, match="single quotes"):
        table.rows('action = "walk"')


def test_a_value_that_does_not_fit_its_column_is_one_line() -> None:
    with pytest.raises(RetrievalError, match="one boolean expression") as refusal:
        MetadataFilter(pa.table({"height": [64]})).rows("height = 'tall'")
    assert "\n" not in str(refusal.value)


def test_null_counts_as_false() -> None:
    table = MetadataFilter(pa.table({"action": ["walk", None, "wave"]}))
    assert table.rows("action <> 'walk'").tolist() == [2]


def test_the_connection_itself_is_walled(tmp_path: Path) -> None:
    """The second wall alone: what the parser's list would have stopped fails on the connection too."""
    import duckdb

    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    connection = MetadataFilter(pa.table({"a": [1]}))._connection
    for attempt in (
        f"SELECT * FROM read_text('{secret}')",
        f"COPY clips TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'other.db'}'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(attempt)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]
