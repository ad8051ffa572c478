"""The clips of a split as one tensor on the device: for sets that fit there, and training that outruns every loader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kineme.shards.batch import Clip, ClipBatch, as_it_is
from kineme.shards.clip_table import ClipTable
from kineme.shards.errors import DataError
from kineme.shards.order import Position
from kineme.shards.sample import ClipRecord
from kineme.shards.stored import StoredClips
from kineme.shards.window import Window

_USABLE = 0.9
"""Part of the free memory that clips may take; the network needs some, too."""


class ResidentClips(Dataset[ClipBatch]):
    """Batches by lists of (epoch, clip number), cut out of all frames of the split where they lie: on the device.

    The batches are those that a loader of the same clips and window gives.
    """

    def __init__(
        self, table: ClipTable, window: Window, clips: StoredClips, device: torch.device, *, workers: int = 0
    ) -> None:
        """Read every clip once and bring it to the device.

        Args:
            table: the clips.
            window: which frames make up a training clip.
            clips: reads the clips of the table.
            device: where they go.
            workers: processes that read.

        Raises:
            DataError: the frames do not fit into the free memory; a clip cannot be read, or has not the actions and
                keypoints that the others have.
        """
        self._table = table
        self._window = window
        lengths: NDArray[np.int64] = table.columns["num_frames"].astype(np.int64)
        self._first = np.cumsum(lengths) - lengths
        self._frames = torch.empty(_check_room(table, int(lengths.sum()), device), dtype=torch.uint8, device=device)
        self._extras: dict[str, Tensor] = {}
        self._lines = bytearray()
        self._line_ends = np.zeros(len(table) + 1, np.int64)
        whole = DataLoader(
            _WholeClips(clips),
            batch_size=None,
            num_workers=workers,
            collate_fn=as_it_is,
            generator=torch.Generator(),
        )
        for number, clip in enumerate(whole):
            if isinstance(clip, DataError):
                raise clip
            self._put(number, clip)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, positions: list[Position]) -> ClipBatch:
        """The batch of these positions, on the device."""
        starts = [self._first[number] + self._start(epoch, number) for epoch, number in positions]
        steps = np.arange(self._window.clip_frames) * self._window.frame_step
        rows = torch.from_numpy(np.array(starts)[:, None] + steps).to(self._frames.device)
        extras = {name: array[rows] for name, array in self._extras.items()}
        records = [self._record(number) for _, number in positions]
        return ClipBatch(self._frames[rows].permute(0, 1, 4, 2, 3), records, **extras)

    def _start(self, epoch: int, number: int) -> int:
        place = self._table[number]
        return self._window.start(place.key, place.num_frames, epoch)

    def _record(self, number: int) -> ClipRecord:
        return ClipRecord.from_json(bytes(self._lines[self._line_ends[number] : self._line_ends[number + 1]]))

    def _put(self, number: int, clip: Clip) -> None:
        found = {"actions": clip.actions, "keypoints": clip.keypoints}
        arrays = {name: np.array(array) for name, array in found.items() if array is not None}
        if number == 0:
            for name, array in arrays.items():
                self._extras[name] = self._frames.new_empty((len(self._frames), *array.shape[1:]), dtype=torch.float32)
        shapes = {name: extra.shape[1:] for name, extra in self._extras.items()}
        if {name: array.shape[1:] for name, array in arrays.items()} != shapes:
            raise DataError(
                f"clip {clip.record.key} has other actions or keypoints than the first clip; every clip of a shards "
                "folder needs the same: ingest such sources into folders of their own"
            )
        rows = slice(int(self._first[number]), int(self._first[number]) + clip.record.num_frames)
        self._frames[rows] = torch.from_numpy(np.array(clip.frames)).to(self._frames.device)
        for name, array in arrays.items():
            self._extras[name][rows] = torch.from_numpy(array).to(self._frames.device)
        self._lines += clip.record.to_json()
        self._line_ends[number + 1] = len(self._lines)


class _WholeClips(Dataset[Any]):
    """Stored clips with all their frames, by number."""

    def __init__(self, clips: StoredClips) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> Clip | DataError:
        try:
            return self._clips.whole(number)
        except DataError as error:
            return DataError(str(error))


def _check_room(table: ClipTable, frames: int, device: torch.device) -> tuple[int, int, int, int]:
    """The shape of all frames, if they fit."""
    shape = (frames, *table.size, 3)
    needed, free = int(np.prod(shape)), _free_bytes(device)
    if needed > _USABLE * free:
        raise DataError(
            f"{table.folder}: {len(table)} decoded clips take {needed / 1e9:.2f} GB, more than {_USABLE:.0%} of the "
            f"{free / 1e9:.2f} GB free on {device}; leave data.resident out, or ingest with a smaller --size"
        )
    return shape


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    # Devices without memory of their own share the machine's.
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        (line,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
