"""A decoded shard on disk: flat arrays to be mapped into memory, with a checksum for every clip.

    frames.npy     (F, H, W, 3) uint8, all clips of the shard one after another: F = sum of num_frames
    actions.npy    (F, A) float32, only where every clip has them
    keypoints.npy  (F, K, 2) float32, likewise
    records.jsonl  the records, a line each
    index.npy      (clips, 2) int64: CRC-32 of a clip's frames, actions, keypoints and line; offset behind its line

Nothing is fsynced: what a crash of the machine leaves half-written does not pass its checksum.
"""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kineme.shards.clip_table import common_size
from kineme.shards.errors import ANEW, DataError
from kineme.shards.handles import Handle
from kineme.shards.manifest import ShardEntry, sha256_of
from kineme.shards.reader import TAR_BLOCK, check_size, decode_sample, read_sample
from kineme.shards.records import ClipRow, read_rows
from kineme.shards.sample import Sample

INDEX = "index.npy"
EXTRAS = ("actions", "keypoints")


def write_cached_shard(shards: Path, entry: ShardEntry, folder: Path) -> None:
    """Decode a shard into the files of an empty folder, one clip at a time.

    Plain writes, not a memory map: on a full disk a write raises OSError, a map ends the process with a SIGBUS.

    Raises:
        DataError: the shard is missing, cut short or altered, or its clips do not decode or differ in size.
        OSError: the disk is full or read-only.
    """
    tar, parquet = shards / f"{entry.name}.tar", shards / f"{entry.name}.parquet"
    check_size(tar, entry)
    for path, sha256 in ((tar, entry.sha256), (parquet, entry.parquet_sha256)):
        if sha256_of(path) != sha256:
            raise DataError(f"{path}: its sha256 is not the manifest's, so it was altered; {ANEW}")
    rows = read_rows(parquet)
    height, width = common_size(shards, Counter((row.record.height, row.record.width) for row in rows))
    frames = sum(row.record.num_frames for row in rows)
    index = np.zeros((len(rows), 2), np.int64)
    files: dict[str, BinaryIO] = {}
    extras: dict[str, tuple[int, ...]] | None = None
    with (folder / "frames.npy").open("xb") as pixels, (folder / "records.jsonl").open("xb") as lines:
        pixels.write(_header((frames, height, width, 3), "|u1"))
        try:
            for number, (row, sample) in enumerate(zip(rows, _samples(tar, entry, rows), strict=True)):
                record = row.record
                if sample.record != record:
                    raise DataError(f"{tar}: clip {record.key} is not its parquet row; {ANEW}")
                decoded = decode_sample(sample)
                arrays = _extra_arrays(sample)
                shapes = {name: array.shape[1:] for name, array in arrays.items()}
                if extras is None:
                    extras = shapes
                    for name, shape in shapes.items():
                        files[name] = (folder / f"{name}.npy").open("xb")
                        files[name].write(_header((frames, *shape), "<f4"))
                if shapes != extras or any(len(array) != len(decoded) for array in arrays.values()):
                    raise DataError(
                        f"{tar}: clip {record.key} has {_list(shapes)} where the first clip has {_list(extras)}; every "
                        "clip of a shards folder needs the same: ingest such sources into folders of their own"
                    )
                pixels.write(decoded.data)
                for name, array in arrays.items():
                    files[name].write(array.data)
                line = record.to_json() + b"\n"
                lines.write(line)
                index[number] = clip_checksum([decoded, *(arrays.get(name) for name in EXTRAS)], line), lines.tell()
        finally:
            for file in files.values():
                file.close()
    np.save(folder / INDEX, index)


def cached_shard_bytes(shards: Path, entry: ShardEntry) -> int:
    """The size of the files that :func:`write_cached_shard` would write.

    Raises:
        DataError: the shard's first clip or its parquet cannot be read.
    """
    rows = read_rows(shards / f"{entry.name}.parquet")
    records = [row.record for row in rows]
    frames = sum(record.num_frames for record in records)
    arrays = _extra_arrays(next(_samples(shards / f"{entry.name}.tar", entry, rows)))
    return (
        _file_bytes((frames, records[0].height, records[0].width, 3), "|u1")
        + sum(_file_bytes((frames, *array.shape[1:]), "<f4") for array in arrays.values())
        + _file_bytes((len(records), 2), "<i8")
        + sum(len(record.to_json()) + 1 for record in records)
    )


def _samples(tar: Path, entry: ShardEntry, rows: Sequence[ClipRow]) -> Iterator[Sample]:
    """The samples of a shard, each read from where its row says it lies."""
    handle = Handle(tar)
    begins = [*(row.mp4_offset - TAR_BLOCK for row in rows), entry.bytes]
    for row, (begin, end) in zip(rows, pairwise(begins), strict=True):
        yield read_sample(tar, handle.fd, begin, end, row.record.key)


def _extra_arrays(sample: Sample) -> dict[str, NDArray[np.float32]]:
    found = {"actions": sample.actions, "keypoints": sample.keypoints}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items() if array is not None}


def clip_checksum(arrays: list[NDArray[Any] | None], line: bytes) -> int:
    """CRC-32 of a clip: its frames, actions and keypoints (None where there are none) and the line of its record."""
    crc = 0
    for array in arrays:
        crc = crc if array is None else zlib.crc32(array.data, crc)
    return zlib.crc32(line, crc)


def _header(shape: tuple[int, ...], descr: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _file_bytes(shape: tuple[int, ...], descr: str) -> int:
    return len(_header(shape, descr)) + int(np.prod(shape)) * np.dtype(descr).itemsize


def _list(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "neither actions nor keypoints"
