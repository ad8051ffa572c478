"""Getting a data set's original files: show the licence, download, compare checksums, unpack, and take note of it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path

from kineme.shards.archives import unpack
from kineme.shards.download import UnreachableError, download
from kineme.shards.errors import DataError
from kineme.shards.manifest import write_atomically
from kineme.shards.sources.base import NOBODY, Watcher
from kineme.shards.sources.origins import ORIGINS, Origin, OriginFile, ZenodoFiles

CHECKSUMS = "SHA256SUMS"
"""Checksums of all that was downloaded, as ``sha256sum --check --ignore-missing`` reads them."""

_TIMEOUT_S = 30.0


def was_begun(to: Path) -> bool:
    """Whether files of a data set were ever fetched into a folder, so that what is there may be a part of them."""
    return (to / CHECKSUMS).exists()


def fetch_files(name: str, to: Path, watcher: Watcher, extras: Collection[str] = ()) -> str:
    """Get the original files of a data set of :mod:`kineme.shards.sources.origins`; see :func:`fetch_origin`."""
    return fetch_origin(name, ORIGINS[name], to, watcher, extras)


def fetch_origin(name: str, origin: Origin, to: Path, watcher: Watcher = NOBODY, extras: Collection[str] = ()) -> str:
    """Get the files of a data set that are not there yet. Run again, it goes on where it was stopped.

    Files that were put there by hand are taken as they are, if their checksums are right. Archives are unpacked and
    deleted; ``.NAME.unpacked`` then says what was in them.

    Args:
        name: of the data set.
        origin: where the files are.
        to: folder for them; made if missing.
        watcher: is told how it goes.
        extras: paths of files to get that are not got otherwise.

    Returns:
        What was done, one line.

    Raises:
        DataError: no network (with what to place where), or a file that is not the published one.
        OSError: the disk is full or read-only; what has come is kept.
    """
    if to.exists() and not to.is_dir():
        raise DataError(f"{to}: is a file; --to needs a folder")
    folder = _Folder(to, watcher)
    try:
        files = [file for file in _listed(origin) if not file.extra or file.path in extras]
        missing = [file for file in files if not folder.has(file)]
        if missing:
            _announce(name, origin, missing, watcher)
        for file in files:
            folder.get(file)
    except UnreachableError as error:
        raise UnreachableError(f"{error}; all of {name} is at {origin.page}") from error
    line = f"{name}: {len(files)} files in {to}, {len(missing)} of them got now"
    unpublished = sum(file.sha256 is None and file.md5 is None for file in files)
    if unpublished:
        return f"{line}; nobody publishes checksums for {unpublished} of them, theirs are noted in {to / CHECKSUMS}"
    return f"{line}; checksums are as published"


def _announce(name: str, origin: Origin, missing: list[OriginFile], watcher: Watcher) -> None:
    watcher.say(f"{name}: licence: {origin.licence}; see {origin.page}")
    sizes = [file.size for file in missing if file.size is not None]
    size = f"{sum(sizes) / 1e6:,.1f} MB" if len(sizes) == len(missing) else "of a size that is not published"
    watcher.say(f"{name}: {len(missing)} files to get, {size}")


def _listed(origin: Origin) -> tuple[OriginFile, ...]:
    return _zenodo(origin.files) if isinstance(origin.files, ZenodoFiles) else origin.files


def _zenodo(asked: ZenodoFiles) -> tuple[OriginFile, ...]:
    """The record's files with the sizes and md5 that Zenodo publishes."""
    try:
        with urllib.request.urlopen(asked.record, timeout=_TIMEOUT_S) as answer:
            record = json.load(answer)
    except ValueError as error:
        raise DataError(f"{asked.record}: the answer is no JSON ({error}); try again later") from error
    except urllib.error.HTTPError as error:
        with error:
            raise _no_list(asked, f"HTTP {error.code} {error.reason}") from error
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _no_list(asked, reason.strerror if isinstance(reason, OSError) else reason) from error
    try:
        files = tuple(
            OriginFile(
                path=entry["key"],
                urls=(entry["links"]["self"],),
                size=entry["size"],
                md5=entry["checksum"].removeprefix("md5:"),
                unpacks=True,
            )
            for entry in sorted(record["files"], key=lambda entry: str(entry["key"]))
            if re.fullmatch(asked.pattern, entry["key"])
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{asked.record}: not a record as Zenodo used to send them ({error!r})") from error
    if not files:
        raise DataError(f"{asked.record}: lists no file like {asked.pattern}")
    return files


def _no_list(asked: ZenodoFiles, reason: object) -> UnreachableError:
    return UnreachableError(f"{asked.record}: cannot be had ({reason}); get its files by hand and unpack them there")


class _Folder:
    """The files of a data set that are there, and the notes on them."""

    def __init__(self, root: Path, watcher: Watcher) -> None:
        self._root = root
        self._watcher = watcher
        self._sums = _read_checksums(root / CHECKSUMS)

    def has(self, file: OriginFile) -> bool:
        """Whether it is there, or was unpacked."""
        return (self._root / file.path).is_file() or (file.unpacks and self._unpacked(file))

    def get(self, file: OriginFile) -> None:
        """Download it unless it is there, compare, note its checksum, unpack."""
        if file.unpacks and self._unpacked(file):
            return
        path = self._root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _download(file, path, self._watcher)
        noted = self._sums.setdefault(file.path, found)
        if noted != found:
            raise DataError(
                f"{path}: has sha256 {found}, another one than in {CHECKSUMS} when it was got before; if you trust it, "
                f"delete its line there"
            )
        lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(self._sums.items()))
        write_atomically(self._root / CHECKSUMS, "".join(lines).encode())
        if file.unpacks:
            members = unpack(path, self._root)
            write_atomically(self._note(file), json.dumps(members, indent=0).encode())
            path.unlink()

    def _unpacked(self, file: OriginFile) -> bool:
        """Whether everything that was in the archive is there, in full length."""
        try:
            members: dict[str, int] = json.loads(self._note(file).read_bytes())
            return all((self._root / name).stat().st_size == size for name, size in members.items())
        except (OSError, ValueError):
            return False

    def _note(self, file: OriginFile) -> Path:
        path = self._root / file.path
        return path.with_name(f".{path.name}.unpacked")


def _download(file: OriginFile, path: Path, watcher: Watcher) -> str:
    """From the first address that gives it; its sha256."""
    errors: list[DataError] = []
    for url in file.urls:
        try:
            return download(
                url,
                path,
                sha256=file.sha256,
                md5=file.md5,
                size=file.size,
                progress=lambda done, total: watcher.progress(file.path, done, total),
            )
        except DataError as error:
            errors.append(error)
    raise errors[0]


def _read_checksums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {pair[1].removeprefix("*"): pair[0] for pair in pairs if len(pair) == 2}
