"""Writes one shard: a byte-reproducible tar of clips and, beside it, a parquet file with one row a clip.

The tar takes its final name before the parquet does: a shard whose parquet exists is complete.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.manifest import ShardEntry, publish, write_atomically
from kineme.shards.records import ClipRow, rows_to_parquet
from kineme.shards.sample import Sample


def shard_name(number: int) -> str:
    """``shard-000000``: the name of a shard's tar and parquet, without the suffix."""
    return f"shard-{number:06d}"


class ShardWriter:
    """Writes one shard under temporary names; :meth:`finish` renames it, leaving without finishing removes it.

    Equal samples in equal order give equal bytes, whatever the machine's user, clock or locale.

    Attributes:
        clips: number of samples added.
        bytes: size of the tar so far, without its end (at most 10 kB).
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._name = shard_name(number)
        self._rows: list[ClipRow] = []
        self._keys: set[str] = set()
        # A name of its own: a machine that was given up for lost may still be writing the same shard.
        self._temporary = folder / f".{self._name}.{secrets.token_hex(4)}.tar.tmp"
        self._file = self._temporary.open("x+b")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._file.close()  # writes what is buffered, which a full disk refuses
        finally:
            self._temporary.unlink(missing_ok=True)

    @property
    def clips(self) -> int:
        """Number of samples added."""
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """Size of the tar so far in bytes, without its end."""
        return self._tar.offset

    def add(self, sample: Sample) -> None:
        """Append one clip.

        Raises:
            DataError: its key is in this shard already, or actions or keypoints have another count than the frames.
        """
        record = sample.record
        if record.key in self._keys:
            raise DataError(f"{record.source}: clip {record.key} is in {self._name} already; a key names one clip")
        for name, array in (("actions", sample.actions), ("keypoints", sample.keypoints)):
            if array is not None and len(array) != record.num_frames:
                raise DataError(
                    f"{record.source}: {len(array)} {name} for the {record.num_frames} frames of clip {record.key}; "
                    f"{name} need one row a frame"
                )
        self._keys.add(record.key)
        offset = _append(self._tar, f"{record.key}.mp4", sample.mp4)
        _append(self._tar, f"{record.key}.json", record.to_json())
        if sample.actions is not None:
            _append(self._tar, f"{record.key}.actions.npy", _npy(sample.actions))
        if sample.keypoints is not None:
            _append(self._tar, f"{record.key}.keypoints.npy", _npy(sample.keypoints))
        self._rows.append(ClipRow(record, offset, len(sample.mp4)))

    def finish(self) -> ShardEntry:
        """Make the shard durable under its final name: the tar first, then the parquet.

        Returns:
            The shard's line for the manifest.
        """
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.seek(0)
        sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
        self._file.close()
        parquet = rows_to_parquet(self._rows)
        publish(self._temporary, self._folder / f"{self._name}.tar")
        write_atomically(self._folder / f"{self._name}.parquet", parquet)
        return ShardEntry(self._name, self.clips, size, sha256, hashlib.sha256(parquet).hexdigest())


def _append(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add one file and return the offset of its data in the tar. TarInfo's defaults are mtime, uid and gid 0."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    return tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()
