"""The cache: which shards of a folder are kept decoded on disk, within a bound, shared by any number of processes.

    CACHE/SHA256/   a decoded shard (``cache_files.py``); SHA256 is that of its tar
    CACHE/.lock     held while the cache is changed
    CACHE/*.lease   the shards that a live process reads; the process holds a lock on its lease

An altered shard never meets a stale cache, and one cache serves any number of shards folders, clip lengths and frame
steps. A folder under its final name is complete. What a killed process leaves behind (a half-written folder, a lease)
is swept away by the next one to change the cache.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineme.shards.cache_files import INDEX, cached_shard_bytes, write_cached_shard
from kineme.shards.errors import DataError
from kineme.shards.handles import Handle
from kineme.shards.manifest import Manifest, ShardEntry, publish

Progress = Callable[[int, int], None]

_SHARD = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}(\.[0-9a-f]{8})?\.tmp")
_LEASE = re.compile(r"[0-9a-f]{16}\.lease")


class Lease(Handle):
    """Says that this process reads shards of a cache, until it lets go of this or ends, however it ends."""

    def __init__(self, cache: Path, names: set[str]) -> None:
        self._path = cache / f"{secrets.token_hex(8)}.lease"
        self._owner = os.getpid()
        self._path.write_text(json.dumps(sorted(names)))
        super().__init__(self._path)
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __del__(self) -> None:
        # A forked worker has a copy, and must leave the file to its parent.
        if os.getpid() == self._owner:
            self._path.unlink(missing_ok=True)
        super().__del__()


@dataclass(frozen=True)
class CacheUse:
    """The cached folder of each shard, or None for a shard beyond the bound. While this lives, none is evicted."""

    folders: list[Path | None]
    lease: Lease | None

    def __getstate__(self) -> dict[str, Any]:
        # A worker's parent holds the lease for it.
        return {"folders": self.folders, "lease": None}


def build_cache(
    shards: Path,
    entries: Sequence[ShardEntry],
    cache: Path,
    *,
    cache_gb: float | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> CacheUse:
    """Decode the shards that the cache lacks. Processes that build the same cache wait for one another.

    Args:
        shards: the shards folder.
        entries: the shards to cache, from its manifest. If the cache cannot hold all of them, it holds the first ones.
        cache: the cache folder, made if missing.
        cache_gb: most that the cache folder may hold, in units of 1e9 bytes. To stay below, shards that nobody reads
            are evicted: those of other folders first, among them the longest unused. None is half of the disk space
            that would be free without the cache.
        workers: processes that decode; 0 or 1 decodes in this one.
        progress: called with the number of clips in the cache and the number it will hold, after every shard.

    Raises:
        DataError: a shard is missing, cut short or altered, or holds clips that do not decode or differ in size.
        OSError: the cache folder is full or read-only. Nothing half-written stays.
    """
    if cache_gb is not None and cache_gb < 0:
        raise DataError(f"cache_gb {cache_gb} must be 0 or more")
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache):
        leased = _sweep(cache)
        kept = _make_room(shards, entries, cache, cache_gb, leased)
        folders = [cache / entry.sha256 if entry.sha256 in kept else None for entry in entries]
        use = CacheUse(folders, Lease(cache, kept))
        for folder in folders:
            if folder is not None and folder.is_dir():
                os.utime(folder)
        missing = [entry for entry in entries if entry.sha256 in kept and not (cache / entry.sha256).is_dir()]
        total = sum(entry.clips for entry in entries if entry.sha256 in kept)
        done = total - sum(entry.clips for entry in missing)
        for entry in _decode_all(shards, missing, cache, workers):
            done += entry.clips
            if progress is not None:
                progress(done, total)
    return use


def _sweep(cache: Path) -> set[str]:
    """Remove what no live process owns; returns the names of the shards that others read."""
    leased: set[str] = set()
    # By their exact names, as the user may keep other things in this folder.
    for path in cache.iterdir():
        half_written = _TEMPORARY.fullmatch(path.name)
        # An older version cached without an index.
        if half_written or (_SHARD.fullmatch(path.name) and not (path / INDEX).is_file()):
            shutil.rmtree(path, ignore_errors=True)
        elif _LEASE.fullmatch(path.name):
            # Its owner may be taking it away at this moment.
            with suppress(FileNotFoundError), path.open("rb") as lease:
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                except BlockingIOError:
                    leased.update(json.loads(lease.read()))
    return leased


def _make_room(
    shards: Path, entries: Sequence[ShardEntry], cache: Path, cache_gb: float | None, leased: set[str]
) -> set[str]:
    """Decide which of the shards to keep, and evict others as far as needed."""
    present = {path.name: _size(path) for path in cache.iterdir() if _SHARD.fullmatch(path.name)}
    limit = (shutil.disk_usage(cache).free + sum(present.values())) / 2 if cache_gb is None else cache_gb * 1e9
    wanted = {entry.sha256 for entry in entries}
    used = sum(size for name, size in present.items() if name in leased and name not in wanted)
    kept: set[str] = set()
    for entry in entries:
        size = present.get(entry.sha256) or cached_shard_bytes(shards, entry)
        if used + size > limit:
            break
        kept.add(entry.sha256)
        used += size
    own = {entry.sha256 for entry in Manifest.load(shards).shards}
    spare = sorted(present.keys() - kept - leased, key=lambda name: (name in own, (cache / name).stat().st_mtime_ns))
    excess = used + sum(present[name] for name in spare) - limit
    for name in spare:
        if excess <= 0:
            break
        shutil.rmtree(cache / name)
        excess -= present[name]
    return kept


def _decode_all(shards: Path, entries: Sequence[ShardEntry], cache: Path, workers: int) -> Iterator[ShardEntry]:
    """Decode each shard, yielding its entry when it is in the cache."""
    workers = min(workers, len(entries))
    if workers <= 1:
        for entry in entries:
            yield _decode_shard(shards, entry, cache)
        return
    # Spawned, because the caller may run threads (torch, a progress bar) that a fork would cut off holding locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers - 1, context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        futures = {pool.submit(_decode_shard, shards, entry, cache): entry for entry in entries}
        # This process is one of the workers, and at work while the others start: it takes from the end.
        for future in reversed(list(futures)):
            if future.cancel():
                yield _decode_shard(shards, futures.pop(future), cache)
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_shard(shards: Path, entry: ShardEntry, cache: Path) -> ShardEntry:
    # A name of its own: a child whose parent was killed may still be writing the same shard.
    temporary = cache / f".{entry.sha256}.{secrets.token_hex(4)}.tmp"
    final = cache / entry.sha256
    try:
        temporary.mkdir()
        write_cached_shard(shards, entry, temporary)
        try:
            publish(temporary, final)
        except OSError:
            # That child came first: a folder does not replace another.
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return entry


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Hold the cache's lock; the system lets go of it when the process ends, however it ends."""
    with (cache / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
