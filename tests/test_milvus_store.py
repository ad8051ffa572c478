"""Addresses of Milvus, and what is said when it cannot be reached."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.kinds.milvus import milvus_structures
from kineme.retrieval.milvus_store import parse_name, parse_store

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.mark.parametrize(
    ("url", "stored", "uri", "name"),
    [
        ("milvus://db.lab:19531", "milvus://db.lab:19531", "http://db.lab:19531", "kineme"),
        ("milvus://db.lab/walks", "milvus://db.lab:19530", "http://db.lab:19530", "walks"),
        ("milvus+tls://db.lab:443/walks", "milvus+tls://db.lab:443", "https://db.lab:443", "walks"),
        ("milvus://[::1]:19530", "milvus://[::1]:19530", "http://[::1]:19530", "kineme"),
        ("milvus:///data/v.db", "milvus:///data/v.db", "/data/v.db", "kineme"),
        ("milvus:///data/v.db/walks", "milvus:///data/v.db", "/data/v.db", "walks"),
        ("milvus:///a.db/v.db", "milvus:///a.db/v.db", "/a.db/v.db", "kineme"),
    ],
)
def test_addresses(url: str, stored: str, uri: str, name: str) -> None:
    store = parse_store(url)
    assert (store.url, store.uri, store.name) == (stored, uri, name)
    assert parse_store(store.location(store.name)) == store


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://db.lab:19530", "expected"),
        ("milvus://", "expected"),
        ("milvus:///data/vectors", "expected"),
        ("milvus:///data/v.db/a/b", "expected"),
        ("milvus://db.lab:port", "Port"),
        ("milvus://db.lab/two/names", "collection 'two/names'"),
        ("milvus:///v.db/4ever", "collection '4ever'"),
        ("milvus://db.lab/x?token=secret", "expected"),
        ("milvus+tls:///data/v.db", "expected"),
    ],
)
def test_addresses_that_are_none(url: str, why: str) -> None:
    with pytest.raises(RetrievalError, match=why):
        parse_store(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(RetrievalError, match="KINEME_MILVUS_TOKEN") as raised:
        parse_store("milvus://root:s3cret@db.lab:19530")
    assert "s3cret" not in str(raised.value)


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(RetrievalError, match=r"pip install 'kineme\[milvus\]'"):
        milvus_structures("milvus://db.lab")


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=f"there is no folder {tmp_path}/absent"):
        milvus_structures(f"milvus://{tmp_path}/absent/vectors.db")
    assert not (tmp_path / "absent").exists()


def test_names_of_collections_say_whose_they_are() -> None:
    named = parse_name("my_walks_0123456789ab_1f2e_000012")
    assert named is not None
    assert (named.base, named.uid, named.home, named.generation) == ("my_walks", "0123456789ab", "1f2e", 12)
    assert str(named) == "my_walks_0123456789ab_1f2e_000012"
    assert named.of_one_index(parse_name("my_walks_0123456789ab_1f2e_000007"))
    for other in (
        "walks_0123456789ab_1f2e_000012",
        "my_walks_0123456789aa_1f2e_000012",
        "my_walks_0123456789ab_1f_000012",
    ):
        assert not named.of_one_index(parse_name(other))
    for foreign in (
        "kineme",
        "kineme_000012",
        "my_walks_0123456789AB_1f2e_000012",
        "my_walks_0123456789ab_1f2e_000012x",
    ):
        assert parse_name(foreign) is None


def test_a_server_that_does_not_answer_is_said_at_once_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        RetrievalError, match=r"^milvus://127.0.0.1:9: .*server unavailable.*check the address"
    ) as raised:
        milvus_structures("milvus://127.0.0.1:9")
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_in_use_by_another_process_is_said_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    milvus = tmp_path / "vectors.db"
    with _held_by_another(milvus), pytest.raises(RetrievalError, match="one at a time") as raised:
        milvus_structures(f"milvus://{milvus}")
    assert "\n" not in str(raised.value)
    assert "Traceback" not in capfd.readouterr().err


@contextmanager
def _held_by_another(file: Path) -> Iterator[None]:
    code = "import sys, pymilvus; pymilvus.MilvusClient(sys.argv[1]); print('open', flush=True); input()"
    command = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        yield
        other.communicate("\n")
