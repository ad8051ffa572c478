"""A segment: clips that were written together, in files that are never changed.

metadata.parquet       one row a clip (metadata.py)
motion.npy, appearance.npy             (N, D) float32 as they are searched: rows of length 1 where the metric is cosine
motion-norms.npy, ...                  (N,) float32, the lengths they had before, where the metric is cosine
pictures.bin, pictures.npy             (previews.py)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kineme.retrieval.atomic import sync, sync_tree
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.metadata import STORED, ClipMetadata, to_stored
from kineme.retrieval.previews import BYTES_FILE, PLACES_FILE, Picture, Pictures, PictureWriter, open_pictures
from kineme.retrieval.vectors import SPACES, ClipVectors, Space, Vectors, normalised

METADATA_FILE = "metadata.parquet"
_BLOCK_ROWS = 16_384
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """An open segment. Vectors stay on the disk (memory-mapped, read-only) until they are used."""

    folder: Path
    metadata: pa.Table
    vectors: Mapping[Space, Vectors]
    norms: Mapping[Space, Vectors]
    pictures: Pictures

    @property
    def count(self) -> int:
        """Rows."""
        return len(self.metadata)

    def encoded(self, space: Space, rows: Rows | slice) -> Vectors:
        """Vectors as the encoder gave them, but for rounding, (rows, D)."""
        chosen = self.vectors[space][rows]
        return chosen * self.norms[space][rows, None] if space in self.norms else np.array(chosen)


def write_segment(
    folder: Path,
    vectors: ClipVectors,
    clips: Sequence[ClipMetadata],
    pictures: Iterable[Picture],
    metrics: Mapping[Space, Metric],
    before: Sequence[tuple[Segment, Rows]] = (),
) -> int:
    """Write a segment of rows of other segments, followed by new ones, and bring it to the disk.

    Args:
        folder: where; must not exist.
        vectors: of the new clips.
        clips: their metadata, in the same order.
        pictures: of the new clips, one each in any order, or none.
        metrics: how the vectors of each space are compared.
        before: open segments and which of their rows come first.

    Returns:
        The number of rows.

    Raises:
        RetrievalError: the parts disagree.
    """
    if [clip.key for clip in clips] != vectors.keys:
        raise RetrievalError(f"{len(clips)} clips do not match {len(vectors.keys)} vectors key by key; encode again")
    old = sum(len(rows) for _, rows in before)
    count = old + len(clips)
    folder.mkdir(parents=True)
    tables = [segment.metadata.take(pa.array(rows)) for segment, rows in before]
    pq.write_table(pa.concat_tables([*tables, to_stored(clips)]), folder / METADATA_FILE)
    for space in SPACES:
        _write_space(folder, space, vectors.space(space), metrics[space], before, count)
    with PictureWriter(folder, count) as writer:
        row = 0
        for segment, rows in before:
            for number in rows.tolist():
                if (stored := segment.pictures.stored(number)) is not None:
                    writer.write(row, stored)
                row += 1
        writer.write_all({key: old + number for number, key in enumerate(vectors.keys)}, pictures)
    sync_tree(folder)
    sync(folder.parent)
    return count


def open_segment(folder: Path, count: int, dims: Mapping[Space, int], metrics: Mapping[Space, Metric]) -> Segment:
    """Open a segment that should have ``count`` rows of vectors of these lengths.

    Raises:
        FileNotFoundError: a file is missing.
        RetrievalError: a file is unreadable, or they disagree in size.
    """
    wanted: dict[str, tuple[int, ...]] = {f"{space}.npy": (count, dims[space]) for space in SPACES}
    wanted |= {_norms_file(space): (count,) for space in SPACES if metrics[space] == "cosine"}
    for name in (METADATA_FILE, PLACES_FILE, BYTES_FILE, *wanted):
        if not (folder / name).is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder / name))
    try:
        metadata = pq.read_table(folder / METADATA_FILE, memory_map=True)
        arrays = {name: np.load(folder / name, mmap_mode="r") for name in wanted}
        pictures = open_pictures(folder)
    except (pa.ArrowException, ValueError, EOFError, OSError) as error:
        raise RetrievalError(f"{folder}: a file is unreadable ({error}); copy or build the index again") from None
    if metadata.schema.names != STORED.names:
        raise RetrievalError(f"{folder / METADATA_FILE}: columns {metadata.schema.names}; build the index again")
    for name, rows in ((METADATA_FILE, len(metadata)), (PLACES_FILE, len(pictures.places))):
        if rows != count:
            raise RetrievalError(f"{folder}: {name} has {rows} rows for {count} clips; build the index again")
    for name, shape in wanted.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32:
            raise RetrievalError(
                f"{folder}: {name} is {arrays[name].shape}, the index says {shape}; copy or build the index again"
            )
    vectors = {space: arrays[f"{space}.npy"] for space in SPACES}
    norms = {space: arrays[_norms_file(space)] for space in SPACES if metrics[space] == "cosine"}
    return Segment(folder, metadata, vectors, norms, pictures)


def _write_space(
    folder: Path,
    space: Space,
    new: Vectors,
    metric: Metric,
    before: Sequence[tuple[Segment, Rows]],
    count: int,
) -> None:
    """In blocks, so that the memory it takes does not grow with the index."""
    searched = new_array(folder / f"{space}.npy", (count, new.shape[1]))
    norms = new_array(folder / _norms_file(space), (count,)) if metric == "cosine" else None
    start = 0
    for segment, rows in before:
        for block in range(0, len(rows), _BLOCK_ROWS):
            chosen = rows[block : block + _BLOCK_ROWS]
            searched[start : start + len(chosen)] = segment.vectors[space][chosen]
            if norms is not None:
                norms[start : start + len(chosen)] = segment.norms[space][chosen]
            start += len(chosen)
    for block in range(0, len(new), _BLOCK_ROWS):
        rows_of_block = np.asarray(new[block : block + _BLOCK_ROWS])
        place = slice(start + block, start + block + len(rows_of_block))
        searched[place] = normalised(rows_of_block) if metric == "cosine" else rows_of_block
        if norms is not None:
            norms[place] = np.linalg.norm(rows_of_block, axis=1)
    for array in (searched, norms):
        if isinstance(array, np.memmap):
            array.flush()


def new_array(path: Path, shape: tuple[int, ...]) -> Vectors:
    """A .npy file of float32 to write to in place, with room on the disk for all of it.

    Raises:
        OSError: there is no room. Found out only while writing, that would kill the process.
    """
    if 0 in shape:  # nothing to map
        np.save(path, np.empty(shape, np.float32))
        return np.empty(shape, np.float32)
    array: Vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not every file system can
                raise OSError(error.errno, error.strerror, str(path)) from None
    return array


def _norms_file(space: Space) -> str:
    return f"{space}-norms.npy"
