"""Where a Milvus is, how it is reached, and which of its collections are an index's own.

    milvus://HOST:PORT[/COLLECTION]            a server; milvus+tls:// for one that speaks TLS
    milvus:///PATH/TO/FILE.db[/COLLECTION]     Milvus Lite, in this process, in a file whose name ends in .db

COLLECTION is what the names of the collections begin with, "kineme" if not given. The token, or ``user:password``, is
read from the environment alone (`TOKEN_VARIABLE`), so that it is never stored.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from kineme.retrieval.errors import RetrievalError

TOKEN_VARIABLE = "KINEME_MILVUS_TOKEN"
DEFAULT_NAME = "kineme"
_FORM = "milvus://HOST:PORT[/COLLECTION] or milvus:///PATH/FILE.db[/COLLECTION] expected"
_PORT = 19530
_CONNECT_S = 10
# Milvus allows 255 characters; what `CollectionName` adds to a name is fewer than 60.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,149}")
_OWN = re.compile(r"(?P<base>\w+)_(?P<uid>[0-9a-f]{12})_(?P<home>[0-9a-f]+)_(?P<generation>\d{6,})", re.ASCII)


@dataclass(frozen=True)
class Store:
    """A Milvus and the name that an index takes there.

    Attributes:
        url: of the Milvus, as it is stored: without a collection, without a token.
        uri: the same as the client wants it.
        name: of a collection, or what the names of several begin with.
    """

    url: str
    uri: str
    name: str

    @property
    def file(self) -> Path | None:
        """Of Milvus Lite; None for a server."""
        return Path(self.uri) if self.uri.startswith("/") else None

    def location(self, collection: str) -> str:
        """The address of a collection."""
        return f"{self.url}/{collection}"


@dataclass(frozen=True)
class CollectionName:
    """The name of a collection that holds one generation of one index, and says so.

    Attributes:
        base: what the user calls it.
        uid: drawn when the index first went to Milvus, 12 hexadecimal digits.
        home: of the index folder (`home_of`). A copy of the folder knows the uid too, but stands elsewhere.
        generation: of the index.
    """

    base: str
    uid: str
    home: str
    generation: int

    def __str__(self) -> str:
        return f"{self.base}_{self.uid}_{self.home}_{self.generation:06d}"

    def of_one_index(self, other: CollectionName | None) -> bool:
        """Whether both hold generations of the same index folder, so that one may drop the other."""
        return other is not None and (self.base, self.uid, self.home) == (other.base, other.uid, other.home)


def parse_store(url: str) -> Store:
    """A Milvus by its address.

    Raises:
        RetrievalError: not such an address, or one with a password.
    """
    try:
        parts = urlsplit(url)
        host, port, secret = parts.hostname, parts.port, parts.username is not None or parts.password is not None
    except ValueError as error:
        raise RetrievalError(f"store {url!r}: {error}; {_FORM}") from None
    if secret:
        raise RetrievalError(f"store of {host}: it holds a password, and would be stored; set {TOKEN_VARIABLE} instead")
    if parts.scheme not in ("milvus", "milvus+tls") or parts.query or parts.fragment:
        raise RetrievalError(f"store {url!r}: {_FORM}")
    if host is None:
        return _file_store(url, PurePosixPath(parts.path), tls=parts.scheme != "milvus")
    address = f"{f'[{host}]' if ':' in host else host}:{port or _PORT}"
    scheme = "https" if parts.scheme == "milvus+tls" else "http"
    return Store(f"{parts.scheme}://{address}", f"{scheme}://{address}", _checked_name(url, parts.path.strip("/")))


def parse_name(collection: str) -> CollectionName | None:
    """What the name of a collection says; None if no index gave it."""
    found = _OWN.fullmatch(collection)
    return found and CollectionName(found["base"], found["uid"], found["home"], int(found["generation"]))


def home_of(folder: Path) -> str:
    """What tells an index folder from its copies, and stays when it is renamed."""
    return f"{folder.stat().st_ino:x}"


def connect(store: Store) -> Any:
    """The client of a Milvus, one for all who ask.

    Raises:
        RetrievalError: the client is not installed, the address does not answer or refuses the token, or the file
            is in use.
    """
    try:
        import pymilvus  # noqa: F401
    except ImportError:
        raise RetrievalError(f"{store.url}: the Milvus client is not installed: pip install 'kineme[milvus]'") from None
    # Both print a traceback for what is raised besides, and told in one line here.
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if store.file is not None and not store.file.parent.is_dir():
        raise RetrievalError(f"{store.url}: there is no folder {store.file.parent}; make it, or name another file")
    mend = f"check the address, that it runs, and {TOKEN_VARIABLE}"
    if store.file is not None:
        mend = "it may be open in another process: such a file is for one at a time"
    with one_line(store, mend):
        return _client(store.uri, os.environ.get(TOKEN_VARIABLE, ""), in_process=store.file is not None)


@contextmanager
def one_line(store: Store, mend: str) -> Iterator[None]:
    """What goes wrong with Milvus in the block becomes a RetrievalError that ends with ``mend``."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        told = getattr(error, "message", "") or getattr(error, "details", lambda: "")() or type(error).__name__
        raise RetrievalError(f"{store.url}: {' '.join(str(told).split())}; {mend}") from None


@cache
def _client(uri: str, token: str, *, in_process: bool) -> Any:
    from pymilvus import MilvusClient

    # Milvus Lite answers the client's signs of life, every ten seconds, by hanging up.
    options = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": False}
    return MilvusClient(uri, token=token, timeout=_CONNECT_S, grpc_options=options if in_process else {})


def _file_store(url: str, path: PurePosixPath, *, tls: bool) -> Store:
    name = ""
    if path.suffix != ".db":
        path, name = path.parent, path.name
    if path.suffix != ".db" or tls:
        raise RetrievalError(f"store {url!r}: {_FORM}")
    return Store(f"milvus://{path}", str(path), _checked_name(url, name))


def _checked_name(url: str, name: str) -> str:
    if name and not _NAME.fullmatch(name):
        raise RetrievalError(f"store {url!r}: collection {name!r}: letters, digits and _ expected, at most 150")
    return name or DEFAULT_NAME
