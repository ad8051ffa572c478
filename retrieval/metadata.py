"""The metadata of an index: as it is stored, and as the table that SQL filters by, each label a column of its own.

Stored are the labels of a clip as one JSON text, so that a clip keeps them as they were whatever other clips have. The
types of the columns follow from the clips that are in the index now, as if it had been built of them alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

Label = str | int | float | bool

BUILT_IN = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("fps", pa.float64()),
        ("num_frames", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
    ]
)
# No label can be a column of these names: the last is what DuckDB calls the number of a row.
_TAKEN = (*BUILT_IN.names, "rowid")
STORED = BUILT_IN.append(pa.field("labels", pa.string()))
"""What is stored of a clip."""


class ClipMetadata(Protocol):
    """What an index keeps of a clip; a shard's record has all of it and more.

    ``start_s`` and ``end_s`` are a half-open span in seconds of ``source``, ``height`` and ``width`` pixels.
    """

    @property
    def key(self) -> str:
        """Distinct in an index."""

    @property
    def source(self) -> str:
        """Path of the video relative to the folder that was ingested."""

    @property
    def start_s(self) -> float:
        """First second of the clip."""

    @property
    def end_s(self) -> float:
        """First second after the clip."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""

    @property
    def split(self) -> str:
        """Part of the data set, such as train or test."""

    @property
    def fps(self) -> float:
        """Frames a second, after sampling."""

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""

    @property
    def height(self) -> int:
        """Of a frame."""

    @property
    def width(self) -> int:
        """Of a frame."""

    @property
    def labels(self) -> Mapping[str, Label]:
        """Name -> value."""


@dataclass(frozen=True)
class StoredClip:
    """A clip as an index knows it: a :class:`ClipMetadata` read back from its row."""

    key: str
    source: str
    start_s: float
    end_s: float
    dataset: str
    split: str
    fps: float
    num_frames: int
    height: int
    width: int
    labels: dict[str, Label]


def to_stored(clips: Sequence[ClipMetadata]) -> pa.Table:
    """One row a clip, in order, columns as `STORED`."""
    arrays = [pa.array([getattr(clip, field.name) for clip in clips], type=field.type) for field in BUILT_IN]
    labels = [json.dumps(dict(clip.labels), ensure_ascii=False, sort_keys=True) for clip in clips]
    return pa.table([*arrays, pa.array(labels, type=pa.string())], schema=STORED)


def from_stored(table: pa.Table) -> list[StoredClip]:
    """The clips of a table of `STORED` columns."""
    return [StoredClip(**{**row, "labels": json.loads(row["labels"])}) for row in table.to_pylist()]


def to_table(stored: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """The table that filters see, and which of its columns holds which label.

    A label that a clip lacks is NULL. A label whose values are of several types is text, except that whole numbers may
    stand among decimals.

    Args:
        stored: a table of `STORED` columns.

    Returns:
        The same rows with a column for each label of any of them; and {column: label}.
    """
    # Many clips have the same labels: each text is read once.
    coded = stored.column("labels").combine_chunks().dictionary_encode()
    distinct = [json.loads(text) for text in coded.dictionary.to_pylist()]
    columns = label_columns({name for labels in distinct for name in labels})
    table = stored.drop_columns("labels")
    for column, label in columns.items():
        values = _label_array([labels.get(label) for labels in distinct])
        table = table.append_column(column, values.take(coded.indices))
    return table, columns


def label_columns(
    labels: Iterable[str], taken: Iterable[str] = _TAKEN, spelt: Callable[[str], str] = str
) -> dict[str, str]:
    """Column -> label name, in alphabetical order of the labels.

    SQL compares column names without case: a label that clashes so with a column before it gets the prefix ``label_``.

    Args:
        labels: the names of all labels.
        taken: names that no label can have.
        spelt: how a label's name is written where not every name will do.
    """
    columns: dict[str, str] = {}
    used = {name.casefold() for name in taken}
    for label in sorted(labels):
        column = spelt(label)
        while column.casefold() in used:
            column = f"label_{column}"
        used.add(column.casefold())
        columns[column] = label
    return columns


def _label_array(values: list[Label | None]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], type=pa.float64())
    if len(kinds) > 1:
        return pa.array([None if value is None else str(value) for value in values], type=pa.string())
    return pa.array(values)
