"""The journal of an unfinished ingest: one durable line a finished shard, so that the same command can go on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from kineme.shards.errors import DataError
from kineme.shards.manifest import ShardEntry, write_atomically
from kineme.shards.rejects import Reject

JOURNAL = "ingest.journal"


@dataclass
class Step:
    """What happened from one finished shard to the next.

    Attributes:
        shard: the finished one; None until then.
        position: number of items done with, counted from the first of all.
        rejects: those met since the shard before.
        sources: path by key prefix, of the videos in this shard.
        rates: videos of this shard by their own frame rate.
    """

    position: int
    shard: ShardEntry | None = None
    rejects: list[Reject] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    rates: dict[float, int] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """JSON and a line end."""
        return json.dumps({**asdict(self), "rates": list(self.rates.items())}).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Step:
        """The inverse of :meth:`to_line`."""
        fields: dict[str, Any] = json.loads(line)
        return cls(
            position=fields["position"],
            shard=ShardEntry(**fields["shard"]),
            rejects=[Reject(*reject) for reject in fields["rejects"]],
            sources=fields["sources"],
            rates=dict(fields["rates"]),
        )


class Journal:
    """The open journal of ``folder``, locked against a second ingest; a context manager.

    Attributes:
        steps: what was finished before, in order.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        """Open the journal, or begin one that says ``settings``.

        Raises:
            DataError: it belongs to other settings, is damaged, or another ingest is writing here now.
        """
        self._path = folder / JOURNAL
        header = json.dumps(dict(settings), sort_keys=True).encode() + b"\n"
        if not self._path.exists():
            write_atomically(self._path, header)
        self._file: BinaryIO = self._path.open("r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.steps = self._read(folder, header)
        except BlockingIOError as error:
            self._file.close()
            raise DataError(f"{folder}: another kineme ingest is writing here; wait for it, or stop it") from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, step: Step) -> None:
        """Append a step and make it durable."""
        self._file.write(step.to_line())
        self._file.flush()
        os.fsync(self._file.fileno())

    def remove(self) -> None:
        """The ingest is finished."""
        self._path.unlink()

    def _read(self, folder: Path, header: bytes) -> list[Step]:
        lines = self._file.read().splitlines(keepends=True)
        if not lines or lines[0] != header:
            different = _different(lines[0] if lines else b"{}", header)
            raise DataError(
                f"{folder}: holds an unfinished ingest of other {different}; give another --out, or delete this folder"
            )
        # A last line without an end was being written when the machine stopped.
        whole = [line for line in lines if line.endswith(b"\n")]
        self._file.seek(sum(map(len, whole)))
        self._file.truncate()
        try:
            return [Step.from_line(line) for line in whole[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path}: damaged ({error}); delete {folder} and ingest again") from error


def _different(old: bytes, new: bytes) -> str:
    try:
        return different_settings(json.loads(old), json.loads(new))
    except ValueError:
        return "settings"


def different_settings(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """Which settings differ, for a message: ``size (64, not 32)``."""
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return ", ".join(
        "videos or labels" if name == "items" else f"{name} ({old.get(name)}, now {new.get(name)})" for name in names
    )
