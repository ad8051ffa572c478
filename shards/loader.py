"""Batches of clips to train from: decoded out of the tars, from a cache of decoded frames, or drawn without end."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from kineme.shards.batch import Clip, as_it_is, collate
from kineme.shards.batch import ClipBatch as ClipBatch
from kineme.shards.cache import build_cache
from kineme.shards.clip_table import read_clip_table
from kineme.shards.errors import DataError
from kineme.shards.hold_out import HoldOut
from kineme.shards.manifest import Manifest
from kineme.shards.order import EpochSampler, Position, Progress
from kineme.shards.reader import load_clip_frames as load_clip_frames
from kineme.shards.stored import StoredClips
from kineme.shards.window import Window


class Clips(Protocol):
    """What a loader draws from: a clip by (epoch, clip number), a DataError where it cannot be had."""

    def __getitem__(self, position: Position) -> Clip: ...


def clip_loader(
    shards: Path,
    *,
    batch_size: int,
    clip_frames: int,
    frame_step: int = 1,
    split: str | None = None,
    hold_out: HoldOut = HoldOut(),
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    cache: Path | None = None,
    cache_gb: float | None = None,
    endless: int | None = None,
    resident: torch.device | None = None,
    drop_last: bool = False,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> ClipLoader:
    """A DataLoader that iterates over :class:`~kineme.shards.batch.ClipBatch`.

    Every clip comes exactly once an epoch. Clips stored longer than needed give their first frames, or with ``shuffle``
    a random window. Iterating again is the next epoch; ``loader.sampler.set_epoch(n)`` chooses one (Lightning's Trainer
    calls it). Order and windows depend on (seed, epoch) alone: not on workers, nor on what is cached.

    ``loader.state_dict()`` says where the next batch comes from, ``load_state_dict`` goes on there: with the very next
    clip, in the middle of an epoch, also with other ranks or another batch size.

    Lightning 2.6 starts the workers of the first epoch before it calls ``set_epoch``: to resume, load the state (its
    Trainer does) or pass ``epoch``. Under DDP give its Trainer ``use_distributed_sampler=False``: the ranks share the
    order here, see :class:`~kineme.shards.order.EpochSampler`.

    Args:
        shards: shards folder, with its manifest.
        batch_size: clips a batch and rank; the last one may hold fewer.
        clip_frames: frames T of a clip.
        frame_step: distance of two of them, in stored frames.
        split: only clips of this split, or of a label: ``actor=daria``, ``actor!=daria``; None takes all.
        hold_out: which part of the split, what is held out of it or the rest; all of it if not given.
        shuffle: a fresh permutation each epoch (:func:`~kineme.shards.order.epoch_order`), else the manifest's order.
        seed: seed of order and windows, 0 or more.
        workers: processes that read and decode; 0 reads in this one.
        cache: folder of decoded frames, filled here if need be: many times faster from the second epoch on. None
            decodes each clip out of its tar every epoch.
        cache_gb: most that the cache folder may hold (:func:`~kineme.shards.cache.build_cache`); clips beyond it are
            decoded every epoch.
        endless: draw so many new clips each epoch instead of reading any, where the shards hold what it takes
            (:class:`~kineme.shards.endless.DrawnClips`); ``split`` and ``hold_out`` choose none of them.
        resident: keep all clips decoded on this device, and give batches that lie there
            (:class:`~kineme.shards.resident.ResidentClips`).
        drop_last: leave out a last batch that is not full.
        epoch: number of the first epoch.
        rank: which of the processes that share the clips this one is.
        ranks: how many they are.

    Raises:
        DataError: no manifest, or nothing to draw clips from; a shard missing, cut short or altered; no clip of the
            split or of that part of it, or with ``drop_last`` less than a batch for each rank; clips of several sizes,
            or shorter than the window. While iterating: a shard or the cache damaged, a clip that does not decode.
        OSError: the cache is on a full or read-only disk.
    """
    if endless is not None and resident is not None:
        raise DataError(f"endless {endless}: clips that are drawn anew cannot be resident; leave out one of the two")
    window = Window(clip_frames, frame_step, seed if shuffle else None)
    table = None if endless is not None else read_clip_table(shards, Manifest.load(shards), split, window, hold_out)
    sampler = EpochSampler(
        table.shard_sizes if table is not None else [endless or 0],
        batch_size=batch_size,
        # Drawn clips are new ones in every epoch: there is nothing to permute.
        shuffle=shuffle and endless is None,
        seed=seed,
        drop_last=drop_last,
        rank=rank,
        ranks=ranks,
        start=Progress(epoch, 0),
    )
    if len(sampler) == 0:
        raise DataError(
            f"{shards}: {sampler.clips} clips are fewer than one batch of {batch_size} for each of {ranks} processes; "
            "lower the batch size (data.batch_size in a recipe)"
        )
    if table is None:
        from kineme.shards.endless import ENDLESS, DrawnClips

        return ClipLoader(ClipBatches(DrawnClips(shards / ENDLESS, endless or 0, window, seed)), sampler, workers)
    use = None if cache is None else build_cache(shards, table.shards, cache, cache_gb=cache_gb, workers=workers)
    clips = StoredClips(table, window, use)
    if resident is not None:
        from kineme.shards.resident import ResidentClips

        return ClipLoader(ResidentClips(table, window, clips, resident, workers=workers), sampler)
    return ClipLoader(ClipBatches(clips), sampler, workers)


class ClipLoader(DataLoader[Any]):
    """The batches that a sampler asks for. What goes wrong in a worker arrives as one line, without its traceback."""

    sampler: EpochSampler

    def __init__(self, batches: Dataset[Any], sampler: EpochSampler, workers: int = 0) -> None:
        super().__init__(
            batches,
            # Batches are put together where they are read; this makes the sampler's lists the indices.
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            collate_fn=as_it_is,
            pin_memory=torch.cuda.is_available() and isinstance(batches, ClipBatches),
            persistent_workers=workers > 0,
            worker_init_fn=_leave_interrupts_to_the_parent,
            # torch draws a seed for the workers, who need none; not from the numbers that the training draws.
            generator=torch.Generator(),
        )
        self._running: Progress | None = None

    def __iter__(self) -> Iterator[ClipBatch]:  # type: ignore[override]
        self._running = self.sampler.next
        return self._deliver(super().__iter__())

    def state_dict(self) -> dict[str, int]:
        """Where the next batch comes from: the epoch, and how many clips of its order have been had."""
        return (self._running or self.sampler.next)._asdict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the clip after those that were had when ``state`` was taken."""
        self._running = None
        self.sampler.start_at(Progress(**state))

    def _deliver(self, batches: Iterable[ClipBatch | DataError]) -> Iterator[ClipBatch]:
        error: str | None = None
        for batch in batches:
            if isinstance(batch, DataError):
                error = str(batch)
                break
            assert self._running is not None
            self._running = self.sampler.after(self._running)
            yield batch
        self._running = None
        if error is not None:
            # Let go of the workers before the traceback holds on to them: torch takes five seconds to stop each one
            # that the garbage collector finds in a cycle.
            self._iterator = None
            del batches
            raise DataError(error)


class ClipBatches(Dataset[Any]):
    """Batches by lists of positions.

    A DataError is returned instead of raised, so that it crosses from a worker as it is, without the worker's traceback
    in its message.
    """

    def __init__(self, clips: Clips) -> None:
        self._clips = clips

    def __getitem__(self, positions: list[Position]) -> ClipBatch | DataError:
        """The batch of these positions."""
        try:
            return collate([self._clips[position] for position in positions])
        except DataError as error:
            return DataError(str(error))


def _leave_interrupts_to_the_parent(worker: int) -> None:
    # A terminal sends Ctrl-C to all of them; training may finish its step first, and needs its workers for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
