"""Batches of clips to train from: out of a cache of decoded frames, or streamed from the tars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from kineme.shards.batch import Clip, collate
from kineme.shards.batch import ClipBatch as ClipBatch
from kineme.shards.cache import build_cache, common_size
from kineme.shards.errors import DataError
from kineme.shards.manifest import Manifest, ShardEntry
from kineme.shards.reader import check_size
from kineme.shards.reader import load_clip_frames as load_clip_frames
from kineme.shards.records import read_rows
from kineme.shards.sample import ClipRecord
from kineme.shards.stream import ClipStream, StreamLoader, collate_stream
from kineme.shards.window import Window

Position = tuple[int, int]
"""(epoch, clip number): what the sampler hands a worker, so that it draws the windows of the right epoch."""

StoredClip = tuple[int, ClipRecord]
"""The place of a clip's first frame among the frames of its shard, and its record."""


def clip_loader(
    shards: Path,
    *,
    batch_size: int,
    clip_frames: int,
    frame_step: int = 1,
    split: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    cache: Path | None = None,
    drop_last: bool = False,
    epoch: int = 0,
) -> DataLoader[Any]:
    """A DataLoader that iterates over :class:`~kineme.shards.batch.ClipBatch`.

    Every clip comes exactly once an epoch. Clips stored longer than needed give their first frames, or with ``shuffle``
    a random window. Iterating again is the next epoch; ``loader.sampler.set_epoch(n)`` chooses one (Lightning's Trainer
    calls it). The content of an epoch depends on (seed, epoch) alone.

    Lightning 2.6 starts the workers of the first epoch before it calls ``set_epoch``: to resume, pass ``epoch``, too.

    Args:
        shards: shards folder, with its manifest.
        batch_size: clips a batch; the last one may hold fewer (without a cache, the last one of each worker).
        clip_frames: frames T of a clip.
        frame_step: distance of two of them, in stored frames.
        split: only clips of this split; None takes all.
        shuffle: a fresh permutation each epoch. Without a cache: the shards permuted, and clips drawn from a buffer.
            Without shuffling the order is that of the manifest (without a cache and with several workers, each of them
            keeps that order and their batches alternate).
        seed: seed of order and windows, 0 or more.
        workers: processes that read and decode; 0 reads in this one. A worker streams whole shards, so without a cache
            there are never more workers than shards.
        cache: folder of decoded frames, filled here if need be (:func:`kineme.shards.cache.build_cache` shows progress)
            and read at random: many times faster from the second epoch on. None streams from the tars, and the loader
            then has no length. Under DDP use a cache: streams of unequal length make the ranks wait for each other.
        drop_last: leave out a last batch that is not full.
        epoch: number of the first epoch.

    Raises:
        DataError: no manifest; a shard missing, cut short or altered; no clip of the split; clips of several sizes, or
            shorter than the window. While iterating: a shard cut short or altered, a clip that does not decode.
        OSError: the cache is on a full or read-only disk.
    """
    window = Window(clip_frames, frame_step, seed if shuffle else None)
    chosen = _choose(shards, split, window)
    pin = torch.cuda.is_available()
    loader: DataLoader[Any]
    if cache is None:
        stream = ClipStream(shards, list(chosen), window, split, shuffle, seed)
        workers = min(workers, len(chosen))
        loader = StreamLoader(
            stream,
            batch_size,
            num_workers=workers,
            collate_fn=collate_stream,
            pin_memory=pin,
            drop_last=drop_last,
            persistent_workers=workers > 0,
        )
        # Where Lightning looks for it. torch gives a stream a sampler of its own and accepts no other.
        loader.sampler.set_epoch = stream.set_epoch  # type: ignore[attr-defined]
    else:
        clips = CachedClips(build_cache(shards, list(chosen), cache, workers=workers), list(chosen.values()), window)
        sampler = EpochSampler(len(clips), shuffle, seed)
        loader = DataLoader(
            clips,
            batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin,
            drop_last=drop_last,
            persistent_workers=workers > 0,
        )
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return loader


class EpochSampler(Sampler[Position]):
    """Every clip once an epoch, in order or permuted by (seed, epoch). Iterating again is the next epoch."""

    def __init__(self, clips: int, shuffle: bool, seed: int) -> None:
        self._clips = clips
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._clips

    def __iter__(self) -> Iterator[Position]:
        epoch = self._epoch
        self._epoch += 1
        order = np.arange(self._clips)
        if self._shuffle:
            np.random.default_rng((self._seed, epoch)).shuffle(order)
        for number in order.tolist():
            yield epoch, number


class CachedClips(Dataset[Clip]):
    """The clips of cached shards, read at random from memory-mapped arrays."""

    def __init__(self, folders: Sequence[Path], clips: Sequence[Sequence[StoredClip]], window: Window) -> None:
        self._folders = list(folders)
        self._clips = [(shard, *clip) for shard, stored in enumerate(clips) for clip in stored]
        self._window = window
        self._extras: dict[str, bool] = {}
        for name in ("actions", "keypoints"):
            present = sum((folder / f"{name}.npy").is_file() for folder in folders)
            if present not in (0, len(folders)):
                raise DataError(
                    f"{present} of {len(folders)} shards have {name}; every clip of a shards folder needs the same: "
                    "ingest such sources into folders of their own"
                )
            self._extras[name] = present > 0
        self._maps: dict[tuple[int, str], NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, position: Position) -> Clip:
        """The clip of an (epoch, clip number); its arrays are views of the mapped files."""
        epoch, number = position
        shard, offset, record = self._clips[number]
        cut = self._window.cut(record, epoch)
        rows = slice(offset + cut.start, offset + cut.stop, cut.step)
        actions = self._map(shard, "actions")[rows] if self._extras["actions"] else None
        keypoints = self._map(shard, "keypoints")[rows] if self._extras["keypoints"] else None
        return Clip(self._map(shard, "frames")[rows], record, actions, keypoints)

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be pickled whole to a spawned worker, which can map the file itself.
        return {**self.__dict__, "_maps": {}}

    def _map(self, shard: int, name: str) -> NDArray[Any]:
        array = self._maps.get((shard, name))
        if array is None:
            # As a plain array: slicing a memmap object costs several times as much.
            array = np.asarray(np.load(self._folders[shard] / f"{name}.npy", mmap_mode="r"))
            self._maps[shard, name] = array
        return array


def _choose(shards: Path, split: str | None, window: Window) -> dict[ShardEntry, list[StoredClip]]:
    """The shards that hold clips of the split, and of each those clips with their first frame's place in the shard.

    Everything that can be known without decoding is checked here, before the first batch.
    """
    chosen: dict[ShardEntry, list[StoredClip]] = {}
    splits: Counter[str] = Counter()
    for entry in Manifest.load(shards).shards:
        check_size(shards / f"{entry.name}.tar", entry)
        offset = 0
        for row in read_rows(shards / f"{entry.name}.parquet"):
            splits[row.record.split] += 1
            if split in (None, row.record.split):
                window.check(row.record)
                chosen.setdefault(entry, []).append((offset, row.record))
            offset += row.record.num_frames
    if not chosen:
        found = ", ".join(f"{count} of {name!r}" for name, count in sorted(splits.items())) or "none at all"
        raise DataError(f"{shards}: no clips of split {split!r} (there are: {found}); choose another")
    common_size(shards, [record for clips in chosen.values() for _, record in clips])
    return chosen
