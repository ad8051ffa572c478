"""Decoded shards on disk: each shard is decoded once to a flat array of frames that training then maps into memory.

    CACHE/SHA256/frames.npy     (F, H, W, 3) uint8, all clips of the shard one after another: F = sum of num_frames
    CACHE/SHA256/actions.npy    (F, A) float32, only where every clip has them
    CACHE/SHA256/keypoints.npy  (F, K, 2) float32, likewise

SHA256 is that of the shard's tar, so an altered shard never meets a stale cache, and one cache folder serves any number
of shards folders, clip lengths and frame steps. A folder under its final name is complete.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.manifest import ShardEntry, publish, sha256_of, sync_folder
from kineme.shards.reader import check_size, decode_sample, read_samples
from kineme.shards.records import read_rows
from kineme.shards.sample import ClipRecord

Progress = Callable[[int, int], None]


def build_cache(
    shards: Path, entries: Sequence[ShardEntry], cache: Path, *, workers: int = 0, progress: Progress | None = None
) -> list[Path]:
    """Decode the shards that the cache lacks. Processes that build the same cache wait for one another.

    Args:
        shards: the shards folder.
        entries: the shards to cache, from its manifest.
        cache: the cache folder, made if missing.
        workers: processes that decode; 0 or 1 decodes in this one.
        progress: called with the number of clips in the cache and the number wanted, after every shard.

    Returns:
        The cached folder of each entry, in their order.

    Raises:
        DataError: a shard is missing, cut short or altered, or holds clips that do not decode or differ in size.
        OSError: the cache folder is full or read-only. Nothing half-written stays.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folders = [cache / entry.sha256 for entry in entries]
    with _locked(cache):
        missing = [entry for entry, folder in zip(entries, folders, strict=True) if not folder.is_dir()]
        total = sum(entry.clips for entry in entries)
        done = total - sum(entry.clips for entry in missing)
        for entry in _decode_all(shards, missing, cache, workers):
            done += entry.clips
            if progress is not None:
                progress(done, total)
    return folders


def _decode_all(shards: Path, entries: Sequence[ShardEntry], cache: Path, workers: int) -> Iterator[ShardEntry]:
    """Decode each shard, yielding its entry when it is in the cache."""
    workers = min(workers, len(entries))
    if workers <= 1:
        for entry in entries:
            yield _decode_shard(shards, entry, cache)
        return
    # Spawned, because the caller may run threads (torch, a progress bar) that a fork would cut off holding locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        for future in as_completed([pool.submit(_decode_shard, shards, entry, cache) for entry in entries]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_shard(shards: Path, entry: ShardEntry, cache: Path) -> ShardEntry:
    temporary = cache / f".{entry.sha256}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        _write_arrays(shards, entry, temporary)
        publish(temporary, cache / entry.sha256)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return entry


def _write_arrays(shards: Path, entry: ShardEntry, folder: Path) -> None:
    """Decode a shard into the arrays of ``folder``.

    Plain writes, not a memory map: on a full disk a write raises OSError, a map ends the process with a SIGBUS.
    """
    tar = shards / f"{entry.name}.tar"
    check_size(tar, entry)
    parquet = shards / f"{entry.name}.parquet"
    records = [row.record for row in read_rows(parquet)]
    for path, sha256 in ((tar, entry.sha256), (parquet, entry.parquet_sha256)):
        if sha256_of(path) != sha256:
            raise DataError(f"{path}: its sha256 is not the manifest's, so it was altered; run kineme ingest again")
    height, width = common_size(shards, records)
    extras: dict[str, list[NDArray[np.float32]]] = {"actions": [], "keypoints": []}
    with _durable(folder / "frames.npy") as file:
        shape = (sum(record.num_frames for record in records), height, width, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for record, sample in zip(records, read_samples(tar), strict=True):
            if sample.record != record:
                raise DataError(f"{tar}: clip {sample.record.key} is not its parquet row; run kineme ingest again")
            file.write(decode_sample(sample).tobytes())
            if sample.actions is not None:
                extras["actions"].append(sample.actions)
            if sample.keypoints is not None:
                extras["keypoints"].append(sample.keypoints)
    for name, arrays in extras.items():
        if len({array.shape[1:] for array in arrays}) > 1 or len(arrays) not in (0, len(records)):
            raise DataError(
                f"{tar}: {len(arrays)} of {len(records)} clips have {name}, or their shapes differ; every clip of a "
                "shards folder needs the same: ingest such sources into folders of their own"
            )
        if arrays:
            with _durable(folder / f"{name}.npy") as file:
                np.save(file, np.concatenate(arrays), allow_pickle=False)
    sync_folder(folder)


def common_size(shards: Path, records: Sequence[ClipRecord]) -> tuple[int, int]:
    """The (height, width) in pixels that all clips share.

    Raises:
        DataError: there are clips of several sizes, which no batch can hold.
    """
    sizes = Counter((record.height, record.width) for record in records)
    if len(sizes) > 1:
        counts = ", ".join(f"{count} of {width}x{height}" for (height, width), count in sizes.most_common(4))
        raise DataError(f"{shards}: clips of {len(sizes)} sizes ({counts}) make no batch; ingest again with one --size")
    return next(iter(sizes))


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Hold the cache's lock; the system lets go of it when the process ends, however it ends."""
    with (cache / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
