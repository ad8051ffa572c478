"""Reads a whole shards folder and names everything that is not as the manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kineme.shards.errors import ANEW, DataError
from kineme.shards.manifest import Manifest, ShardEntry, sha256_of
from kineme.shards.reader import decode_sample, read_samples
from kineme.shards.records import read_rows
from kineme.shards.sample import ClipRecord


def verify(folder: Path) -> list[str]:
    """Check every checksum, decode every clip, and compare counts, sizes, records and keys.

    Returns:
        One line for each problem; empty if the folder is as it was written.

    Raises:
        DataError: there is no manifest to compare with.
    """
    manifest = Manifest.load(folder)
    problems: list[str] = []
    keys: dict[str, str] = {}
    for entry in manifest.shards:
        problems += _check_shard(folder, entry, keys)
    for name, sha256 in manifest.files.items():
        if not (folder / name).is_file():
            problems.append(f"{name}: missing")
        elif sha256_of(folder / name) != sha256:
            problems.append(f"{name}: altered: its sha256 is not the manifest's; {ANEW}")
    expected = {f"{entry.name}{suffix}" for entry in manifest.shards for suffix in (".tar", ".parquet")}
    found = {path.name for path in folder.glob("shard-*") if path.suffix in (".tar", ".parquet")}
    problems += [f"{name}: not in the manifest; ingest again, or remove it" for name in sorted(found - expected)]
    total = sum(entry.clips for entry in manifest.shards)
    if total != manifest.clips:
        problems.append(f"manifest.json: {manifest.clips} clips in all, its shards add up to {total}")
    return problems


def _check_shard(folder: Path, entry: ShardEntry, keys: dict[str, str]) -> Iterator[str]:
    """The problems of one shard; ``keys`` collects the shard in which each key was first seen."""
    tar, parquet = folder / f"{entry.name}.tar", folder / f"{entry.name}.parquet"
    for path, sha256 in ((tar, entry.sha256), (parquet, entry.parquet_sha256)):
        if path.is_file() and sha256_of(path) != sha256:
            yield f"{path.name}: altered: its sha256 is not the manifest's; {ANEW}"
    rows: list[ClipRecord] | None = None
    try:
        rows = [row.record for row in read_rows(parquet)]
        if len(rows) != entry.clips:
            yield f"{parquet.name}: {len(rows)} rows where the manifest says {entry.clips} clips"
    except DataError as error:
        yield str(error)
    if not tar.is_file():
        yield f"{tar.name}: missing"
        return
    count = 0
    try:
        for sample in read_samples(tar):
            record = sample.record
            if rows is not None and (count >= len(rows) or rows[count] != record):
                yield f"{tar.name}: clip {record.key} is not what its row in {parquet.name} says"
            if record.key in keys:
                yield f"{tar.name}: key {record.key} names a clip of {keys[record.key]} already"
            keys[record.key] = entry.name
            count += 1
            try:
                decode_sample(sample)
            except DataError as error:
                yield f"{tar.name}: clip {record.key}: {error}"
    except DataError as error:
        yield str(error)
    if count != entry.clips:
        yield f"{tar.name}: {count} readable clips where the manifest says {entry.clips}"
