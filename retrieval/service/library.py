"""The index that a service answers from: a newer one on the disk takes its place while requests go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pyarrow.compute as pc

from kineme.retrieval.commits import INFO_FILE
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.service.studio import Reader

CHECK_S = 1.0
"""A changed index is noticed by the first request after so many seconds."""
_VALUES = 50
_log = logging.getLogger("kineme.service")


class ReaderMaker(Protocol):
    """The part of a Studio that a library needs."""

    def reader(self, index: Index) -> Reader:
        """See `kineme.retrieval.service.studio.Studio`."""


@dataclass(frozen=True)
class Opened:
    """An index that is open, and what reads videos for it. Whoever holds one may go on with it after a newer came."""

    index: Index
    reader: Reader

    @property
    def generation(self) -> int:
        """Counts the changes of the index folder."""
        return self.index.info.generation

    @cached_property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """How many clips have each value of each label; of a label with more values than 50, the most frequent."""
        return {label: _most_frequent(self.index, column) for column, label in self.index.label_columns.items()}


def _most_frequent(index: Index, column: str) -> Mapping[str, int]:
    counted = pc.value_counts(index.table.column(column).drop_null()).to_pylist()
    pairs = sorted(((str(row["values"]), int(row["counts"])) for row in counted), key=lambda pair: (-pair[1], pair[0]))
    return dict(pairs[:_VALUES])


class Library:
    """The open index of a folder. Safe to share between threads.

    Args:
        folder: the index.
        studio: what reads videos for it.
        check_s: seconds between two looks at the folder.

    Raises:
        RetrievalError: it cannot be opened.
    """

    def __init__(self, folder: Path, studio: ReaderMaker, *, check_s: float = CHECK_S) -> None:
        self._folder = folder
        self._studio = studio
        self._check_s = check_s
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="kineme-library")
        self._checking = threading.Lock()
        self._checked = time.monotonic()
        # Before the index is opened: a change in between is then seen as one.
        self._seen = self._stamp()
        self._opened = self._open()
        self.trouble: str | None = None
        """Why a newer index could not be opened; None if there is none."""

    @property
    def index(self) -> Index:
        """The newest index that could be opened."""
        return self.current().index

    def current(self) -> Opened:
        """The newest index that could be opened; at most once in ``check_s`` seconds the folder is looked at for a
        newer one, which is opened meanwhile and is there for later calls.
        """
        if time.monotonic() - self._checked >= self._check_s and self._checking.acquire(blocking=False):
            self._opener.submit(self._refresh)
        return self._opened

    def close(self) -> None:
        """Look no more."""
        self._opener.shutdown(wait=True, cancel_futures=True)

    def _refresh(self) -> None:
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._opened, self.trouble = self._open(), None
                self._seen = stamp
                _log.info("index of generation %d opened", self._opened.generation)
        # Whatever is wrong with the new one, the old one is still good.
        except Exception as error:  # noqa: BLE001
            told = " ".join(str(error).split()) if isinstance(error, RetrievalError | OSError) else type(error).__name__
            # Where the index lies is not the business of strangers, who are told of the trouble, too.
            trouble = told.replace(str(self._folder), "the index")
            if trouble != self.trouble:
                _log.warning("the newer index cannot be opened, the old one stays: %s", told)
            self.trouble = trouble
        finally:
            self._checked = time.monotonic()
            self._checking.release()

    def _open(self) -> Opened:
        index = open_index(self._folder)
        # What an index works out at its first use, the first request need not wait for.
        index.has("")
        index.filter  # noqa: B018
        return Opened(index, self._studio.reader(index))

    def _stamp(self) -> tuple[int, int, int] | None:
        """What tells cheaply whether index.json was replaced; every change of an index does it."""
        try:
            status = (self._folder / INFO_FILE).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
