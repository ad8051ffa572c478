"""Finding the files of a data set whose labels stand in its file names."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path


def files_under(root: Path, suffixes: Collection[str]) -> list[Path]:
    """Files below ``root`` whose suffix in lower case is one of ``suffixes``, sorted; hidden ones are passed over."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if path.is_file() and not _is_hidden(path.relative_to(root)))


def source_name(path: Path, root: Path) -> str:
    """Relative to ``root``, as text that any file can hold: bytes that are no UTF-8 become backslash escapes."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
