"""A change of an index: its new files, the structures that are built for it, its commit. For who holds the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kineme.retrieval.atomic import sync
from kineme.retrieval.commits import (
    IndexInfo,
    SegmentEntry,
    StructureEntry,
    commit,
    read_info,
    remove_files,
    remove_unfinished,
)
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index_report import IndexReport, reported
from kineme.retrieval.kinds import forget, standing_structures
from kineme.retrieval.segments import Rows
from kineme.retrieval.vectors import Space


class Built(NamedTuple):
    """Structures that were built, and why these, where they were chosen."""

    entries: Mapping[Space, StructureEntry]
    report: IndexReport | None = None


Structures = Callable[[Path, IndexInfo], Built]
"""Given the folder and what it will hold (one segment, all of it live), builds structures."""


def standing_generation(folder: Path) -> int:
    """Of the index that stands there; 0 of one of another schema, or of none."""
    try:
        return read_info(folder).generation
    except RetrievalError:
        return 0


@contextmanager
def new_files(folder: Path, generation: int) -> Iterator[str]:
    """The name that new files of a change have; they vanish if it fails, and those of one that died before it do."""
    name = f"{generation:06d}"
    remove_files(folder, name)
    remove_unfinished(folder)
    try:
        yield name
    except BaseException:
        if standing_generation(folder) < generation:
            remove_files(folder, name)
        raise


def commit_rows(folder: Path, info: IndexInfo, segments: Sequence[SegmentEntry], removed: Rows) -> IndexInfo:
    """Make an index of these segments but for these rows, which ascend; its structures stay what they are."""
    generation = info.generation + 1
    file = f"removed-{generation:06d}.npy" if len(removed) else None
    if file is not None:
        np.save(folder / file, removed)
        sync(folder / file)
    count = sum(segment.count for segment in segments) - len(removed)
    changed = {"generation": generation, "segments": tuple(segments), "removed": file, "count": count}
    return _commit(folder, info.model_copy(update=changed))


def commit_anew(folder: Path, info: IndexInfo, structures: Structures | None) -> IndexInfo:
    """Make ``folder`` the index that ``info`` says, with structures built for it; exact search if not given."""
    built = Built({}) if structures is None else structures(folder, info)
    for entry in built.entries.values():
        if (folder / entry.location).exists():
            sync(folder / entry.location)
    with reported(folder, built.report):
        return _commit(folder, info.model_copy(update={"structures": built.entries}))


def _commit(folder: Path, info: IndexInfo) -> IndexInfo:
    before = standing_structures(folder)
    commit(folder, info)
    forget(folder, before, info.structures)
    return info
