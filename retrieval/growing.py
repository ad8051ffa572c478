"""How an index comes to be and changes: built, added to, removed from, compacted; one whole index at every moment.

Small additions are kept few: a new segment takes in those before it that are not much larger, so that n clips added one
by one make about log n segments, and each clip is written about log n times.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from kineme.retrieval.atomic import built_beside, locked, sync_tree
from kineme.retrieval.changes import Structures, commit_anew, commit_rows, new_files, standing_generation
from kineme.retrieval.commits import IndexInfo, SegmentEntry, is_index, read_info, segment_folder
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import METRICS, Metric
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.metadata import ClipMetadata
from kineme.retrieval.previews import Picture
from kineme.retrieval.segments import Rows, write_segment
from kineme.retrieval.vectors import SPACES, ClipVectors, Space

# A segment of up to so many times the clips that are added is written anew together with them.
_TAKEN_IN = 2


@dataclass(frozen=True)
class Added:
    """What came into an index: clips that are new, those that took the place of others, those that were there."""

    info: IndexInfo
    new: int
    replaced: int
    skipped: int


@dataclass(frozen=True)
class Removed:
    """What went out of an index: so many clips."""

    info: IndexInfo
    count: int


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
        with new_files(target, generation) as name:
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
            commit_anew(target, info, structures)

    if is_index(folder):
        with locked(folder):
            write(folder, standing_generation(folder) + 1)
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
    present: Literal["refuse", "skip", "replace"] = "refuse",
    encoder_folder: str | None = None,
) -> Added:
    """Add clips to an index; they come after those that are there.

    Args:
        folder: an index.
        vectors: of the clips, by the index's own encoder.
        clips: their metadata, in the same order.
        pictures: one of each, in any order, or none.
        present: clips of the same keys that are there are an error, or stay, or are removed.
        encoder_folder: the index's own (`IndexInfo.encoder_folder`) that made the vectors.

    Raises:
        RetrievalError: not an index, another encoder or other dimensions, parts that disagree, or keys that are there
            already.
    """
    with locked(_existing(folder)):
        index = open_index(folder, structures=False)
        if encoder_folder not in (None, index.info.encoder_folder):
            raise RetrievalError(f"{folder} was built anew meanwhile, with an encoder of its own: add the clips again")
        for space in SPACES:
            if vectors.space(space).shape[1] != index.info.dims[space]:
                raise RetrievalError(
                    f"{space} vectors of {vectors.space(space).shape[1]} dimensions: those of {folder} have "
                    f"{index.info.dims[space]}; encode the clips with the index's own encoder"
                )
        there = {key: index.row_of(key) for key in vectors.keys if index.has(key)}
        if there and present == "refuse":
            raise RetrievalError(
                f"{folder}: holds {len(there)} of these {len(clips)} clips already, the first is {next(iter(there))}; "
                "replace them (--replace) or leave them out"
            )
        skipped = there if present == "skip" else {}
        if skipped:
            wanted = [number for number, key in enumerate(vectors.keys) if key not in skipped]
            keys = [vectors.keys[number] for number in wanted]
            vectors = ClipVectors(keys, *(vectors.space(space)[wanted] for space in SPACES))
            clips = [clips[number] for number in wanted]
            pictures = (picture for picture in pictures if picture.key not in skipped)
        if not clips:
            return Added(index.info, 0, 0, len(skipped))
        replaced = {} if skipped else there
        live = np.setdiff1d(index.live_rows, np.array(list(replaced.values()), np.int64))
        taken_in = _taken_in(index, len(clips))
        # Rows of the segments that stay keep their numbers; those taken in are written without what was removed.
        stay = sum(segment.count for segment in index.segments[:taken_in])
        before = index.parts(live[live >= stay])[taken_in:]
        removed = np.setdiff1d(np.arange(stay), live[live < stay], assume_unique=True)
        with new_files(folder, index.info.generation + 1) as name:
            count = write_segment(segment_folder(folder, name), vectors, clips, pictures, index.info.metrics, before)
            segments = (*index.info.segments[:taken_in], SegmentEntry(name=name, count=count))
            info = commit_rows(folder, index.info, segments, removed)
        return Added(info, len(clips) - len(replaced), len(replaced), len(skipped))


def remove_clips(folder: Path, keys: Collection[str]) -> Removed:
    """Remove clips. They are found no more; their bytes go with the next `compact`.

    Raises:
        RetrievalError: not an index, or one of the keys is not in it: then none is removed.
    """
    return _remove(folder, lambda index: np.array(sorted({index.row_of(key) for key in keys}), np.int64))


def remove_where(folder: Path, where: str) -> Removed:
    """As `remove_clips`, of the clips for which a boolean SQL expression over the metadata is true.

    Raises:
        RetrievalError: not an index, or a bad filter.
    """
    return _remove(folder, lambda index: index.filter.rows(where))


def _remove(folder: Path, choose: Callable[[Index], Rows]) -> Removed:
    with locked(_existing(folder)):
        index = open_index(folder, structures=False)
        rows = choose(index)
        if not len(rows):
            return Removed(index.info, 0)
        info = commit_rows(folder, index.info, index.info.segments, np.union1d(index.removed, rows))
        return Removed(info, len(rows))


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
        index = open_index(folder, structures=False)
        none = ClipVectors([], *(np.empty((0, index.info.dims[space]), np.float32) for space in SPACES))
        with new_files(folder, index.info.generation + 1) as name:
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
            return commit_anew(folder, info, structures)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Say now, before hours of encoding, whether an index can be built at ``folder``.

    Raises:
        RetrievalError: it is taken by something that is not an index, or by an index and ``overwrite`` is false.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        place = folder.resolve()
        if place == Path.cwd() or place.is_mount():
            what = "the folder you are in" if place == Path.cwd() else "a mount point"
            raise RetrievalError(f"{folder} is {what}, which no new folder can replace; name a folder in it")
        return
    if not is_index(folder):
        raise RetrievalError(f"{folder} exists and is not an index: it is left alone; name another folder")
    if not overwrite:
        raise RetrievalError(f"{folder} already holds an index; add --force to replace it, or name another folder")


def _existing(folder: Path) -> Path:
    read_info(folder)
    return folder


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


def _copy_encoder(files: Mapping[str, Path], folder: Path) -> None:
    folder.mkdir()
    for name, source in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RetrievalError(f"encoder file name {name!r} leaves the encoder folder; use a relative name")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    sync_tree(folder)
