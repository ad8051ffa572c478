"""The index folder, opened: clips, their two vectors, metadata and pictures, and the encoder, whole in one place.

    index.json          names everything else; replaced whole by every change (commits.py)
    encoder-000001/     the files of the encoder that made the vectors
    segments/000001/    clips that were written together (segments.py)
    removed-000002.npy  sorted numbers of rows that no longer count
    motion-000003.ivf.faiss   a structure over the vectors of a space, where search is not exact (kinds/)
    index_report.json   what was chosen when the structures were built, and why (choosing.py)

Copy the folder to another machine and query it there. Its rows are numbered through all segments; a number stands until
the next change. An open index sees nothing of changes: it keeps the files it opened.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from kineme.retrieval.commits import IndexInfo, read_info, segment_folder
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.exact import Neighbours, all_scores, merged, nearest_rows, nothing, without
from kineme.retrieval.filters import MetadataFilter
from kineme.retrieval.kinds import Structure, find_near, find_opener
from kineme.retrieval.metadata import STORED, StoredClip, from_stored, to_table
from kineme.retrieval.previews import StoredPicture
from kineme.retrieval.segments import Rows, Segment, open_segment
from kineme.retrieval.vectors import Frames, Space, Vectors

_OPENINGS = 10


@dataclass(frozen=True)
class Index:
    """An open index folder. Nothing in it is changed by searching; vectors stay on disk until they are used.

    Attributes:
        folder: where it was opened.
        info: what index.json said.
        segments: the clips, in the order of their rows.
        removed: ascending numbers of rows that no longer count.
        structures: of the spaces that are not searched exactly.
    """

    folder: Path
    info: IndexInfo
    segments: Sequence[Segment]
    removed: Rows
    structures: Mapping[Space, Structure]

    @property
    def count(self) -> int:
        """Clips in the index."""
        return self.info.count

    @property
    def encoder_folder(self) -> Path:
        """The files of the encoder that made the vectors."""
        return self.folder / self.info.encoder_folder

    @cached_property
    def live_rows(self) -> Rows:
        """Ascending numbers of the rows that count, (count,)."""
        return np.setdiff1d(np.arange(self.info.rows), self.removed, assume_unique=True)

    @cached_property
    def keys(self) -> list[str]:
        """Keys of the clips, in the order of the rows."""
        keys: list[str] = self._live("key").to_pylist()
        return keys

    @cached_property
    def table(self) -> pa.Table:
        """The metadata as filters see it: a row a clip, in order, each label a column."""
        return self._labelled[0]

    @property
    def label_columns(self) -> Mapping[str, str]:
        """Column of `table` -> label name."""
        return self._labelled[1]

    @cached_property
    def filter(self) -> MetadataFilter:
        """SQL filters over the metadata; they give row numbers."""
        return MetadataFilter(self.table, self.live_rows)

    def has(self, key: str) -> bool:
        """Whether a clip of this key is in the index."""
        return key in self._row_of

    def row_of(self, key: str) -> int:
        """The row of a clip.

        Raises:
            RetrievalError: no such key.
        """
        if key not in self._row_of:
            raise RetrievalError(f"{key!r} is no key of the index {self.folder}; query --json prints keys")
        return self._row_of[key]

    def clip(self, row: int) -> StoredClip:
        """The metadata of one row."""
        return self.clips([row])[0]

    def clips(self, rows: Sequence[int] | Rows) -> list[StoredClip]:
        """The metadata of some rows, in their order."""
        return from_stored(self._metadata.take(pa.array(rows, pa.int64())))

    def vector(self, key: str, by: Space) -> Vectors:
        """The (D,) vector of a clip, as it was encoded but for rounding.

        Raises:
            RetrievalError: no such key.
        """
        segment, row = self._place(self.row_of(key))
        encoded: Vectors = segment.encoded(by, slice(row, row + 1))[0]
        return encoded

    def space(self, name: Space) -> Vectors:
        """The vectors of all clips, (count, D), as they were encoded but for rounding; read into memory."""
        return np.concatenate([segment.encoded(name, rows) for segment, rows in self.parts(self.live_rows)])

    def previews(self, keys: Sequence[str]) -> dict[str, Frames]:
        """Small film strips (T <= 8, H, W, 3) uint8 of clips of the index, longer side at most 64 px.

        Raises:
            RetrievalError: no such key, or the index holds no picture of it.
        """
        strips = {}
        for key in keys:
            segment, row = self._place(self.row_of(key))
            strip = segment.pictures.strip(row)
            if strip is None:
                raise RetrievalError(f"{self.folder}: no preview of clip {key}: it was indexed without pictures")
            strips[key] = strip
        return strips

    def picture(self, key: str) -> StoredPicture | None:
        """Strip and film of a clip as bytes; None if it was indexed without.

        Raises:
            RetrievalError: no such key.
        """
        segment, row = self._place(self.row_of(key))
        return segment.pictures.stored(row)

    def film(self, key: str) -> bytes:
        """A small mp4 of a clip that browsers play, b"" if it was indexed without.

        Raises:
            RetrievalError: no such key.
        """
        stored = self.picture(key)
        return b"" if stored is None else stored.film

    def nearest(self, queries: Vectors, by: Space, k: int, rows: Rows | None = None) -> Neighbours:
        """The k nearest clips of each query.

        Args:
            queries: (Q, D) float32, finite; of any length where the metric is cosine.
            by: the space.
            k: clips wanted, at least 1; fewer come where there are fewer.
            rows: ascending numbers of live rows that may answer. Among them search is always exact. Without, it is as
                exact as the structure of the space is, up to 100 clips; never fewer than k come where there are k.
        """
        queries = self._prepared(queries, by)
        if rows is not None:
            return self._among(queries, by, min(k, len(rows)), rows)
        k = min(k, self.count)
        room = k + min(len(self.removed), k + 16)
        near = without(self._of_all(queries, by, k, room), self.removed, k)
        # Rare: more of the nearest were removed, or fewer found, than was made room for.
        if k and min(near.rows[:, -1].tolist(), default=0) < 0:
            short = near.rows[:, -1] < 0
            near.scores[short], near.rows[short] = self._among(queries[short], by, k, self.live_rows)
        return near

    def scores(self, queries: Vectors, by: Space) -> Vectors:
        """The score of every clip, in the order of `live_rows`; exact.

        Args:
            queries: (D,) for one query, or (Q, D) for several.
            by: the space.

        Returns:
            (count,) or (Q, count) float32.
        """
        prepared = self._prepared(np.atleast_2d(queries), by).reshape(queries.shape)
        metric = self.info.metrics[by]
        scores = np.concatenate([all_scores(prepared, part.vectors[by], metric) for part in self.segments], axis=-1)
        return scores[..., self.live_rows] if len(self.removed) else scores

    def parts(self, rows: Rows) -> list[tuple[Segment, Rows]]:
        """Each segment with its own numbers of those of its rows that are among ``rows``, which ascend."""
        parts = []
        for segment, first in zip(self.segments, self._firsts, strict=True):
            here = rows[slice(*np.searchsorted(rows, [first, first + segment.count]))]
            parts.append((segment, here - first))
        return parts

    def _of_all(self, queries: Vectors, by: Space, k: int, room: int) -> Neighbours:
        """The ``room`` nearest of all rows, those that were removed, too, so that no row is asked whether it is live.

        Of the first rows what the structure finds for k, of the others the exact nearest.
        """
        metric, found, covered = self.info.metrics[by], [], 0
        entry = self.info.structures.get(by)
        if entry is not None and k <= entry.most:
            vectors = self.segments[0].vectors[by]
            near = find_near(self.structures[by], entry.candidates, vectors, queries, metric, k, room)
            found, covered = [near], entry.rows
            if covered == self._rows:
                return near
        for segment, start in zip(self.segments, self._firsts.tolist(), strict=True):
            if start + segment.count > covered:
                near = nearest_rows(queries, segment.vectors[by], room, metric)
                found.append(Neighbours(near.scores, near.rows + start) if start else near)
        return merged(found or [nothing(len(queries))], room)

    def _among(self, queries: Vectors, by: Space, k: int, rows: Rows) -> Neighbours:
        """Exactly, among ``rows``."""
        found = [nothing(len(queries))]
        for (segment, here), start in zip(self.parts(rows), self._firsts, strict=True):
            if len(here):
                near = nearest_rows(queries, segment.vectors[by], k, self.info.metrics[by], allowed=here)
                found.append(Neighbours(near.scores, near.rows + start))
        return merged(found[1:] or found, k)

    def _prepared(self, queries: Vectors, by: Space) -> Vectors:
        if self.info.metrics[by] != "cosine":
            return np.ascontiguousarray(queries, np.float32)
        unit = np.array(queries, np.float32, order="C")
        library: Any = faiss  # which makes its signatures at run time; a search has no time for numpy here
        library.fvec_renorm_L2(unit.shape[1], len(unit), library.swig_ptr(unit))
        return unit

    def _place(self, row: int) -> tuple[Segment, int]:
        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        return self.segments[number], row - int(self._firsts[number])

    def _live(self, column: str) -> pa.ChunkedArray:
        whole = self._metadata.column(column)
        return whole.take(pa.array(self.live_rows)) if len(self.removed) else whole

    @cached_property
    def _metadata(self) -> pa.Table:
        # In one piece: of many, pyarrow joins all before it takes a few rows.
        parts = [segment.metadata for segment in self.segments] or [STORED.empty_table()]
        return pa.concat_tables(parts).combine_chunks()

    @cached_property
    def _labelled(self) -> tuple[pa.Table, dict[str, str]]:
        return to_table(self._metadata.take(pa.array(self.live_rows)))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return dict(zip(self.keys, self.live_rows.tolist(), strict=True))

    @cached_property
    def _rows(self) -> int:
        return self.info.rows

    @cached_property
    def _firsts(self) -> Rows:
        """Number of the first row of each segment."""
        return np.cumsum([0, *(segment.count for segment in self.segments)])[:-1]


def open_index(folder: Path, *, structures: bool = True) -> Index:
    """Open an index folder.

    Args:
        folder: the index.
        structures: what searches its spaces, too; without, one that is damaged does not matter, and nothing may be
            searched for.

    Raises:
        RetrievalError: not an index, another schema, a piece missing, or pieces that disagree in size.
    """
    for _ in range(_OPENINGS):
        info = read_info(folder)
        try:
            return _open(folder, info, structures)
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
            trouble = RetrievalError(f"{folder}: {missing} is missing from this index; copy it again or build it again")
        except RetrievalError as error:
            trouble = error
        # A change may have come between index.json and the files it named.
        if read_info(folder).generation == info.generation:
            raise trouble
    raise RetrievalError(f"{folder}: changes faster than it can be opened; wait for what changes it")


def _open(folder: Path, info: IndexInfo, with_structures: bool) -> Index:
    if not (folder / info.encoder_folder).is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder / info.encoder_folder))
    segments = [
        open_segment(segment_folder(folder, entry.name), entry.count, info.dims, info.metrics)
        for entry in info.segments
    ]
    removed = np.empty(0, np.int64) if info.removed is None else _numbers(folder / info.removed)
    if info.count != info.rows - len(removed):
        raise RetrievalError(
            f"{folder}: {info.rows} rows less {len(removed)} removed are not the {info.count} clips that index.json "
            "says; build the index again"
        )
    structures = {
        space: find_opener(entry.kind).open(folder / entry.location, entry, info.metrics[space])
        for space, entry in (info.structures.items() if with_structures else ())
    }
    return Index(folder, info, segments, removed, structures)


def _numbers(path: Path) -> Rows:
    try:
        numbers: Rows = np.load(path)
    except (ValueError, EOFError) as error:
        raise RetrievalError(f"{path}: unreadable ({error}); copy or build the index again") from None
    return numbers
