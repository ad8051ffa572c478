"""The inventory of a shards folder: every source video that an ingest has seen, and what became of it.

A later ingest reads it to tell which videos are new, which changed and which are gone, without opening them.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kineme.shards.errors import DataError
from kineme.shards.sources.base import SourceItem

INVENTORY = "inventory.parquet"

_COLUMNS = pa.schema(
    [
        ("source", pa.string()),
        ("bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("facts", pa.string()),
        ("shard", pa.int64()),
        ("sha256", pa.string()),
        ("reason", pa.string()),
    ]
)


class Entry(NamedTuple):
    """One source video.

    Attributes:
        source: its name.
        bytes, modified_ns: its stamp when it was listed.
        facts: digest of its labels and split.
        shard: number of the shard that it belongs to; None for one that is stored nowhere.
        sha256: of its bytes; None where they were never read.
        reason: why it is not stored ("duplicate of ..." or what is wrong with it); None if it is.
    """

    source: str
    bytes: int
    modified_ns: int
    facts: str
    shard: int | None = None
    sha256: str | None = None
    reason: str | None = None

    def looks_like(self, other: Entry) -> bool:
        """Whether nothing hints at a change."""
        return (self.bytes, self.modified_ns, self.facts) == (other.bytes, other.modified_ns, other.facts)


def entry_of(item: SourceItem) -> Entry:
    """A listed video as it looks now."""
    stamp = item.opener.stamp()
    facts = json.dumps([sorted(item.labels.items()), item.split]).encode()
    # Many videos have the same labels: one string for all of them.
    digest = sys.intern(hashlib.sha256(facts).hexdigest()[:16])
    return Entry(item.source, stamp.bytes, stamp.modified_ns, digest)


def to_parquet(entries: Iterable[Entry]) -> bytes:
    """The table as a parquet file; equal entries are equal bytes (of one pyarrow version)."""
    columns = zip(*entries, strict=True)
    arrays = {name: list(column) for name, column in zip(_COLUMNS.names, columns, strict=False)}
    table = pa.table(arrays, schema=_COLUMNS) if arrays else _COLUMNS.empty_table()
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_entries(path: Path) -> list[Entry]:
    """The entries of an inventory or a plan. Raises DataError if the file is missing or no such table."""
    try:
        table = pq.read_table(path, schema=_COLUMNS, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable inventory ({error}); delete {path.parent} and ingest again") from error
    return [Entry(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
