"""Unpacking zip and tar files that somebody else made: nothing is written outside the folder that is named."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kineme.shards.errors import DataError

_CHUNK = 1 << 20


def unpack(archive: Path, to: Path) -> dict[str, int]:
    """Unpack an archive into a folder.

    It is unpacked beside its final place first, so that a damaged archive leaves nothing behind. Files of the same name
    are replaced, other files stay.

    Args:
        archive: zip, or tar with or without compression.
        to: folder; made if missing.

    Returns:
        Bytes of every file by its path under ``to``.

    Raises:
        DataError: not an archive, damaged, or with a member that would lie outside ``to``.
        OSError: the disk is full or read-only.
    """
    to.mkdir(parents=True, exist_ok=True)
    partial = to / f".{archive.name}.unpacking"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, partial)
        else:
            _untar(archive, partial)
        files = {path.relative_to(partial).as_posix(): path.stat().st_size for path in _files(partial)}
        _move_into(partial, to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return dict(sorted(files.items()))


def _unzip(archive: Path, to: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                _check_name(archive, name)
            opened.extractall(to)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{archive}: damaged, or of a kind that Python cannot unpack ({error}); get it again"
        ) from error


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{archive}: its member {name!r} would be unpacked elsewhere; this is not the file it should be"
        )


def _untar(archive: Path, to: Path) -> None:
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(to, filter="data")
            # The checksum of a compressed file comes after the end of the tar, where tarfile does not look.
            while opened.fileobj is not None and opened.fileobj.read(_CHUNK):
                pass
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: unsafe to unpack ({error}); this is not the file it should be") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise DataError(f"{archive}: neither zip nor tar, or damaged ({error}); get it again") from error


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _move_into(folder: Path, to: Path) -> None:
    """Whole folders at once where there is none of that name yet."""
    for path in sorted(folder.iterdir()):
        target = to / path.name
        if path.is_dir() and not path.is_symlink() and target.is_dir():
            _move_into(path, target)
        else:
            path.replace(target)
