"""Reads stored clips: a whole shard in order, or one clip by its key."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.shards.codec import decode_clip
from kineme.shards.errors import DataError
from kineme.shards.manifest import Manifest, ShardEntry
from kineme.shards.records import read_rows
from kineme.shards.sample import ClipRecord, Frames, Sample


def check_size(tar: Path, entry: ShardEntry) -> None:
    """Raise a DataError if a shard's tar is missing or has not the size that the manifest says: a cheap first look."""
    if not tar.is_file():
        raise DataError(f"{tar}: the manifest names this shard and it is missing; run kineme ingest again")
    size = tar.stat().st_size
    if size != entry.bytes:
        raise DataError(
            f"{tar}: {size} bytes where the manifest says {entry.bytes}: cut short or altered; run kineme ingest again"
        )


def read_samples(tar: Path) -> Iterator[Sample]:
    """The samples of one shard's tar, in order.

    A tar cut off between two files ends early and without an error, so callers compare the count with the manifest's.

    Raises:
        OSError: the tar is missing.
        DataError: the tar is cut within a file, or holds a sample without its mp4 or a valid JSON.
    """
    try:
        with tarfile.open(tar) as archive:
            key, parts = "", dict[str, bytes]()
            for member in archive:
                member_key, _, suffix = member.name.partition(".")
                if member_key != key and parts:
                    yield parse_sample(key, parts, tar)
                    parts = {}
                key = member_key
                file = archive.extractfile(member)
                parts[suffix] = b"" if file is None else file.read()
            if parts:
                yield parse_sample(key, parts, tar)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{tar}: the shard is cut short or altered ({error}); run kineme ingest again") from error


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
        raise DataError(f"{tar}: sample {key} is incomplete or altered ({error}); run kineme ingest again") from error


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
            f"{(record.num_frames, record.height, record.width)}; run kineme ingest again"
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
