"""``kineme index`` and ``compact`` with --kind, --memory-gb, --latency-ms and --recall."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clustered_index import clustered_index
from command_line import call
from tiny_runs import FRAMES

from kineme.pipeline.commands.budgets import SearchKind
from kineme.retrieval.index import open_index
from kineme.retrieval.index_report import read_report
from kineme.retrieval.kinds import EXACT, KINDS
from kineme.retrieval.vectors import SPACES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clustered_index(tmp_path / "index", 5200, "l2")
    return tmp_path / "index"


def test_an_index_is_built_with_what_was_chosen_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: Path, tmp_path: Path
) -> None:
    command = ["index", "--encoder", "motion-histogram", "--data", digits / "shards", "--out", tmp_path / "index"]
    assert call(monkeypatch, *command, "--set", f"clip_frames={FRAMES}", "--latency-ms", 50, "--recall", 0.9) == 0
    said = capsys.readouterr().out
    for space in SPACES:
        assert f"{space} is searched by exact: fewer than 5000 vectors are searched exactly: " in said
    report = read_report(tmp_path / "index")
    assert report is not None
    assert report.generation == open_index(tmp_path / "index").info.generation
    assert (report.asked.latency_ms, report.asked.recall) == (50, 0.9)


def test_limits_hold_until_others_are_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert call(monkeypatch, "compact", folder, "--kind", "ivf", "--recall", 0.8) == 0
    said = capsys.readouterr()
    assert "motion is searched by ivf at nprobe " in said.out
    assert f"{folder}: 5200 clips in one piece" in said.out
    assert "motion: tuning ivf until it finds 0.8 of the 10 nearest" in said.err
    assert call(monkeypatch, "remove", folder, open_index(folder).keys[0]) == 0
    assert call(monkeypatch, "compact", folder) == 0
    assert {entry.kind for entry in open_index(folder).info.structures.values()} == {"ivf"}
    assert open_index(folder).info.structures["motion"].rows == 5199
    assert call(monkeypatch, "compact", folder, "--kind", "exact") == 0
    assert open_index(folder).info.structures == {}


def test_limits_that_cannot_be_kept_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    before = open_index(folder).info
    assert call(monkeypatch, "compact", folder, "--memory-gb", 1e-7) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the nearest is ivf-pq, which needs " in line
    assert re.search(
        rf"; allow --memory-gb \S+ \(kineme compact {re.escape(str(folder))}, whose search is unchanged\)$", line
    )
    assert open_index(folder).info == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recall", 2), "--recall 2: more than 0 and at most 1 expected"),
        (("--latency-ms", 0), "--latency-ms 0: more than 0 expected"),
        (("--kind", "ivf", "--store", "milvus:///tmp/never.db"), "Milvus chooses by itself"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    options: tuple[object, ...],
    message: str,
) -> None:
    absent = ("index", "--encoder", "motion-histogram", "--data", tmp_path / "absent", "--out", tmp_path / "index")
    assert call(monkeypatch, *absent, *options) == 2
    assert message in capsys.readouterr().err


def test_the_kinds_of_the_help_are_those_there_are() -> None:
    assert [kind.value for kind in SearchKind] == [EXACT, *KINDS]
