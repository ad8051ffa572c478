"""The parquet beside a shard: one row a clip, with every field of its record and where its video lies in the tar."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kineme.shards.errors import ANEW, DataError
from kineme.shards.manifest import Manifest
from kineme.shards.sample import ClipRecord

# Labels differ from data set to data set, so they are one JSON string, which duckdb's JSON functions can read.
_COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("labels", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("fps", pa.float64()),
        ("num_frames", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("codec", pa.string()),
        ("schema", pa.int64()),
        ("mp4_offset", pa.int64()),
        ("mp4_size", pa.int64()),
    ]
)
_RECORD_FIELDS = [field.name for field in fields(ClipRecord)]


@dataclass(frozen=True)
class ClipRow:
    """A clip's record, and the offset and size in bytes of its mp4 within the tar."""

    record: ClipRecord
    mp4_offset: int
    mp4_size: int


def rows_to_parquet(rows: Sequence[ClipRow]) -> bytes:
    """The parquet file of one shard; equal rows are equal bytes (of one pyarrow version)."""
    columns: dict[str, list[object]] = {name: [getattr(row.record, name) for row in rows] for name in _RECORD_FIELDS}
    columns["labels"] = [json.dumps(dict(row.record.labels), ensure_ascii=False, sort_keys=True) for row in rows]
    columns["mp4_offset"] = [row.mp4_offset for row in rows]
    columns["mp4_size"] = [row.mp4_size for row in rows]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_COLUMNS), buffer, compression="zstd")
    return buffer.getvalue()


def read_rows(parquet: Path, key: str | None = None) -> list[ClipRow]:
    """The rows of one shard's parquet, in the order of the tar; with ``key``, the rows of that clip alone.

    Raises:
        DataError: the file is missing, no parquet, or lacks columns.
    """
    with _readable(parquet):
        filters = None if key is None else [("key", "=", key)]
        table = pq.read_table(parquet, columns=_COLUMNS.names, filters=filters, partitioning=None)
        return [_row(row) for row in table.cast(_COLUMNS).to_pylist()]


@contextmanager
def _readable(parquet: Path) -> Iterator[None]:
    if not parquet.is_file():
        raise DataError(f"{parquet}: the manifest names this file and it is missing; {ANEW}")
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DataError(f"{parquet}: not a readable parquet of clips ({error}); {ANEW}") from error


def _row(columns: dict[str, Any]) -> ClipRow:
    record = {name: columns[name] for name in _RECORD_FIELDS}
    record["labels"] = json.loads(columns["labels"])
    return ClipRow(ClipRecord(**record), columns["mp4_offset"], columns["mp4_size"])


def read_records(folder: Path) -> list[ClipRecord]:
    """The records of every clip of a shards folder, in the order of the manifest.

    Raises:
        DataError: no manifest, or a parquet is missing or unreadable.
    """
    return [row.record for shard in Manifest.load(folder).shards for row in read_rows(folder / f"{shard.name}.parquet")]


def common_fps(folder: Path) -> float | None:
    """The frame rate that all clips of a shards folder share; None where they differ.

    Raises:
        DataError: as :func:`read_records`.
    """
    rates: set[float] = set()
    for shard in Manifest.load(folder).shards:
        parquet = folder / f"{shard.name}.parquet"
        with _readable(parquet):
            table = pq.read_table(parquet, columns=["fps"], partitioning=None)
            rates.update(table.column("fps").unique().to_pylist())
    return rates.pop() if len(rates) == 1 else None
