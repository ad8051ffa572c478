"""The query command on a small index, asked by key: no encoder is needed for a clip that is encoded already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from made_up_clips import make_index
from PIL import Image
from typer.testing import CliRunner

from kineme.pipeline.commands import search as commands
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index

app = typer.Typer()
app.command()(commands.index)
app.command()(commands.query)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    labels = [{"action": "walk [left]" if i % 2 else "wave", "speed": i} for i in range(12)]
    return make_index(tmp_path_factory.mktemp("query") / "index", labels)


def ask(index: Index, *arguments: str):
    return CliRunner().invoke(app, ["query", str(index.folder), index.vectors.keys[4], *arguments])


def test_json_is_a_list_of_hits(index: Index) -> None:
    result = ask(index, "--json", "-k", "3", "--where", "action = 'wave'")
    assert result.exit_code == 0, result.output
    hits = json.loads(result.stdout)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert list(hits[0]) == ["rank", "score", "key", "source", "start_s", "end_s", "labels"]
    assert all(hit["labels"]["action"] == "wave" for hit in hits)
    assert index.vectors.keys[4] not in {hit["key"] for hit in hits}
    assert result.stderr == ""


def test_by_chooses_the_space(index: Index) -> None:
    answers = [ask(index, "--json", "--by", by).stdout for by in ("motion", "appearance")]
    assert answers[0] != answers[1]
    assert ask(index, "--by", "sound").exit_code == 2


@pytest.mark.parametrize(
    ("where", "found", "reason"),
    [
        (None, 11, "only 11 clips are in the index besides the query; all of them are shown"),
        ("speed < 6", 5, "only 5 clips pass the filter; all of them are shown"),
        ("speed > 99", 0, "no clips pass the filter"),
    ],
)
def test_too_large_a_k_gives_all_and_says_so(index: Index, where: str | None, found: int, reason: str) -> None:
    result = ask(index, "--json", "-k", "50", *([] if where is None else ["--where", where]))
    assert len(json.loads(result.stdout)) == found
    assert result.stderr == f"-k 50: {reason}\n"


def test_the_table_shows_names_as_they_are(index: Index) -> None:
    result = ask(index, "-k", "11")
    assert "action walk [left], speed 5" in result.stdout
    assert "videos/5.mp4" in result.stdout
    assert len(result.stdout.splitlines()) == 12


def test_the_contact_sheet_is_written(index: Index, tmp_path: Path) -> None:
    result = ask(index, "-k", "4", "--sheet", str(tmp_path / "deep" / "sheet.png"))
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "deep" / "sheet.png") as sheet:
        assert sheet.height > 5 * 96


def test_what_is_neither_a_file_nor_a_key(index: Index) -> None:
    result = CliRunner().invoke(app, ["query", str(index.folder), "absent.mp4"])
    assert isinstance(result.exception, RetrievalError)
    assert "neither a video file nor a key" in str(result.exception)
    assert f"a key such as {index.vectors.keys[0]}" in str(result.exception)


@pytest.mark.parametrize("of", ["key", "source"])
def test_what_is_almost_a_key(of: str, index: Index) -> None:
    key = index.vectors.keys[4]
    meant = key[:-1] if of == "key" else Path(index.clip(4).source).name
    result = CliRunner().invoke(app, ["query", str(index.folder), meant])
    assert f"did you mean {key}" in str(result.exception)


def test_an_index_that_is_there_is_refused_before_anything_is_encoded(index: Index, tmp_path: Path) -> None:
    arguments = ["index", str(tmp_path / "no run"), "--data", str(tmp_path), "--out", str(index.folder)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, RetrievalError)
    assert "--force" in str(result.exception)


@pytest.mark.parametrize("name", ["index", "query"])
def test_help_has_an_example(name: str) -> None:
    assert f"Example: kineme {name}" in CliRunner().invoke(app, [name, "--help"]).stdout
