"""Reads stored clips: a whole shard in order, or one clip by its place in the tar or by its key."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kineme.shards.codec import decode_clip
from kineme.shards.errors import ANEW, DataError
from kineme.shards.manifest import Manifest, ShardEntry
from kineme.shards.records import read_rows
from kineme.shards.sample import ClipRecord, Frames, Sample

TAR_BLOCK = tarfile.BLOCKSIZE
"""A file in a tar is one block of header and whole blocks of data, bytes."""


def check_size(tar: Path, entry: ShardEntry) -> None:
    """Raise a DataError if a shard's tar is missing or has not the size that the manifest says: a cheap first look."""
    if not tar.is_file():
        raise DataError(f"{tar}: the manifest names this shard and it is missing; {ANEW}")
    size = tar.stat().st_size
    if size != entry.bytes:
        raise DataError(f"{tar}: {size} bytes where the manifest says {entry.bytes}: cut short or altered; {ANEW}")


def read_samples(tar: Path) -> Iterator[Sample]:
    """The samples of one shard's tar, in order, its files read by webdataset.

    A tar cut off between two files ends early and without an error, so callers compare the count with the manifest's.

    Raises:
        OSError: the tar is missing.
        DataError: the tar is cut within a file, holds a file twice, or a sample without its mp4 or a valid JSON.
    """
    from webdataset.tariterators import tar_file_expander

    key, parts, coming = "", dict[str, bytes](), ""

    def announce(name: str) -> bool:
        # Called between a file's header and its data: says which sample a cut goes through.
        nonlocal coming
        coming = name.partition(".")[0]
        return True

    # Opened here: webdataset's own url_opener never closes what it opens.
    with tar.open("rb") as opened:
        files = tar_file_expander([{"url": str(tar), "stream": opened}], select_files=announce, eof_value=None)
        while True:
            damage: Exception | None = None
            file: Mapping[str, Any] | None = None
            try:
                file = next(files, None)
            except (tarfile.TarError, EOFError) as error:
                damage = error
            if parts and (coming != key or (file is None and damage is None)):
                yield parse_sample(key, parts, tar)
                parts = {}
            if damage is not None:
                raise DataError(f"{tar}: the shard is cut short or altered; {ANEW}") from damage
            if file is None:
                return
            key, _, suffix = file["fname"].partition(".")
            if suffix in parts:
                raise DataError(f"{tar}: holds {file['fname']} twice: altered; {ANEW}")
            parts[suffix] = file["data"]


def read_sample(tar: Path, fd: int, begin: int, end: int, key: str) -> Sample:
    """One sample, read from its place in the tar.

    Args:
        tar: the shard, for messages.
        fd: its file descriptor; its position is neither used nor moved.
        begin: offset of the header of the sample's first file, bytes.
        end: offset behind its last file.
        key: the key that it must have.

    Raises:
        DataError: the tar is cut short or altered there, or cannot be read, or holds another clip.
    """
    try:
        span = os.pread(fd, end - begin, begin)
    except OSError as error:
        raise DataError(f"{tar}: cannot be read at byte {begin} ({error.strerror}); check the disk") from error
    if len(span) != end - begin:
        raise DataError(f"{tar}: clip {key} lies behind its end: the shard is cut short; {ANEW}")
    parts: dict[str, bytes] = {}
    try:
        for name, data in _files(span):
            stem, _, suffix = name.partition(".")
            if stem != key or suffix in parts:
                raise tarfile.ReadError(f"file {name!r}")
            parts[suffix] = data
    except tarfile.TarError as error:
        raise DataError(f"{tar}: clip {key} is altered or not where it was ({error}); {ANEW}") from error
    sample = parse_sample(key, parts, tar)
    if sample.record.key != key:
        raise DataError(f"{tar}: clip {key} says it is {sample.record.key}: altered; {ANEW}")
    return sample


def _files(span: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a stretch of a tar. ``tarfile.open`` takes ten times as long to read as much."""
    position = 0
    while position < len(span):
        header = span[position : position + TAR_BLOCK]
        if not any(header):
            return
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        position += TAR_BLOCK
        data = span[position : position + info.size]
        if len(data) != info.size:
            raise tarfile.ReadError("cut short")
        yield info.name, data
        position += -(-info.size // TAR_BLOCK) * TAR_BLOCK


def parse_sample(key: str, parts: Mapping[str, bytes], tar: Path) -> Sample:
    """Put a sample together from the files it is stored in, by suffix (``mp4``, ``json``, ``actions.npy``, ...)."""
    try:
        actions, keypoints = parts.get("actions.npy"), parts.get("keypoints.npy")
        return Sample(
            record=ClipRecord.from_json(parts["json"]),
            mp4=parts["mp4"],
            actions=None if actions is None else _array(actions),
            keypoints=None if keypoints is None else _array(keypoints),
        )
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise DataError(f"{tar}: sample {key} is incomplete or altered ({error}); {ANEW}") from error


def decode_sample(sample: Sample) -> Frames:
    """Decode a sample's video and compare its shape with the record.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        DataError: it does not decode, or to another count or size.
    """
    record, frames = sample.record, decode_clip(sample.mp4)
    if frames.shape[:3] != (record.num_frames, record.height, record.width):
        raise DataError(
            f"clip {record.key} decodes to {frames.shape[:3]} (frames, height, width) where its record says "
            f"{(record.num_frames, record.height, record.width)}; {ANEW}"
        )
    return frames


def load_clip_frames(shards: Path, key: str) -> Frames:
    """Decode one stored clip, without reading the rest of its shard.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        DataError: no such clip, or it does not decode.
    """
    for shard in Manifest.load(shards).shards:
        for row in read_rows(shards / f"{shard.name}.parquet", key):
            with (shards / f"{shard.name}.tar").open("rb") as tar:
                tar.seek(row.mp4_offset)
                return decode_clip(tar.read(row.mp4_size))
    raise DataError(f"{shards}: holds no clip {key!r}; kineme inspect lists what is there")


def _array(data: bytes) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    return array
