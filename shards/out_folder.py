"""What may lie in the folder that an ingest writes to, and what a killed one left there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kineme.shards.errors import DataError
from kineme.shards.journal import JOURNAL, PLAN, different_settings
from kineme.shards.manifest import MANIFEST, Manifest, Setting


def check_free(out: Path, described: Mapping[str, Setting]) -> None:
    """Raise DataError if ``out`` holds anything but an ingest with these settings, finished or not."""
    if (out / MANIFEST).exists():
        old = Manifest.load(out).settings
        if old != described:
            different = different_settings(old, described)
            raise DataError(f"{out}: holds shards of other {different}; give another --out, or delete this folder")
    elif not (out / JOURNAL).exists():
        foreign = sorted(path.name for path in out.iterdir() if not _is_leftover(path))
        if foreign:
            raise DataError(f"{out}: is not empty (holds {foreign[0]}); give a new or empty folder as --out")


def _is_leftover(path: Path) -> bool:
    """Temporary files of a killed ingest, and a plan whose journal was not begun."""
    temporary = path.name.startswith(".") and path.name.endswith(".tmp") and path.is_file()
    return temporary or (path.name == PLAN and not path.with_name(JOURNAL).exists())


def sweep(out: Path) -> None:
    """Remove what a killed ingest left half-written."""
    for path in out.iterdir():
        if _is_leftover(path):
            path.unlink()
