"""rejects.parquet: which sources could not be used, and why."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kineme.shards.errors import ANEW, DataError

REJECTS = "rejects.parquet"

_COLUMNS = pa.schema([("path", pa.string()), ("reason", pa.string())])


class Reject(NamedTuple):
    """A source that could not be used: its path relative to the root, and the reason."""

    path: str
    reason: str


def to_parquet(rejects: Sequence[Reject]) -> bytes:
    """The table as a parquet file, columns path and reason, also if there are none."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([reject._asdict() for reject in rejects], schema=_COLUMNS), buffer)
    return buffer.getvalue()


def read_rejects(folder: Path) -> list[Reject]:
    """The rejects of a shards folder. Raises DataError if the file is missing or no such table."""
    path = folder / REJECTS
    try:
        return [Reject(**row) for row in pq.read_table(path, schema=_COLUMNS).to_pylist()]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: no readable table of rejects ({error}); {ANEW}") from error
