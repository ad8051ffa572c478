"""In which order the clips of an epoch come: by (seed, epoch) alone, whoever reads them and with how many processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from kineme.shards.errors import DataError

SHARDS_AT_ONCE = 32
"""Clips are mixed within so many shards at a time: that many files are read in turn, whatever their number."""

Position = tuple[int, int]
"""(epoch, clip number): what the sampler hands a worker, so that it draws the windows of the right epoch."""


class Progress(NamedTuple):
    """How far a reader has come: the epoch, and the clips of its order that all ranks together have had."""

    epoch: int
    clips: int


def epoch_order(shard_sizes: NDArray[np.int64], seed: int | None, epoch: int) -> NDArray[np.int64]:
    """The clip numbers of one epoch, each exactly once.

    The shards are permuted and then taken :data:`SHARDS_AT_ONCE` at a time, and the clips of those permuted. So a
    folder of no more shards than that is permuted as a whole, and of thousands only a few files are read at a time.

    Args:
        shard_sizes: clips of each shard; clip numbers count through the shards in order.
        seed: 0 or more; None keeps the order of the manifest.
        epoch: 0 or more.
    """
    ends = np.cumsum(shard_sizes)
    clips = int(ends[-1]) if len(ends) else 0
    if seed is None:
        return np.arange(clips)
    generator = np.random.default_rng((seed, epoch))
    shards = generator.permutation(len(shard_sizes))
    order = np.empty(clips, np.int64)
    done = 0
    for first in range(0, len(shards), SHARDS_AT_ONCE):
        together = shards[first : first + SHARDS_AT_ONCE]
        numbers = np.concatenate([np.arange(ends[s] - shard_sizes[s], ends[s]) for s in together])
        generator.shuffle(numbers)
        order[done : done + len(numbers)] = numbers
        done += len(numbers)
    return order


class EpochSampler(Sampler[list[Position]]):
    """Batches of (epoch, clip number): every clip once an epoch. Iterating again is the next epoch.

    There is one order for all ranks. They take its clips in turn, rank r the clips r, r + ranks, ..., so that the b-th
    batches of all ranks together are the b-th stretch of the order. All ranks get the same number of batches: with
    ``drop_last`` the clips that do not fill a batch on every rank are left out; without it the order goes on from its
    start until every rank has the same number of clips, as torch's DistributedSampler does (one rank repeats nothing).
    """

    def __init__(
        self,
        shard_sizes: NDArray[np.int64] | Sequence[int],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        ranks: int = 1,
        start: Progress = Progress(0, 0),
    ) -> None:
        if batch_size < 1:
            raise DataError(f"batch_size {batch_size} must be 1 or more")
        if not 0 <= rank < ranks:
            raise DataError(f"rank {rank} of {ranks}: ranks count from 0 to {ranks - 1}")
        self._sizes = np.asarray(shard_sizes, np.int64)
        self._batch_size = batch_size
        self._seed = seed if shuffle else None
        self._drop_last = drop_last
        self._rank = rank
        self._ranks = ranks
        self._next = start

    @property
    def clips(self) -> int:
        """Number of clips in an epoch of all ranks, before any are left out or repeated."""
        return int(self._sizes.sum())

    @property
    def next(self) -> Progress:
        """Where the next iteration starts."""
        return self._next

    def set_epoch(self, epoch: int) -> None:
        """Start the next iteration at the beginning of an epoch. A start within that epoch stays as it is."""
        if epoch != self._next.epoch:
            self._next = Progress(epoch, 0)

    def start_at(self, progress: Progress) -> None:
        """Start the next iteration in the middle of an epoch, or in the next one if there is no batch left in it."""
        self._next = progress if self._batches(progress.clips) else Progress(progress.epoch + 1, 0)

    def after(self, progress: Progress, batches: int = 1) -> Progress:
        """How far all ranks have come when each has had so many batches more."""
        return Progress(progress.epoch, progress.clips + batches * self._batch_size * self._ranks)

    def __len__(self) -> int:
        """Batches of one rank in a whole epoch."""
        return self._batches(0)

    def __iter__(self) -> Iterator[list[Position]]:
        # Not a generator: the epoch is settled now, not when the first batch is asked for.
        return self._lists(self._next)

    def _lists(self, start: Progress) -> Iterator[list[Position]]:
        # Not before the first batch: torch's DataLoader makes two iterators for the first epoch and uses the second.
        self._next = Progress(start.epoch + 1, 0)
        numbers = self._share(epoch_order(self._sizes, self._seed, start.epoch), start.clips)
        for first in range(0, len(numbers), self._batch_size):
            yield [(start.epoch, number) for number in numbers[first : first + self._batch_size].tolist()]

    def _share(self, order: NDArray[np.int64], done: int) -> NDArray[np.int64]:
        """What of the order is left for this rank."""
        left = max(0, len(order) - done)
        each = self._batches(done) * self._batch_size if self._drop_last else -(-left // self._ranks)
        wanted = each * self._ranks
        whole = np.concatenate([order[done:], np.resize(order, max(0, wanted - left))])
        return whole[self._rank : wanted : self._ranks]

    def _batches(self, done: int) -> int:
        left = max(0, self.clips - done)
        if self._drop_last:
            return left // (self._batch_size * self._ranks)
        return -(-left // (self._ranks * self._batch_size))
