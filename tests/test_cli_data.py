"""The commands datasets, fetch, ingest, inspect and verify, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from video_files import write_video

from kineme.pipeline.commands import ingest, sources
from kineme.pipeline.commands import shards as shard_commands
from kineme.shards.errors import DataError

COMMANDS = (sources.datasets, sources.fetch, ingest.ingest, shard_commands.inspect, shard_commands.verify)


def call(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Run one command; returns stdout and stderr. Errors are left to the test, as cli.main prints them."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    for command in COMMANDS:
        app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of two videos with labels, and one reject; made by the command itself."""
    root = tmp_path_factory.mktemp("three_videos", numbered=False)
    write_video(root / "a.mp4", 20, fps=25)
    write_video(root / "b.mp4", 10, fps=10, seed=1)
    (root / "empty.mp4").touch()
    (root / "labels.csv").write_text("path,split,action\na.mp4,train,wave\nb.mp4,test,bow\nempty.mp4,test,bow\n")
    out = tmp_path_factory.mktemp("out") / "shards"
    printed, progress = call("ingest", root, "--out", out, "--clip-frames", 10, "--size", 32, "--workers", 1)
    assert "3 clips of 2 videos in 2 shards" in printed
    assert "1 could not be used" in printed
    assert "empty.mp4: empty: 0 bytes" in printed
    assert "several frame rates: 10 (1), 25 (1)" in printed
    assert "--fps" in printed
    assert "3 of 3 videos, 3 clips, 1 rejected" in progress
    return out


def test_every_command_shows_an_example() -> None:
    for command in COMMANDS:
        text = " ".join(call(command.__name__, "--help")[0].split())
        assert f"Example: kineme {command.__name__}" in text


def test_datasets_says_what_there_is(tmp_path: Path) -> None:
    printed, _ = call("datasets")
    for name in ("folder", "sprites", "moving-digits", "licence", "CC-BY-SA 3.0", "origin"):
        assert name in printed
    rows = {row["name"]: row for row in json.loads(call("datasets", "--json")[0])}
    assert rows["sprites"]["clip_frames"] == 8
    assert rows["sprites"]["present"] is None
    (tmp_path / "a.mp4").touch()
    present = {row["name"]: row["present"] for row in json.loads(call("datasets", tmp_path, "--json")[0])}
    assert {name for name, there in present.items() if there} == {"folder"}
    assert len(present) == 9


def test_fetch_then_ingest_moving_digits(tmp_path: Path) -> None:
    digits, out = tmp_path / "digits", tmp_path / "shards"
    printed, _ = call("fetch", "moving-digits", "--to", digits, "--clips", 5, "--seed", 1)
    assert "wrote 5 clips" in printed
    report = json.loads(call("ingest", digits, "--out", out, "--dataset", "moving-digits", "--workers", 1, "--json")[0])
    assert report == {
        "videos": 5, "clips": 5, "shards": 2, "rejects": [], "rates": {"25": 5},
        "added": 5, "changed": [], "vanished": [], "unchanged": False,
    }  # fmt: skip
    summary = json.loads(call("inspect", out, "--json")[0])
    assert summary["splits"] == {"train": 4, "test": 1}
    assert summary["sizes"] == {"64x64": 5}
    assert summary["clip_frames"] == {"16": 5}
    assert set(summary["labels"]) == {"digits", "directions", "speeds", "wall_hit"}


def test_fetch_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean sprites"):
        call("fetch", "sprits", "--to", tmp_path)
    with pytest.raises(DataError, match="your own videos"):
        call("fetch", "folder", "--to", tmp_path)


def test_inspect_counts(shards: Path, tmp_path: Path) -> None:
    summary = json.loads(call("inspect", shards, "--json")[0])
    assert (summary["clips"], summary["videos"], summary["frames"]) == (3, 2, 30)
    assert summary["seconds"] == pytest.approx(20 / 25 + 10 / 10)
    assert summary["labels"] == {"action": {"wave": 2, "bow": 1}}
    assert summary["rejects"] == {"empty: 0 bytes": 1}
    printed, said = call("inspect", shards, "--sheet", tmp_path / "sheet.png")
    assert "label action: wave (2), bow (1)" in printed
    assert "1 x empty: 0 bytes" in printed
    assert "3 clips drawn" in said
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 3 * 96


def test_ingest_again_says_so(shards: Path) -> None:
    root = shards.parent.parent / "three_videos"
    printed, _ = call("ingest", root, "--out", shards, "--clip-frames", 10, "--size", 32)
    assert "already, nothing to do" in printed


def test_verify_finds_a_changed_shard(shards: Path, tmp_path: Path) -> None:
    assert "3 clips in 2 shards, all as they were written" in call("verify", shards)[0]
    assert json.loads(call("verify", shards, "--json")[0]) == {"problems": []}
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tar = tmp_path / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[2000] ^= 1
    tar.write_bytes(data)
    _, said = call("verify", tmp_path, code=2)
    assert "shard-000000.tar" in said
    assert json.loads(call("verify", tmp_path, "--json", code=2)[0])["problems"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--clip-frames", 0), "--clip-frames 0"),
        (("--fps", 10, "--frame-step", 2), "exclude one another"),
        (("--size", 131), "--size 131"),
        (("--workers", 0), "--workers 0"),
        (("--dataset", "sprites"), r"body/0\.png is missing"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, option: tuple[object, ...], message: str) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match=message) as caught:
        call("ingest", tmp_path, "--out", tmp_path / "out", *option)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
