"""Reads a decoded shard: its arrays (:mod:`kineme.shards.cache_files`) mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kineme.shards.batch import Clip
from kineme.shards.cache_files import EXTRAS, INDEX, clip_checksum
from kineme.shards.clip_table import ClipPlace
from kineme.shards.errors import DataError
from kineme.shards.sample import ClipRecord


class CachedShard:
    """A decoded shard, mapped into memory.

    Raises:
        DataError: a file of the folder is missing, cut short or altered.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._index = np.load(folder / INDEX)
            self._frames = _map(folder / "frames.npy")
            paths = [folder / f"{name}.npy" for name in EXTRAS]
            self._extras = [_map(path) if path.is_file() else None for path in paths]
            # Mapped, not read: the records of many clips are most of what a small clip takes.
            self._records = np.asarray(np.memmap(folder / "records.jsonl", np.uint8, "r"))
        except (OSError, ValueError, EOFError) as error:
            raise self._damage(str(error)) from error

    def clip(self, place: ClipPlace, cut: slice, *, check: bool) -> Clip:
        """These frames of one clip; its arrays are views of the mapped files.

        Raises:
            DataError: with ``check``, the clip is not what was written.
        """
        clip_rows = slice(place.first_frame, place.first_frame + place.num_frames)
        if place.row >= len(self._index) or clip_rows.stop > len(self._frames):
            raise self._damage(f"clip {place.key} lies behind its end")
        line_begin = int(self._index[place.row - 1, 1]) if place.row else 0
        line = self._records[line_begin : int(self._index[place.row, 1])].tobytes()
        if check:
            arrays = [self._frames[clip_rows], *(None if extra is None else extra[clip_rows] for extra in self._extras)]
            if clip_checksum(arrays, line) != self._index[place.row, 0]:
                raise self._damage(f"clip {place.key} is not what was written")
        actions, keypoints = (None if extra is None else extra[clip_rows][cut] for extra in self._extras)
        return Clip(self._frames[clip_rows][cut], ClipRecord.from_json(line), actions, keypoints)

    def _damage(self, reason: str) -> DataError:
        return DataError(f"{self._folder}: this cached shard is damaged ({reason}); delete the folder, it is made anew")


def _map(path: Path) -> NDArray[Any]:
    # As a plain array: slicing a memmap object costs several times as much.
    return np.asarray(np.load(path, mmap_mode="r"))
