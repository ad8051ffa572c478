"""Finding files, and naming and ordering what was found."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path


def files_under(root: Path, suffixes: Collection[str]) -> list[Path]:
    """Files below ``root`` whose suffix in lower case is one of ``suffixes``, sorted; hidden ones are passed over."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if path.is_file() and not _is_hidden(path.relative_to(root)))


def source_name(path: Path, root: Path) -> str:
    """Relative to ``root``, as text that any file can hold: bytes that are no UTF-8 become backslash escapes.

    The root itself has no name of its own below the root, and is called as its folder.
    """
    relative = path.relative_to(root).as_posix() if path != root else root.resolve().name
    return os.fsencode(relative).decode("utf-8", "backslashreplace")


def natural_order(name: str) -> list[tuple[int, str]]:
    """A key to sort names by: 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
