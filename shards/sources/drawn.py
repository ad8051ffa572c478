"""What sources that draw their own videos share: writing them as real files, all of them or none."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.shards.codec import encode_clip
from kineme.shards.errors import DataError
from kineme.shards.manifest import write_atomically
from kineme.shards.sample import Frames, Label
from kineme.shards.sources.base import FetchOptions, SourceItem
from kineme.shards.sources.folder import LABELS, FolderSource

SPLITS = ("train", "test")


@dataclass(frozen=True)
class DrawnVideo:
    """One video: frames (T, H, W, 3) uint8, what is known of it, keypoints (T, K, 2) and actions (T, A) float32."""

    frames: Frames
    labels: Mapping[str, Label]
    keypoints: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class DrawnSet:
    """A set of drawn videos that is to be written.

    Attributes:
        name: of the data set; ``NAME.json`` says how the set was drawn, and that it is complete.
        facts: everything that decides what is drawn.
        fps: frames per second.
        counts: how many videos of each split.
        draw: the video of a split (a number in :data:`SPLITS`) and an index.
    """

    name: str
    facts: Mapping[str, Label]
    fps: float
    counts: Mapping[str, int]
    draw: Callable[[int, int], DrawnVideo]

    def write(self, to: Path) -> str:
        """Write SPLIT/000000.mp4 and so on, their sidecars, labels.csv and ``NAME.json``; all of it or nothing.

        Returns:
            What was done, one line.

        Raises:
            DataError: ``to`` holds anything else.
        """
        clips = sum(self.counts.values())
        facts = json.dumps(dict(self.facts), sort_keys=True).encode() + b"\n"
        mark = _mark(self.name, to)
        if mark.is_file():
            if mark.read_bytes() == facts:
                return f"{self.name}: {to} holds these {clips} clips already"
            raise DataError(f"{to}: holds {self.name} made with other options; give another --to, or delete it")
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise DataError(f"{to}: is not an empty folder; give a new one as --to")
        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        partial = to.absolute().with_name(f".{to.absolute().name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        try:
            self._write_videos(partial)
            write_atomically(partial / mark.name, facts)
            if to.exists():
                to.rmdir()
            partial.rename(to)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return f"{self.name}: wrote {clips} clips to {to}"

    def _write_videos(self, folder: Path) -> None:
        rows: list[dict[str, Label]] = []
        for split in SPLITS:
            (folder / split).mkdir(parents=True)
        for split, name, video in self._videos():
            mp4, _ = encode_clip(video.frames, self.fps)
            (folder / f"{name}.mp4").write_bytes(mp4)
            for track, array in (("keypoints", video.keypoints), ("actions", video.actions)):
                if array is not None:
                    np.save(folder / f"{name}.{track}.npy", array)
            rows.append({"path": f"{name}.mp4", "split": split, **video.labels})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
        (folder / LABELS).write_bytes(text.getvalue().encode())

    def _videos(self) -> Iterator[tuple[str, str, DrawnVideo]]:
        for number, split in enumerate(SPLITS):
            for index in range(self.counts[split]):
                yield split, f"{split}/{index:06d}", self.draw(number, index)


def was_drawn(name: str, root: Path) -> bool:
    """Whether a folder holds a drawn set, all of it."""
    return _mark(name, root).is_file()


def drawn_items(name: str, root: Path) -> list[SourceItem]:
    """The video files of a drawn set, found as in any folder. Raises DataError if ``root`` holds none."""
    if root.is_dir() and not was_drawn(name, root):
        raise DataError(f"{root}: holds no {name}; make it with kineme fetch {name} --to {root}")
    return FolderSource().items(root)


def _mark(name: str, root: Path) -> Path:
    return root / f"{name}.json"


def count_clips(options: FetchOptions) -> dict[str, int]:
    """How many videos of each split are asked for.

    Raises:
        DataError: an option out of range.
    """
    if options.clips < 1:
        raise DataError(f"--clips {options.clips}: at least 1 is needed")
    if options.frames is not None and options.frames < 1:
        raise DataError(f"--frames {options.frames}: at least 1 is needed")
    if options.seed < 0:
        raise DataError(f"--seed {options.seed}: 0 or more is needed")
    if not 0 <= options.train_fraction <= 1:
        raise DataError(f"--train-fraction {options.train_fraction:g}: a number from 0 to 1 is needed")
    train = round(options.clips * options.train_fraction)
    return {"train": train, "test": options.clips - train}


def _cell(value: Label) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
