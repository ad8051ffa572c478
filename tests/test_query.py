"""The query command on a small index, asked by key: no encoder is needed for a clip that is encoded already."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from made_up_clips import make_index
from PIL import Image
from typer.testing import CliRunner

from kineme.pipeline.commands import indexing, search
from kineme.retrieval.blending import mean_vector, search_both
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index
from kineme.retrieval.search import search as search_index

app = typer.Typer()
app.command()(indexing.index)
app.command()(search.query)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    labels = [{"action": "walk [left]" if i % 2 else "wave", "speed": i} for i in range(12)]
    return make_index(tmp_path_factory.mktemp("query") / "index", labels)


def ask(index: Index, *arguments: str):
    return CliRunner().invoke(app, ["query", str(index.folder), index.keys[4], *arguments])


def test_json_is_a_list_of_hits(index: Index) -> None:
    result = ask(index, "--json", "-k", "3", "--where", "action = 'wave'")
    assert result.exit_code == 0, result.output
    hits = json.loads(result.stdout)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert list(hits[0]) == ["rank", "score", "key", "source", "start_s", "end_s", "labels"]
    assert all(hit["labels"]["action"] == "wave" for hit in hits)
    assert index.keys[4] not in {hit["key"] for hit in hits}
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
    assert f"a key such as {index.keys[0]}" in str(result.exception)


@pytest.mark.parametrize("of", ["key", "source"])
def test_what_is_almost_a_key(of: str, index: Index) -> None:
    key = index.keys[4]
    meant = key[:-1] if of == "key" else Path(index.clip(4).source).name
    result = CliRunner().invoke(app, ["query", str(index.folder), meant])
    assert f"did you mean {key}" in str(result.exception)


def keys_of(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [hit["key"] for hit in json.loads(result.stdout)]


def test_several_keys_ask_by_their_mean_and_are_no_hits(index: Index) -> None:
    asking = [index.keys[number] for number in (4, 7, 9)]
    mean = mean_vector(np.stack([index.vector(key, "motion") for key in asking]), "cosine")
    expected = search_index(index, mean, by="motion", k=12, exclude=asking)
    assert keys_of(ask(index, *asking[1:], "--json")) == [hit.key for hit in expected]
    assert len(expected) == 9


def test_both_spaces_are_weighted(index: Index) -> None:
    vectors = [index.vector(index.keys[4], space) for space in ("motion", "appearance")]
    for options, weight in ((["--by", "both"], 0.5), (["--by", "both", "--weight", "0.8"], 0.8)):
        expected = search_both(index, *vectors, weight=weight, k=12, exclude=[index.keys[4]])
        assert keys_of(ask(index, *options, "--json")) == [hit.key for hit in expected][:10]
    assert keys_of(ask(index, "--by", "both", "--weight", "1", "--json")) == keys_of(ask(index, "--json"))


def test_looks_are_those_of_another_clip(index: Index) -> None:
    motion, appearance = index.vector(index.keys[4], "motion"), index.vector(index.keys[8], "appearance")
    expected = search_both(index, motion, appearance, weight=0.2, k=12, exclude=[index.keys[4], index.keys[8]])
    found = keys_of(ask(index, "--looks", index.keys[8], "--weight", "0.2", "--json"))
    assert found == [hit.key for hit in expected]
    assert len(found) == 10


def test_merged_hits_say_what_of_the_query_found_them(index: Index) -> None:
    """Twelve videos of one clip each: nothing touches, and a quarter of the eleven others is two."""
    spans = json.loads(ask(index, "--merge", "--json").stdout)
    hits = json.loads(ask(index, "-k", "2", "--json").stdout)
    assert [(span["keys"], span["score"]) for span in spans] == [([hit["key"]], hit["score"]) for hit in hits]
    assert {(span["query_start_s"], span["query_end_s"]) for span in spans} == {(0.0, 0.8)}
    together = json.loads(ask(index, index.keys[5], "--merge", "--json").stdout)
    assert {span["query_start_s"] for span in together} == {None}


def test_spans_without_a_time_of_the_query_fit_the_table(index: Index) -> None:
    result = ask(index, index.keys[5], "--merge")
    assert result.exit_code == 0, result.output
    assert "0.00 to 0.80" in result.stdout
    assert "None" not in result.stdout


def test_the_sheet_draws_all_that_asks(index: Index, tmp_path: Path) -> None:
    heights = []
    for more in ([], [index.keys[5]], ["--looks", index.keys[6]]):
        ask(index, *more, "-k", "2", "--sheet", str(tmp_path / "sheet.png"))
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] < heights[1] == heights[2]


def test_a_key_waits_for_no_network(index: Index) -> None:
    program = (
        "import sys; from pathlib import Path; from kineme.pipeline.commands.search import query;"
        f"query(Path({str(index.folder)!r}), ['{index.keys[4]}']);"
        "print([name for name in ('torch', 'matplotlib', 'fastapi') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_an_index_that_is_there_is_refused_before_anything_is_encoded(index: Index, tmp_path: Path) -> None:
    arguments = ["index", str(tmp_path / "no run"), "--data", str(tmp_path), "--out", str(index.folder)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, RetrievalError)
    assert "--force" in str(result.exception)


@pytest.mark.parametrize("name", ["index", "query"])
def test_help_has_an_example(name: str) -> None:
    assert f"Example: kineme {name}" in CliRunner().invoke(app, [name, "--help"]).stdout
