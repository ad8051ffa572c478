"""The manifest: ``manifest.json``, written last, says which shards make up a folder and what each must hash to."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kineme.shards.errors import ANEW, DataError
from kineme.shards.sample import SCHEMA

MANIFEST = "manifest.json"

Setting = str | int | float | bool | None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary name in the same folder, fsync, rename, fsync of the folder.

    Raises:
        OSError: the folder is full, read-only or missing; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(temporary: Path, path: Path) -> None:
    """Give what is complete and fsynced its final name in the same folder, and fsync the folder."""
    temporary.replace(path)
    sync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class ShardEntry:
    """One shard of the manifest.

    ``bytes`` and ``sha256`` are of ``NAME.tar``, ``parquet_sha256`` of ``NAME.parquet``; both hold ``clips`` clips.
    """

    name: str
    clips: int
    bytes: int
    sha256: str
    parquet_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a shards folder holds.

    Attributes:
        schema: version of the shard contract, :data:`kineme.shards.sample.SCHEMA`.
        dataset: name of the data set.
        settings: what the ingest was told (size, clip_frames, ...); equal settings and sources give equal shards.
        shards: the shards in order.
        videos: number of source videos that gave clips.
        clips: number of clips in all shards.
        rejects: number of sources that could not be used.
        files: sha256 of every other file of the folder, by name.
    """

    schema: int
    dataset: str
    settings: Mapping[str, Setting]
    shards: list[ShardEntry]
    videos: int
    clips: int
    rejects: int
    files: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The file: JSON with the checksum of its own other fields; equal manifests are equal bytes."""
        fields = asdict(self)
        checksum = hashlib.sha256(_dump(fields)).hexdigest()
        return _dump({**fields, "checksum": checksum})

    def save(self, folder: Path) -> None:
        """Write ``manifest.json`` atomically."""
        write_atomically(folder / MANIFEST, self.to_bytes())

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of a shards folder.

        Raises:
            DataError: the folder or its manifest is missing, unreadable, altered, or of another schema.
        """
        path = folder / MANIFEST
        if not folder.is_dir():
            raise DataError(f"{folder}: no such shards folder; make one with kineme ingest SOURCE --out {folder}")
        if not path.is_file():
            raise DataError(f"{folder}: has no {MANIFEST}, so no finished ingest; finish or start with kineme ingest")
        data = path.read_bytes()
        try:
            fields = json.loads(data)
            schema = fields["schema"]
            if schema == SCHEMA:
                del fields["checksum"]
                fields["shards"] = [ShardEntry(**entry) for entry in fields["shards"]]
                manifest = cls(**fields)
                # Byte for byte: what was not written like this was not written by an ingest.
                if manifest.to_bytes() == data:
                    return manifest
                raise ValueError("altered: its checksum is another")
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: not a manifest of shards ({error}); {ANEW}") from error
        raise DataError(f"{path}: shards of schema {schema}, this kineme reads {SCHEMA}; {ANEW}")


def _dump(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, indent=1).encode() + b"\n"
