"""Downloading from a real server that cuts, changes, forgets and lies."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer, serving

from kineme.shards.archives import unpack
from kineme.shards.download import UnreachableError, download
from kineme.shards.errors import DataError

DATA = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()
AT_ONCE = (0.0, 0.0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(file=DATA) as running:
        yield running


def get(server: FileServer, to: Path, **rest: object) -> str:
    return download(f"{server.url}/file", to, **{"pauses_s": AT_ONCE, **rest})  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut_off(server: FileServer, to: Path, at: int = 1_500_000) -> None:
    """Leave an unfinished download behind."""
    server.cuts = [at]
    with pytest.raises(UnreachableError):
        get(server, to, pauses_s=())
    assert to.with_name("f.part").stat().st_size == at
    server.asked.clear()


def test_a_file_comes_whole_and_checked(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    to = tmp_path / "f"
    found = get(server, to, sha256=SHA256, md5=MD5, size=len(DATA), progress=lambda *now: seen.append(now))
    assert found == SHA256
    assert to.read_bytes() == DATA
    assert names(tmp_path) == ["f"]
    assert seen == sorted(seen)
    assert seen[-1] == (len(DATA), len(DATA))
    assert get(server, to, sha256=SHA256) == SHA256
    assert len(server.asked) == 1


def test_a_cut_connection_is_taken_up_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 700_001, 0, 500_000, 0]  # never two in a row that bring nothing
    get(server, tmp_path / "f", sha256=SHA256)
    starts = [None, 1_000_000, 1_700_001, 1_700_001, 2_200_001, 2_200_001]
    assert server.asked == [("/file", start and f"bytes={start}-") for start in starts]
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize("without", ["ranges", "tags"])
def test_without_ranges_or_a_mark_of_the_file_it_starts_over(server: FileServer, tmp_path: Path, without: str) -> None:
    setattr(server, without, False)
    server.cuts = [1_000_000, 2_000_000]
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA
    assert len(server.asked) == 3


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_file_that_changed_meanwhile_is_not_patched_together(
    server: FileServer, tmp_path: Path, stubborn: bool
) -> None:
    cut_off(server, tmp_path / "f")
    server.files["/file"], server.stubborn = OTHER, stubborn
    assert get(server, tmp_path / "f") == hashlib.sha256(OTHER).hexdigest()
    assert (tmp_path / "f").read_bytes() == OTHER
    assert server.asked[0] == ("/file", "bytes=1500000-")


def test_a_file_that_became_shorter_or_another_address_starts_over(server: FileServer, tmp_path: Path) -> None:
    cut_off(server, tmp_path / "f")
    server.files["/file"], server.stubborn = OTHER[:1000], True
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == OTHER[:1000]
    (tmp_path / "f").unlink()
    server.files["/file"], server.stubborn = DATA, False
    cut_off(server, tmp_path / "f")
    server.files["/mirror"] = DATA
    download(f"{server.url}/mirror", tmp_path / "f", sha256=SHA256)
    assert server.asked == [("/mirror", None)]


def test_a_part_of_unknown_origin_is_not_trusted(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    (tmp_path / "f.part.json").write_text("{not json")
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ({"sha256": "0" * 64}, "sha256"),
        ({"md5": "0" * 32}, "md5"),
        ({"size": 5}, "has 3000000 bytes, the published one 5"),
    ],
)
def test_wrong_bytes_leave_nothing(
    server: FileServer, tmp_path: Path, published: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        get(server, tmp_path / "f", **published)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "f.part").exists()


def test_a_file_that_is_there_and_another_one_is_left_alone(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mine")
    with pytest.raises(DataError, match="move it away"):
        get(server, tmp_path / "f", sha256=SHA256)
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert not server.asked


def test_no_such_file_is_final_and_a_busy_server_is_not(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="HTTP 404") as caught:
        download(f"{server.url}/none", tmp_path / "f", pauses_s=AT_ONCE)
    assert f"place it as {tmp_path / 'f'}" in str(caught.value)
    assert len(server.asked) == 1
    server.statuses = [503, 429]
    get(server, tmp_path / "f", sha256=SHA256)
    (tmp_path / "f").unlink()
    server.statuses = [503] * 9
    with pytest.raises(UnreachableError, match="HTTP 503"):
        get(server, tmp_path / "f")
    assert len(server.statuses) == 6
    assert names(tmp_path) == []


def test_offline_says_what_to_place_where(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/f"
        for url in (nobody, "http://kineme.invalid/f"):
            with pytest.raises(UnreachableError) as caught:
                download(url, tmp_path / "f", pauses_s=AT_ONCE)
            assert str(caught.value).startswith(url)
            assert f"place it as {tmp_path / 'f'}" in str(caught.value)
            assert "\n" not in str(caught.value)
    assert names(tmp_path) == []
    with pytest.raises(DataError, match="only http"):
        download("file:///etc/hostname", tmp_path / "f")


def test_an_end_that_could_be_a_cut_needs_a_checksum(server: FileServer, tmp_path: Path) -> None:
    server.lengths = False
    with pytest.raises(UnreachableError, match="how long"):
        get(server, tmp_path / "f")
    get(server, tmp_path / "f", sha256=SHA256)
    assert (tmp_path / "f").read_bytes() == DATA


DOWNLOAD = """
import resource, sys
from pathlib import Path
from kineme.shards.download import download
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    download(sys.argv[1], Path(sys.argv[2]))
except OSError as error:
    sys.exit(f"{type(error).__name__} {error.filename}: {error.strerror}")
"""


def test_a_killed_download_is_taken_up_again(server: FileServer, tmp_path: Path) -> None:
    server.pause_s = 0.05
    part = tmp_path / "f.part"
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, f"{server.url}/file", tmp_path / "f"])
    try:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(DataError, match="another download"):
            get(server, tmp_path / "f")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    length = part.stat().st_size
    assert 0 < length < len(DATA)
    assert not (tmp_path / "f").exists()
    server.asked.clear()
    server.pause_s = 0
    get(server, tmp_path / "f", sha256=SHA256)
    assert server.asked == [("/file", f"bytes={length}-")]
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_full_disk_keeps_what_has_come(server: FileServer, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DOWNLOAD, f"{server.url}/file", tmp_path / "f", "2000000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "f.part: File too large; what has come is kept" in done.stderr
    assert (tmp_path / "f.part").stat().st_size == 2_000_000
    server.asked.clear()
    get(server, tmp_path / "f", sha256=SHA256)
    assert server.asked == [("/file", "bytes=2000000-")]


def make_archive(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in members.items():
                zipped.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz") as tarred:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tarred.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_archives_are_unpacked_among_what_is_there(tmp_path: Path, suffix: str) -> None:
    archive = make_archive(tmp_path / f"a.{suffix}", {"d/one.txt": b"1", "d/e/two.txt": b"22", "three": b"333"})
    to = tmp_path / "to"
    (to / "d").mkdir(parents=True)
    (to / "d" / "mine").write_text("mine")
    (to / "three").write_text("old")
    assert unpack(archive, to) == {"d/e/two.txt": 2, "d/one.txt": 1, "three": 3}
    assert names(to) == ["d", "three"]
    assert names(to / "d") == ["e", "mine", "one.txt"]
    assert (to / "three").read_bytes() == b"333"


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
@pytest.mark.parametrize("evil", ["../evil", "d/../../evil"])
def test_no_archive_writes_elsewhere(tmp_path: Path, suffix: str, evil: str) -> None:
    archive = make_archive(tmp_path / f"a.{suffix}", {"good": b"1", evil: b"2"})
    with pytest.raises(DataError, match="not the file it should be"):
        unpack(archive, tmp_path / "to")
    assert names(tmp_path / "to") == []
    assert names(tmp_path) == [archive.name, "to"]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tarred:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tarred.addfile(link)
    with pytest.raises(DataError, match="unsafe"):
        unpack(tmp_path / "a.tar", tmp_path / "to")


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    archive = make_archive(tmp_path / f"a.{suffix}", {"one": OTHER, "two": DATA})
    data = bytearray(archive.read_bytes())
    data[2_000_000:2_000_100] = bytes(100)
    for damaged in (bytes(data), bytes(data[:1_000_000]), b"not an archive"):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match="get it again"):
            unpack(archive, tmp_path / "to")
        assert names(tmp_path / "to") == []
