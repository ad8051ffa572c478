"""The command line as a whole: exit codes, one line an error, help, and a quick start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call
from made_up_clips import make_index

from kineme.pipeline import cli

VERBS = [command.callback.__name__ for command in cli.app.registered_commands if command.callback is not None]


def test_every_verb_of_the_design_is_there() -> None:
    assert set(VERBS) >= {
        *("datasets", "fetch", "ingest", "inspect", "verify", "train", "evaluate", "index", "query", "predict"),
        *("swap", "sample", "demo"),
    }


# What stands for a path that does not exist, a file that is no video, and where to write.
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fetch", "moving-digit", "--to", "OUT"], "moving-digit"),
        (["fetch", "moving-digits", "--to", "OUT", "--clips", "0"], "--clips 0: at least 1"),
        (["ingest", "ABSENT", "--out", "OUT"], "does not exist"),
        (["ingest", "EMPTY", "--out", "OUT"], "EMPTY"),
        (["inspect", "EMPTY"], "EMPTY"),
        (["verify", "ABSENT"], "ABSENT"),
        (["train", "sequential-vae/sprite", "--data", "EMPTY", "--out", "OUT"], "did you mean sequential-vae/sprites?"),
        (["train", "sequential-vae/sprites", "--data", "EMPTY", "--out", "OUT"], "EMPTY"),
        (["train", "sequential-vae/sprites", "--data", "EMPTY", "--out", "OUT", "--minutes", "-1"], "training.minutes"),
        (["train", "sequential-vae/sprites", "--data", "EMPTY", "--out", "OUT", "--set", "lr"], "expected key=value"),
        (["evaluate", "EMPTY", "--data", "EMPTY"], "no run here"),
        (["index", "EMPTY", "--data", "EMPTY", "--out", "OUT"], "no run here"),
        (["query", "EMPTY", "clip.mp4"], "EMPTY"),
        (["predict", "EMPTY", "FILE", "--context", "2", "--horizon", "2", "--out", "OUT.png"], "no run here"),
        (["predict", "EMPTY", "FILE", "--context", "2", "--horizon", "2", "--out", "OUT.txt"], "use one of .mp4"),
        (["predict", "FILE", "EMPTY", "--out", "OUT.png"], "FILE: a file, no run; give the folder that"),
        (["swap", "EMPTY", "--statics", "FILE", "--dynamics", "FILE", "--out", "OUT.png"], "no run here"),
        (["demo", "--out", "FILE"], "is a file"),
        (["demo", "--out", "FOREIGN"], "which no demo made"),
        # The system's own refusal: a folder inside a file.
        (["fetch", "moving-digits", "--to", "FILE/below", "--clips", "1"], "FILE"),
    ],
)
def test_an_error_of_the_user_is_one_line_and_two(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EMPTY", "FOREIGN"):
        (tmp_path / name).mkdir()
    for name in ("FILE", "FOREIGN/mine.txt"):
        (tmp_path / name).write_text("not a video")
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, *arguments) == 2
    out, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert line.startswith("kineme: ")
    assert expected in line
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_debug_shows_where_it_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kineme.shards.errors import DataError

    monkeypatch.setattr(sys, "argv", ["kineme", "--debug", "inspect", str(tmp_path)])
    with pytest.raises(DataError):
        cli.main()


def break_fetch(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    from kineme.shards.sources import registry

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(registry, "find_source", broken)


def test_an_error_of_ours_is_one_line_and_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_fetch(monkeypatch, RuntimeError("two\nlines"))
    assert call(monkeypatch, "fetch", "moving-digits", "--to", "x") == 1
    expected = "kineme: internal error: RuntimeError: two lines; add --debug for the traceback\n"
    assert capsys.readouterr().err == expected
    monkeypatch.setattr(sys, "argv", ["kineme", "fetch", "moving-digits", "--to", "x", "--debug"])
    with pytest.raises(RuntimeError, match="two\nlines"):
        cli.main()


def test_an_error_without_words_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    break_fetch(monkeypatch, OSError(28, "No space left on device", "/full/disk"))
    assert call(monkeypatch, "fetch", "moving-digits", "--to", "x") == 2
    assert capsys.readouterr().err == "kineme: /full/disk: No space left on device\n"
    break_fetch(monkeypatch, OSError())
    assert call(monkeypatch, "fetch", "moving-digits", "--to", "x") == 2
    assert capsys.readouterr().err == "kineme: OSError\n"


def test_an_interrupt_is_one_line_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    break_fetch(monkeypatch, KeyboardInterrupt())
    assert call(monkeypatch, "fetch", "moving-digits", "--to", "x") == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kineme: interrupted")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tran"], "tran"),
        (["train"], "RECIPE"),
        (["inspect", "x", "--colour"], "--colour"),
        (["query", "x", "y", "-k", "many"], "-k"),
        (["query", "x", "y", "--by", "sound"], "sound"),
        (["predict", "x", "y", "--context", "two", "--horizon", "1", "--out", "z.png"], "--context"),
    ],
)
def test_wrong_usage_is_two_and_short(
    arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert expected in errors.splitlines()[-1]
    assert len(errors.splitlines()) <= 4


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, verb, "--help") == 0
    assert f"Example: kineme {verb}" in capsys.readouterr().out


def test_help_is_quick() -> None:
    """Nothing heavy is imported to print it."""
    code = """
import sys
from kineme.pipeline.cli import main
sys.argv = ["kineme", "--help"]
try:
    main()
finally:
    heavy = {"torch", "lightning", "faiss", "decord", "kornia", "matplotlib", "pyarrow", "duckdb"}
    print("imported:", sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "imported: []"
    assert all(f"  {verb} " in result.stdout for verb in VERBS)


def test_more_hits_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index = make_index(tmp_path / "index", [{"action": "walk"}] * 4)
    assert call(monkeypatch, "query", index.folder, index.keys[0], "-k", 9, "--json") == 0
    out, errors = capsys.readouterr()
    assert out.count('"rank"') == 3
    assert errors == "-k 9: only 3 clips are in the index besides the query; all of them are shown\n"
