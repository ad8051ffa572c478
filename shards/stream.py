"""Streams clips out of the tars through webdataset, decoding as it goes: for shards that are not worth a cache."""

from __future__ import annotations

import itertools
import random
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from kineme.shards.batch import Clip, ClipBatch, collate
from kineme.shards.errors import DataError
from kineme.shards.manifest import ShardEntry
from kineme.shards.reader import decode_sample, parse_sample
from kineme.shards.sample import Sample
from kineme.shards.window import Window

SHUFFLE_BUFFER = 1000
"""Clips, still encoded, among which a worker draws the next one."""


class ClipStream(IterableDataset[Clip | DataError]):
    """The clips of a list of shards, each exactly once an epoch, whatever the number of workers and nodes.

    Yields a DataError instead of raising it, so that it crosses from a worker to :class:`StreamLoader` as it is,
    without the worker's traceback in its message.
    """

    def __init__(
        self, shards: Path, entries: Sequence[ShardEntry], window: Window, split: str | None, shuffle: bool, seed: int
    ) -> None:
        self._tars = {str((shards / f"{entry.name}.tar").absolute()): entry for entry in entries}
        self._window = window
        self._split = split
        self._shuffle = shuffle
        self._seed = seed
        # In shared memory: workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._next_epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self._next_epoch = epoch

    def start_epoch(self) -> None:
        """Tell the workers the epoch of the iteration that is about to start."""
        self._epoch.fill_(self._next_epoch)
        self._next_epoch += 1

    def __iter__(self) -> Iterator[Clip | DataError]:
        # Not a generator: the epoch is read now, not at the first clip.
        return self._clips(int(self._epoch))

    def _clips(self, epoch: int) -> Iterator[Clip | DataError]:
        worker = get_worker_info()
        urls = [{"url": url} for url in self._tars]
        if self._shuffle:
            random.Random(f"{self._seed} {epoch}").shuffle(urls)
        order = random.Random(f"{self._seed} {epoch} {0 if worker is None else worker.id}")
        pipeline = wds.DataPipeline(
            partial(iter, urls),
            wds.split_by_node,
            wds.split_by_worker,
            self._whole_shards,
            wds.shuffle(SHUFFLE_BUFFER, initial=SHUFFLE_BUFFER, rng=order) if self._shuffle else None,
        )
        try:
            for sample in pipeline:
                yield self._decode(sample, epoch)
        except DataError as error:
            # Again and again: a lone error in a last, partial batch would be dropped with it (drop_last).
            yield from itertools.repeat(error)

    def _whole_shards(self, sources: Iterable[dict[str, str]]) -> Iterator[Sample]:
        """The samples of each shard and of the split, still encoded; a shard with too few is an error, not an end."""
        for source in sources:
            tar, entry = Path(source["url"]), self._tars[source["url"]]
            count = 0
            try:
                for parts in _grouped_files(tar):
                    count += 1
                    sample = parse_sample(parts["__key__"], _files(parts), tar)
                    if self._split in (None, sample.record.split):
                        yield sample
            except (tarfile.TarError, EOFError) as error:
                raise DataError(f"{tar}: the shard is cut short or altered; run kineme ingest again") from error
            if count != entry.clips:
                raise DataError(
                    f"{tar}: {count} clips where the manifest says {entry.clips}: cut short or altered; ingest again"
                )

    def _decode(self, sample: Sample, epoch: int) -> Clip:
        frames = decode_sample(sample)
        cut = self._window.cut(sample.record, epoch)
        actions = None if sample.actions is None else sample.actions[cut]
        keypoints = None if sample.keypoints is None else sample.keypoints[cut]
        return Clip(frames[cut], sample.record, actions, keypoints)


class StreamLoader(DataLoader[Clip | DataError]):
    """The DataLoader of a :class:`ClipStream`: iterating again is the next epoch, and errors arrive as one line."""

    dataset: ClipStream

    def __iter__(self) -> Iterator[ClipBatch]:  # type: ignore[override]
        # The one thing the main process must do itself; torch offers no hook, and refuses samplers for streams.
        self.dataset.start_epoch()
        return self._raise_errors(super().__iter__())

    def _raise_errors(self, batches: Iterable[ClipBatch | DataError]) -> Iterator[ClipBatch]:
        error: str | None = None
        for batch in batches:
            if isinstance(batch, DataError):
                error = str(batch)
                break
            yield batch
        if error is not None:
            # Let go of the workers before the traceback holds on to them: torch takes five seconds to stop each one
            # that the garbage collector finds in a cycle.
            self._iterator = None
            del batches
            raise DataError(error)


def collate_stream(items: Sequence[Clip | DataError]) -> ClipBatch | DataError:
    """A batch of clips, or the first error among them."""
    clips: list[Clip] = []
    for item in items:
        if isinstance(item, DataError):
            return item
        clips.append(item)
    try:
        return collate(clips)
    except DataError as error:
        return error


def _grouped_files(tar: Path) -> Iterator[dict[str, Any]]:
    # webdataset's own url_opener never closes what it opens.
    with tar.open("rb") as file:
        files = wds.tariterators.tar_file_expander([{"url": str(tar), "stream": file}])
        yield from wds.tariterators.group_by_keys(files)


def _files(parts: Mapping[str, Any]) -> dict[str, bytes]:
    """The sample's files by suffix, without webdataset's own entries (``__key__``, ``__url__``, ...)."""
    return {suffix: data for suffix, data in parts.items() if not suffix.startswith("__")}
