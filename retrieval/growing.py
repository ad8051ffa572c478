"""How an index comes to be and changes: built, added to, removed from, compacted; one whole index at every moment.

Small additions are kept few: a new segment takes in those before it that are not much larger, so that n clips added one
by one make about log n segments, and each clip is written about log n times.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from kineme.retrieval.atomic import built_beside, locked, sync, sync_tree
from kineme.retrieval.commits import (
    IndexInfo,
    SegmentEntry,
    StructureEntry,
    commit,
    is_index,
    read_info,
    segment_folder,
)
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import METRICS, Metric
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.kinds import forget, standing_structures
from kineme.retrieval.metadata import ClipMetadata
from kineme.retrieval.previews import Picture
from kineme.retrieval.segments import Rows, write_segment
from kineme.retrieval.vectors import SPACES, ClipVectors, Space

# A segment of up to so many times the clips that are added is written anew together with them.
_TAKEN_IN = 2

Structures = Callable[[Path, IndexInfo], Mapping[Space, StructureEntry]]
"""Given the folder and what it will hold (one segment, all of it live), builds structures and names them."""


def build_index(
    folder: Path,
    vectors: ClipVectors,
    clips: Sequence[ClipMetadata],
    *,
    encoder: str,
    encoder_files: Mapping[str, Path],
    data: str,
    pictures: Iterable[Picture],
    metrics: Mapping[Space, Metric] | None = None,
    structures: Structures | None = None,
    overwrite: bool = False,
) -> Index:
    """Build an index folder.

    Args:
        folder: where it will stand; must not exist, be empty, or (with ``overwrite``) hold an index, which stays what
            it is until the new one is complete.
        vectors: of N clips.
        clips: their metadata, in the same order.
        encoder: name of the encoder.
        encoder_files: name inside the encoder's folder (may have folders) -> file to copy.
        data: where the clips came from.
        pictures: one of every clip, in any order, read one at a time; or none at all.
        metrics: of each space; "cosine" where not given.
        structures: what searches large spaces (choosing.py); exact search if not given.
        overwrite: replace an index that is there.

    Raises:
        RetrievalError: the folder is taken, the parts disagree, or a name would leave the encoder's folder.
    """
    check_free(folder, overwrite=overwrite)
    if not vectors.keys:
        raise RetrievalError("no clips to index: 0 vectors; check the shards and the split")
    metric_of: dict[Space, Metric] = {space: (metrics or {}).get(space, "cosine") for space in SPACES}
    for metric in metric_of.values():
        if metric not in METRICS:
            raise RetrievalError(f"metric {metric!r}: one of {', '.join(METRICS)} expected")

    def write(target: Path, generation: int) -> None:
        with _new_files(target, generation) as name:
            info = IndexInfo(
                count=len(clips),
                dims={space: vectors.space(space).shape[1] for space in SPACES},
                metrics=metric_of,
                encoder=encoder,
                data=data,
                generation=generation,
                encoder_folder=f"encoder-{name}",
                segments=(SegmentEntry(name=name, count=len(clips)),),
            )
            _copy_encoder(encoder_files, target / info.encoder_folder)
            write_segment(segment_folder(target, name), vectors, clips, pictures, metric_of)
            _commit(target, info, structures)

    if is_index(folder):
        with locked(folder):
            write(folder, _generation(folder) + 1)
    else:
        with built_beside(folder) as partial:
            write(partial, 1)
    return open_index(folder)


def add_clips(
    folder: Path,
    vectors: ClipVectors,
    clips: Sequence[ClipMetadata],
    pictures: Iterable[Picture],
    *,
    replace: bool = False,
) -> IndexInfo:
    """Add clips to an index; they come after those that are there.

    Args:
        folder: an index.
        vectors: of the clips, by the index's own encoder.
        clips: their metadata, in the same order.
        pictures: one of each, in any order, or none.
        replace: clips of the same keys that are there are removed; else they are an error.

    Raises:
        RetrievalError: not an index, other dimensions, parts that disagree, or keys that are there already.
    """
    with locked(_existing(folder)):
        index = open_index(folder)
        for space in SPACES:
            if vectors.space(space).shape[1] != index.info.dims[space]:
                raise RetrievalError(
                    f"{space} vectors of {vectors.space(space).shape[1]} dimensions: those of {folder} have "
                    f"{index.info.dims[space]}; encode the clips with the index's own encoder"
                )
        there = [index.row_of(key) for key in vectors.keys if index.has(key)]
        if there and not replace:
            raise RetrievalError(
                f"{folder}: holds {len(there)} of these {len(clips)} clips already, the first is "
                f"{index.clip(there[0]).key}; replace them (--replace) or leave them out"
            )
        if not clips:
            return index.info
        live = np.setdiff1d(index.live_rows, np.array(there, np.int64))
        taken_in = _taken_in(index, len(clips))
        # Rows of the segments that stay keep their numbers; those taken in are written without what was removed.
        stay = sum(segment.count for segment in index.segments[:taken_in])
        before = index.parts(live[live >= stay])[taken_in:]
        removed = np.setdiff1d(np.arange(stay), live[live < stay], assume_unique=True)
        with _new_files(folder, index.info.generation + 1) as name:
            count = write_segment(segment_folder(folder, name), vectors, clips, pictures, index.info.metrics, before)
            segments = (*index.info.segments[:taken_in], SegmentEntry(name=name, count=count))
            return _commit_rows(folder, index.info, segments, removed)


def remove_clips(folder: Path, keys: Collection[str]) -> IndexInfo:
    """Remove clips. They are found no more; their bytes go with the next `compact`.

    Raises:
        RetrievalError: not an index, or one of the keys is not in it: then none is removed.
    """
    with locked(_existing(folder)):
        index = open_index(folder)
        rows = np.array(sorted({index.row_of(key) for key in keys}), np.int64)
        if not len(rows):
            return index.info
        return _commit_rows(folder, index.info, index.info.segments, np.union1d(index.removed, rows))


def compact(folder: Path, structures: Structures | None = None) -> IndexInfo:
    """Write all clips into one segment, without those that were removed, and build the structures anew.

    An index that is in one piece already is not written again, only its structures are.

    Args:
        folder: an index.
        structures: what searches large spaces (choosing.py); exact search if not given.

    Raises:
        RetrievalError: not an index.
    """
    with locked(_existing(folder)):
        index = open_index(folder)
        none = ClipVectors([], *(np.empty((0, index.info.dims[space]), np.float32) for space in SPACES))
        with _new_files(folder, index.info.generation + 1) as name:
            segments = index.info.segments
            if len(segments) != 1 or len(index.removed):
                live = index.parts(index.live_rows)
                count = write_segment(segment_folder(folder, name), none, [], [], index.info.metrics, live)
                segments = (SegmentEntry(name=name, count=count),)
            info = index.info.model_copy(
                update={
                    "generation": index.info.generation + 1,
                    "segments": segments,
                    "removed": None,
                    "structures": {},
                }
            )
            return _commit(folder, info, structures)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Say now, before hours of encoding, whether an index can be built at ``folder``.

    Raises:
        RetrievalError: it is taken by something that is not an index, or by an index and ``overwrite`` is false.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_index(folder):
        raise RetrievalError(f"{folder} exists and is not an index: it is left alone; name another folder")
    if not overwrite:
        raise RetrievalError(f"{folder} already holds an index; add --force to replace it, or name another folder")


def _existing(folder: Path) -> Path:
    read_info(folder)
    return folder


def _generation(folder: Path) -> int:
    """Of the index that stands there; 0 of one of another schema, or of none."""
    try:
        return read_info(folder).generation
    except RetrievalError:
        return 0


@contextmanager
def _new_files(folder: Path, generation: int) -> Iterator[str]:
    """The name that new files of a change have; they vanish if it fails, and those of one that died before it do."""
    name = f"{generation:06d}"
    _remove_files(folder, name)
    try:
        yield name
    except BaseException:
        if _generation(folder) < generation:
            _remove_files(folder, name)
        raise


def _remove_files(folder: Path, name: str) -> None:
    for path in (segment_folder(folder, name), *folder.glob(f"*-{name}"), *folder.glob(f"*-{name}.*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _taken_in(index: Index, new: int) -> int:
    """The number of the first segment that is written anew with ``new`` clips; those of structures never are."""
    covered = max((entry.rows for entry in index.info.structures.values()), default=0)
    number, gathered = len(index.segments), new
    rows = index.info.rows
    while number and index.segments[number - 1].count <= _TAKEN_IN * gathered:
        rows -= index.segments[number - 1].count
        if rows < covered:
            break
        gathered += index.segments[number - 1].count
        number -= 1
    return number


def _commit_rows(folder: Path, info: IndexInfo, segments: Sequence[SegmentEntry], removed: Rows) -> IndexInfo:
    generation = info.generation + 1
    file = f"removed-{generation:06d}.npy" if len(removed) else None
    if file is not None:
        np.save(folder / file, removed)
        sync(folder / file)
    count = sum(segment.count for segment in segments) - len(removed)
    changed = {"generation": generation, "segments": tuple(segments), "removed": file, "count": count}
    return _commit(folder, info.model_copy(update=changed), None)


def _commit(folder: Path, info: IndexInfo, structures: Structures | None) -> IndexInfo:
    if structures is not None:
        info = info.model_copy(update={"structures": structures(folder, info)})
        for entry in info.structures.values():
            if (folder / entry.location).exists():
                sync(folder / entry.location)
    before = standing_structures(folder)
    commit(folder, info)
    forget(folder, before, info.structures)
    return info


def _copy_encoder(files: Mapping[str, Path], folder: Path) -> None:
    folder.mkdir()
    for name, source in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RetrievalError(f"encoder file name {name!r} leaves the encoder folder; use a relative name")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    sync_tree(folder)
