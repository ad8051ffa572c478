"""The clips of a shards folder, read at random: from the cache where a shard is in it, else out of the tar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from kineme.shards.batch import Clip
from kineme.shards.cache import CacheUse
from kineme.shards.cached_shard import CachedShard
from kineme.shards.clip_table import ClipPlace, ClipTable
from kineme.shards.errors import ANEW, DataError
from kineme.shards.handles import Handle, MostRecent
from kineme.shards.order import SHARDS_AT_ONCE, Position
from kineme.shards.reader import decode_sample, read_sample
from kineme.shards.window import Window

# Enough for the shards that an epoch mixes, of two such lots where a batch holds clips of both.
_OPEN_SHARDS = 2 * SHARDS_AT_ONCE


class StoredClips(Dataset[Clip]):
    """Clips by (epoch, clip number), the epoch choosing the window.

    Which shards are cached changes how fast a clip comes, never which clip. A cached clip's checksum is compared when a
    process first touches it; a clip out of a tar must have the key that the table expects there, and must decode to the
    size and number of frames that its record says.
    """

    def __init__(self, table: ClipTable, window: Window, cache: CacheUse | None = None) -> None:
        self._table = table
        self._window = window
        self._cache = cache
        self._checked = np.zeros(len(table), bool)
        self._open()

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, position: Position) -> Clip:
        """One clip.

        Raises:
            DataError: the shard, or its folder in the cache, is missing or damaged.
        """
        epoch, number = position
        place = self._table[number]
        return self._read(number, place, self._window.cut(place.key, place.num_frames, epoch))

    def whole(self, number: int) -> Clip:
        """All stored frames of one clip.

        Raises:
            DataError: as above.
        """
        place = self._table[number]
        return self._read(number, place, slice(0, place.num_frames, 1))

    def _read(self, number: int, place: ClipPlace, cut: slice) -> Clip:
        if self._folder(place.shard) is None:
            return self._decode(place, cut)
        check = not self._checked[number]
        clip = self._cached.get(place.shard, self._open_cached).clip(place, cut, check=check)
        self._checked[number] = True
        return clip

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker opens and maps the files itself.
        return {name: value for name, value in self.__dict__.items() if name not in ("_cached", "_tars")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._cached = MostRecent[CachedShard](_OPEN_SHARDS)
        self._tars = MostRecent[Handle](_OPEN_SHARDS)

    def _folder(self, shard: int) -> Path | None:
        return None if self._cache is None else self._cache.folders[shard]

    def _open_cached(self, shard: int) -> CachedShard:
        folder = self._folder(shard)
        assert folder is not None
        return CachedShard(folder)

    def _open_tar(self, shard: int) -> Handle:
        tar = self._table.tar(shard)
        try:
            return Handle(tar)
        except OSError as error:
            raise DataError(f"{tar}: cannot be opened ({error.strerror}); {ANEW}") from error

    def _decode(self, place: ClipPlace, cut: slice) -> Clip:
        tar = self._table.tar(place.shard)
        sample = read_sample(tar, self._tars.get(place.shard, self._open_tar).fd, place.begin, place.end, place.key)
        if len(sample.mp4) != place.mp4_size or sample.record.num_frames != place.num_frames:
            raise DataError(f"{tar}: clip {place.key} is not what its row in the parquet says; {ANEW}")
        try:
            frames = decode_sample(sample)
        except DataError as error:
            raise DataError(f"{tar}: clip {place.key}: {error}") from error
        actions = None if sample.actions is None else sample.actions[cut]
        keypoints = None if sample.keypoints is None else sample.keypoints[cut]
        return Clip(frames[cut], sample.record, actions, keypoints)
