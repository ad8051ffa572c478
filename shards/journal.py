"""The journal of an unfinished ingest: what is planned, and one durable line a finished shard, so that it can go on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from kineme.shards.errors import DataError
from kineme.shards.inventory import Entry, read_entries, to_parquet
from kineme.shards.manifest import ShardEntry, write_atomically
from kineme.shards.shard_work import Outcome, ShardResult

JOURNAL = "ingest.journal"
PLAN = "ingest.plan"


class Journal:
    """The open journal of a folder; a context manager.

    Attributes:
        plan: entries of the videos that this ingest is about.
        results: the shards finished before, by number.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        """Open the journal that :meth:`begin` began.

        Raises:
            DataError: it belongs to other settings, or is damaged.
        """
        self._folder = folder
        self._path = folder / JOURNAL
        self._file: BinaryIO = self._path.open("r+b")
        try:
            lines = self._whole_lines()
            self._check_header(lines[0] if lines else b"{}", settings)
            self.plan = read_entries(folder / PLAN)
            self.results = {result.number: result for result in self._results(lines[1:])}
        except BaseException:
            self._file.close()
            raise

    @staticmethod
    def begin(folder: Path, settings: Mapping[str, object], plan: Sequence[Entry]) -> None:
        """Make a plan durable; the journal's existence says that it is."""
        data = to_parquet(plan)
        header = {"settings": dict(settings), "plan": hashlib.sha256(data).hexdigest()}
        write_atomically(folder / PLAN, data)
        write_atomically(folder / JOURNAL, json.dumps(header, sort_keys=True).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, result: ShardResult) -> None:
        """Append a finished shard and make it durable."""
        self._file.write(_to_line(result))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.results[result.number] = result

    def remove(self) -> None:
        """The ingest is finished."""
        self._path.unlink()
        (self._folder / PLAN).unlink()

    def _whole_lines(self) -> list[bytes]:
        """A last line without an end was being written when the machine stopped."""
        whole = [line for line in self._file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        self._file.seek(sum(map(len, whole)))
        self._file.truncate()
        return whole

    def _check_header(self, line: bytes, settings: Mapping[str, object]) -> None:
        try:
            header = json.loads(line)
            old, plan = header["settings"], header["plan"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error
        if old != settings:
            different = different_settings(old, settings)
            raise DataError(
                f"{self._folder}: holds an unfinished ingest of other {different}; give another --out, "
                "or delete this folder"
            )
        path = self._folder / PLAN
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != plan:
            raise self._damaged(f"{PLAN} is missing or altered")

    def _results(self, lines: Sequence[bytes]) -> Iterator[ShardResult]:
        try:
            yield from map(_from_line, lines)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: object) -> DataError:
        return DataError(f"{self._path}: damaged ({error}); delete {self._folder} and ingest again")


def _to_line(result: ShardResult) -> bytes:
    fields = {
        "number": result.number,
        "entry": None if result.entry is None else vars(result.entry),
        "outcomes": result.outcomes,
        "rates": list(result.rates.items()),
    }
    return json.dumps(fields).encode() + b"\n"


def _from_line(line: bytes) -> ShardResult:
    fields: dict[str, Any] = json.loads(line)
    return ShardResult(
        number=fields["number"],
        entry=None if fields["entry"] is None else ShardEntry(**fields["entry"]),
        outcomes=[Outcome(*outcome) for outcome in fields["outcomes"]],
        rates=dict(fields["rates"]),
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second ingest out of ``folder``; the system lets go of the lock when the process ends, however it ends.

    Raises:
        DataError: another ingest is writing there.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another kineme ingest is writing here; wait for it, or stop it") from error
        yield
    finally:
        os.close(handle)


def different_settings(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """Which settings differ, for a message: ``size (64, now 32)``."""
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} ({old.get(name)}, now {new.get(name)})" for name in names)
