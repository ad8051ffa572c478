"""Where every clip of a shards folder lies, in compact arrays: some 70 bytes a clip, whatever its metadata."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kineme.shards.errors import ANEW, DataError
from kineme.shards.hold_out import HoldOut
from kineme.shards.manifest import Manifest, ShardEntry
from kineme.shards.reader import TAR_BLOCK, check_size
from kineme.shards.records import read_rows
from kineme.shards.split import SplitSelector, SplitTally
from kineme.shards.window import Window

_COLUMNS = ["key", "split", "labels", "num_frames", "height", "width", "mp4_offset", "mp4_size"]


class ClipPlace(NamedTuple):
    """Where one clip lies.

    Attributes:
        shard: number of its shard in the table.
        row: its number among all clips of that shard.
        first_frame: place of its first frame among all frames of that shard.
        num_frames: stored frames.
        begin: offset of its first file's header in the tar, bytes.
        end: offset behind its last file.
        mp4_size: bytes of its video.
        key: its key.
    """

    shard: int
    row: int
    first_frame: int
    num_frames: int
    begin: int
    end: int
    mp4_size: int
    key: str


@dataclass(frozen=True)
class ClipTable:
    """The clips of a split, in the order of the manifest.

    Attributes:
        folder: the shards folder.
        shards: the shards that hold clips of the split.
        shard_sizes: clips of the split in each of them.
        size: (height, width) of all clips, pixels.
        columns: the fields of :class:`ClipPlace`, one array each.
    """

    folder: Path
    shards: list[ShardEntry]
    shard_sizes: NDArray[np.int64]
    size: tuple[int, int]
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["shard"])

    def __getitem__(self, number: int) -> ClipPlace:
        column = self.columns
        return ClipPlace(
            shard=int(column["shard"][number]),
            row=int(column["row"][number]),
            first_frame=int(column["first_frame"][number]),
            num_frames=int(column["num_frames"][number]),
            begin=int(column["begin"][number]),
            end=int(column["end"][number]),
            mp4_size=int(column["mp4_size"][number]),
            key=column["key"][number].decode(),
        )

    def tar(self, shard: int) -> Path:
        """The tar of a shard of the table."""
        return self.folder / f"{self.shards[shard].name}.tar"


def read_clip_table(
    folder: Path, manifest: Manifest, split: str | None, window: Window, hold_out: HoldOut = HoldOut()
) -> ClipTable:
    """Look up every clip of a split; everything that can be known without decoding is checked here.

    Args:
        folder: shards folder.
        manifest: its manifest.
        split: a stored split or a label's value, as :class:`~kineme.shards.split.SplitSelector` reads it; None is all.
        window: what every clip must be long enough for.
        hold_out: which part of the split; all of it if not given.

    Raises:
        DataError: a shard is missing or not as the manifest says; no clip of the split, or of that part of it; clips of
            several sizes, or too short for the window.
    """
    selector = SplitSelector.parse(split)
    tally = SplitTally(selector)
    shards: list[ShardEntry] = []
    parts: list[dict[str, NDArray[Any]]] = []
    sizes: Counter[tuple[int, int]] = Counter()
    meant = 0
    for entry in manifest.shards:
        check_size(folder / f"{entry.name}.tar", entry)
        columns = _read_columns(folder / f"{entry.name}.parquet", entry)
        try:
            chosen = _choose(columns, selector, tally)
        except ValueError as error:
            raise DataError(f"{entry.name}.parquet: labels are no JSON ({error}); {ANEW}") from error
        meant += len(chosen)
        chosen = chosen[np.array([hold_out.accepts(str(key)) for key in columns["key"][chosen]], bool)]
        if len(chosen):
            part = _places(columns, entry, len(shards), chosen)
            _check_lengths(folder, entry, part, window)
            sizes.update(zip(columns["height"][chosen].tolist(), columns["width"][chosen].tolist(), strict=True))
            shards.append(entry)
            parts.append(part)
    if not parts:
        raise hold_out.nothing_left(folder, meant) if meant else tally.nothing_found(folder)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in ClipPlace._fields}
    counts = np.array([len(part["shard"]) for part in parts])
    return ClipTable(folder, shards, counts, common_size(folder, sizes), joined)


def common_size(folder: Path, sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The one (height, width) in pixels of all clips, from the number of clips of each.

    Raises:
        DataError: there are clips of several sizes, which no batch can hold.
    """
    if len(sizes) > 1:
        counts = ", ".join(f"{count} of {width}x{height}" for (height, width), count in sizes.most_common(4))
        raise DataError(f"{folder}: clips of {len(sizes)} sizes ({counts}) make no batch; ingest again with one --size")
    return next(iter(sizes))


def _read_columns(parquet: Path, entry: ShardEntry) -> dict[str, NDArray[Any]]:
    if not parquet.is_file():
        raise DataError(f"{parquet}: the manifest names this file and it is missing; {ANEW}")
    try:
        with pq.ParquetFile(parquet) as file:
            table = file.read(columns=_COLUMNS)
        columns = {name: table.column(name).to_numpy() for name in _COLUMNS}
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{parquet}: not a readable parquet of clips ({reason}); {ANEW}") from error
    begins = columns["mp4_offset"]
    ordered = len(begins) == entry.clips and np.all(np.diff(begins) > 0) and np.all(begins < entry.bytes)
    if not ordered or not np.all(columns["num_frames"] > 0):
        raise DataError(f"{parquet}: does not fit the {entry.clips} clips of {entry.name}.tar; {ANEW}")
    return columns


def _choose(columns: dict[str, NDArray[Any]], selector: SplitSelector, tally: SplitTally) -> NDArray[np.intp]:
    """The rows that the selector means."""
    chosen = []
    for row, (split, text) in enumerate(zip(columns["split"], columns["labels"], strict=True)):
        labels = {} if selector.label is None else json.loads(str(text))
        tally.add(str(split), labels)
        if selector.accepts(str(split), labels):
            chosen.append(row)
    return np.array(chosen, np.intp)


def _places(
    columns: dict[str, NDArray[Any]], entry: ShardEntry, shard: int, chosen: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    frames = columns["num_frames"].astype(np.int64)
    # The header of a clip's video is one block, and its files reach to the header of the next clip's.
    begins = columns["mp4_offset"].astype(np.int64) - TAR_BLOCK
    places: dict[str, NDArray[Any]] = {
        "shard": np.full(entry.clips, shard, np.int32),
        "row": np.arange(entry.clips, dtype=np.int32),
        "first_frame": np.cumsum(frames) - frames,
        "num_frames": frames.astype(np.int32),
        "begin": begins,
        "end": np.append(begins[1:], entry.bytes),
        "mp4_size": columns["mp4_size"].astype(np.int64),
        "key": np.array([str(key).encode() for key in columns["key"]]),
    }
    return {name: column[chosen] for name, column in places.items()}


def _check_lengths(folder: Path, entry: ShardEntry, part: dict[str, NDArray[Any]], window: Window) -> None:
    frames = part["num_frames"].astype(np.int64)
    if frames.min() < window.span:
        row = int(part["row"][int(np.argmax(frames < window.span))].item())
        window.check(read_rows(folder / f"{entry.name}.parquet")[row].record)
