"""Getting a data set's files: from tables of addresses, by a real server."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer, serving
from typer.testing import CliRunner

from kineme.pipeline.cli import app
from kineme.shards.download import UnreachableError
from kineme.shards.errors import DataError
from kineme.shards.sources.base import NOBODY, FetchOptions, Watcher
from kineme.shards.sources.fetching import CHECKSUMS, fetch_files, fetch_origin
from kineme.shards.sources.moving_mnist import MovingMnistSource
from kineme.shards.sources.origins import ORIGINS, Origin, OriginFile, ZenodoFiles
from kineme.shards.sources.sprites import SpritesSource
from kineme.shards.sources.weizmann import WeizmannSource


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


FILES = {"a": b"first" * 100, "b": b"second" * 100, "z": zipped({"d/one.avi": b"1" * 10, "d/two.avi": b"2" * 20})}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(**FILES) as running:
        yield running


@pytest.fixture
def origin(server: FileServer) -> Origin:
    return Origin(
        licence="CC0, by nobody",
        page="https://example.org/set",
        files=(
            OriginFile("sub/a", (f"{server.url}/a",), len(FILES["a"]), sha256(FILES["a"])),
            OriginFile("b", (f"{server.url}/b",)),
            OriginFile("z.zip", (f"{server.url}/z",), unpacks=True),
            OriginFile("big", (f"{server.url}/a",), extra=True),
        ),
    )


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


WHOLE = [".z.zip.unpacked", CHECKSUMS, "b", "d/one.avi", "d/two.avi", "sub/a"]


def test_everything_comes_once_and_the_licence_first(server: FileServer, origin: Origin, tmp_path: Path) -> None:
    said: list[str] = []
    progress: list[tuple[str, int, int | None]] = []

    def say(text: str) -> None:
        assert not server.asked
        said.append(text)

    watcher = Watcher(say, lambda *now: progress.append(now))
    line = fetch_origin("set", origin, tmp_path / "set", watcher)
    assert "CC0, by nobody" in said[0]
    assert tree(tmp_path / "set") == WHOLE
    assert line.startswith(f"set: 3 files in {tmp_path / 'set'}, 3 of them got now")
    assert "nobody publishes checksums for 2 of them" in line
    assert ("sub/a", len(FILES["a"]), len(FILES["a"])) in progress
    server.asked.clear()
    said.clear()
    assert "0 of them got now" in fetch_origin("set", origin, tmp_path / "set", watcher)
    assert not server.asked
    assert not said
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "set" / CHECKSUMS).read_text().splitlines())
    assert sums == {"sub/a": sha256(FILES["a"]), "b": sha256(FILES["b"]), "z.zip": sha256(FILES["z"])}


def test_what_is_gone_or_asked_for_comes_again(server: FileServer, origin: Origin, tmp_path: Path) -> None:
    fetch_origin("set", origin, tmp_path)
    (tmp_path / "d" / "one.avi").write_bytes(b"cut")
    server.asked.clear()
    fetch_origin("set", origin, tmp_path)
    assert [path for path, _ in server.asked] == ["/z"]
    assert (tmp_path / "d" / "one.avi").read_bytes() == b"1" * 10
    fetch_origin("set", origin, tmp_path, extras=("big",))
    assert tree(tmp_path) == sorted([*WHOLE, "big"])


def test_a_file_that_differs_from_the_first_time_is_noticed(server: FileServer, origin: Origin, tmp_path: Path) -> None:
    fetch_origin("set", origin, tmp_path)
    (tmp_path / "b").unlink()
    server.files["/b"] = b"another"
    with pytest.raises(DataError, match="another one than in SHA256SUMS"):
        fetch_origin("set", origin, tmp_path)
    with pytest.raises(DataError, match="another one than in SHA256SUMS"):
        fetch_origin("set", origin, tmp_path)


def test_files_put_there_by_hand_count(server: FileServer, origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(FILES["a"])
    (tmp_path / "z.zip").write_bytes(FILES["z"])
    assert "1 of them got now" in fetch_origin("set", origin, tmp_path)
    assert [path for path, _ in server.asked] == ["/b"]
    assert tree(tmp_path) == WHOLE
    (tmp_path / "sub" / "a").write_bytes(b"wrong")
    with pytest.raises(DataError, match="not the published file"):
        fetch_origin("set", origin, tmp_path)


def test_a_mirror_steps_in(server: FileServer, tmp_path: Path) -> None:
    file = OriginFile("a", (f"{server.url}/gone", f"{server.url}/b", f"{server.url}/a"), sha256=sha256(FILES["a"]))
    line = fetch_origin("set", Origin("CC0", "https://example.org", (file,)), tmp_path)
    assert line.endswith("checksums are as published")
    assert (tmp_path / "a").read_bytes() == FILES["a"]
    nowhere = replace(file, urls=file.urls[:2])
    (tmp_path / "a").unlink()
    with pytest.raises(DataError, match=re.escape(f"{server.url}/gone: cannot be had")):
        fetch_origin("set", Origin("CC0", "https://example.org", (nowhere,)), tmp_path)


def test_offline_is_one_line_with_address_place_and_page(tmp_path: Path) -> None:
    origin = Origin("CC0", "https://example.org/set", (OriginFile("sub/a", ("http://kineme.invalid/a",)),))
    with pytest.raises(UnreachableError) as caught:
        fetch_origin("set", origin, tmp_path / "to")
    for part in ("http://kineme.invalid/a", str(tmp_path / "to" / "sub" / "a"), "https://example.org/set"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        fetch_origin("set", origin, tmp_path / "file")


def test_zenodo_says_its_checksums_itself(server: FileServer, tmp_path: Path) -> None:
    def entry(key: str, checksum: str) -> dict[str, object]:
        address = f"{server.url}/z"
        return {"key": key, "size": len(FILES["z"]), "checksum": f"md5:{checksum}", "links": {"self": address}}

    md5 = hashlib.md5(FILES["z"]).hexdigest()
    origin = Origin("CC0", "https://example.org", ZenodoFiles(f"{server.url}/record", r"Video_\d\d\.zip"))
    files = [entry("Video_01.zip", md5), entry("../Video_02.zip", md5), entry("Audio.zip", md5)]
    server.files["/record"] = json.dumps({"files": files}).encode()
    assert "1 files" in fetch_origin("set", origin, tmp_path / "good")
    assert tree(tmp_path / "good") == [".Video_01.zip.unpacked", CHECKSUMS, "d/one.avi", "d/two.avi"]
    server.files["/record"] = json.dumps({"files": [entry("Video_01.zip", "0" * 32)]}).encode()
    with pytest.raises(DataError, match="md5"):
        fetch_origin("set", origin, tmp_path / "wrong")
    for strange in (b"<html>", b"{}", b'{"files": []}', b'{"files": [{"key": "Video_01.zip"}]}', b"[1]"):
        server.files["/record"] = strange
        with pytest.raises(DataError, match=f"^{server.url}/record"):
            fetch_origin("set", origin, tmp_path / "strange")
    del server.files["/record"]
    with pytest.raises(UnreachableError, match=r"404.*example\.org"):
        fetch_origin("set", origin, tmp_path / "none")


def test_the_tables_are_well_formed() -> None:
    for origin in ORIGINS.values():
        assert origin.licence
        assert origin.page.startswith("https://")
        files = () if isinstance(origin.files, ZenodoFiles) else origin.files
        assert len({file.path for file in files}) == len(files)
        for file in files:
            assert all(url.startswith(("https://", "http://")) for url in file.urls)
            assert not Path(file.path).is_absolute()
            assert file.sha256 is None or (re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size)


def test_the_tables_know_the_real_files(data_dir: Path, tmp_path: Path) -> None:
    for name in ("sprites", "mnist"):
        shutil.copytree(data_dir / name, tmp_path / name)
        for path in (tmp_path / name).rglob("*"):
            path.chmod(0o755)
        (tmp_path / name).chmod(0o755)
    assert "25 files" in SpritesSource().fetch(tmp_path / "sprites", FetchOptions())
    # The training images there were compressed anew: their bytes differ from those that are published.
    files = ORIGINS["moving-mnist"].files
    assert isinstance(files, tuple)
    others = tuple(file for file in files if not file.extra and not file.path.startswith("train-images"))
    assert "0 of them got now" in fetch_origin(
        "mnist", replace(ORIGINS["moving-mnist"], files=others), tmp_path / "mnist"
    )
    assert MovingMnistSource().present(tmp_path / "mnist")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: is not the published file"):
        fetch_files("moving-mnist", tmp_path / "mnist", NOBODY)


def test_the_command_line_says_what_it_does(
    server: FileServer, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ORIGINS, "sprites", origin)
    done = CliRunner().invoke(app, ["fetch", "sprites", "--to", str(tmp_path / "to")])
    assert done.exit_code == 0
    assert done.stdout.startswith("sprites: 3 files in")
    assert "CC0, by nobody" in done.stderr
    assert "b: 0.0 of 0.0 MB" in done.stderr
    done = CliRunner().invoke(app, ["fetch", "sprites", "--to", str(tmp_path / "to"), "--option", "colour=red"])
    assert isinstance(done.exception, DataError)


def test_videos_put_there_by_hand_are_not_got_again(
    server: FileServer, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ORIGINS, "weizmann", origin)
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / "daria_walk.avi").touch()
    assert WeizmannSource().fetch(tmp_path / "hand", FetchOptions()) == f"weizmann: videos are in {tmp_path / 'hand'}"
    assert not server.asked
    assert "3 of them got now" in WeizmannSource().fetch(tmp_path / "new", FetchOptions())
    (tmp_path / "new" / "daria_walk.avi").touch()
    (tmp_path / "new" / "b").unlink()
    assert "1 of them got now" in WeizmannSource().fetch(tmp_path / "new", FetchOptions())
