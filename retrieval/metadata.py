"""The metadata table of an index: one row a clip, each label a column of its own that SQL can filter by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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


def label_columns(clips: Sequence[ClipMetadata]) -> dict[str, str]:
    """Column -> label name, for every label of any clip, in alphabetical order of the labels.

    SQL compares column names without case: a label that clashes so with a column before it gets the prefix ``label_``.
    """
    columns: dict[str, str] = {}
    taken = {name.casefold() for name in BUILT_IN.names}
    for label in sorted({name for clip in clips for name in clip.labels}):
        column = label
        while column.casefold() in taken:
            column = f"label_{column}"
        taken.add(column.casefold())
        columns[column] = label
    return columns


def to_table(clips: Sequence[ClipMetadata], columns: Mapping[str, str]) -> pa.Table:
    """One row a clip, in order; a label that a clip lacks is NULL.

    A label whose values are of several types is stored as text, except that whole numbers may stand among decimals.
    """
    arrays = [pa.array([getattr(clip, field.name) for clip in clips], type=field.type) for field in BUILT_IN]
    arrays += [_label_array([clip.labels.get(label) for clip in clips]) for label in columns.values()]
    return pa.table(arrays, names=[*BUILT_IN.names, *columns])


def from_row(row: Mapping[str, Any], columns: Mapping[str, str]) -> StoredClip:
    """The clip of one row of :func:`to_table`; labels it lacks are left out."""
    labels = {label: row[column] for column, label in columns.items() if row[column] is not None}
    return StoredClip(**{name: row[name] for name in BUILT_IN.names}, labels=labels)


def _label_array(values: list[Label | None]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], type=pa.float64())
    if len(kinds) > 1:
        return pa.array([None if value is None else str(value) for value in values], type=pa.string())
    return pa.array(values)
