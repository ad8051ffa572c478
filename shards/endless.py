"""Endless training data: clips that are drawn afresh every epoch, from a file that an ingest left beside the shards.

To add another data set: its source has an attachment (:meth:`kineme.shards.sources.base.Source.attachments`), an npz
file whose array ``dataset`` is its name and whose others are whatever drawing takes, and ``_DRAWERS`` below gets a
line: a function from those arrays, a number of frames and a generator to a
:class:`~kineme.shards.sources.moving_digits.DrawnClip`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from kineme.shards.batch import Clip
from kineme.shards.errors import ANEW, DataError
from kineme.shards.sample import ClipRecord, make_key
from kineme.shards.sources.moving_digits import FPS, DrawnClip
from kineme.shards.sources.moving_mnist import ENDLESS as ENDLESS
from kineme.shards.sources.moving_mnist import Digits, draw_sequence
from kineme.shards.window import Window

Arrays = Mapping[str, NDArray[Any]]


def _moving_mnist(arrays: Arrays, frames: int, rng: np.random.Generator) -> DrawnClip:
    return draw_sequence(Digits(arrays["images"], arrays["classes"]), frames, rng)


_DRAWERS: dict[str, Callable[[Arrays, int, np.random.Generator], DrawnClip]] = {"moving-mnist": _moving_mnist}


class DrawnClips(Dataset[Clip]):
    """Training clips without end: clip ``number`` of an epoch is drawn from (seed, epoch, number) alone.

    So every worker draws the same one, and no epoch repeats another. It stands where
    :class:`~kineme.shards.stored.StoredClips` does, with the same sampler. Pickled, it is a path and numbers: a worker
    reads the file itself.
    """

    def __init__(self, path: Path, clips_per_epoch: int, window: Window, seed: int) -> None:
        """Read the file.

        Args:
            path: the attachment, such as ``SHARDS/endless.npz``.
            clips_per_epoch: what counts as an epoch.
            window: frames of a clip and their distance; its own seed is not used, as there is nothing to choose.
            seed: 0 or more.

        Raises:
            DataError: no such file or not of this kind, or a number out of range.
        """
        if clips_per_epoch < 1:
            raise DataError(f"clips_per_epoch {clips_per_epoch}: at least 1 is needed; change the recipe")
        if seed < 0:
            raise DataError(f"seed {seed} must be 0 or more")
        self._path = path
        self._clips = clips_per_epoch
        self._window = window
        self._seed = seed
        self._arrays: Arrays | None = _load(path)

    def __len__(self) -> int:
        return self._clips

    def __getitem__(self, position: tuple[int, int]) -> Clip:
        """The clip of an (epoch, clip number), drawn now: frames and keypoints, and a record with a key of its own."""
        if self._arrays is None:
            self._arrays = _load(self._path)
        epoch, number = position
        dataset = str(self._arrays["dataset"])
        source = f"endless/seed{self._seed}/epoch{epoch}/{number:06d}"
        digest = hashlib.sha256(f"{dataset}/{source}".encode())
        rng = np.random.default_rng(int.from_bytes(digest.digest(), "big"))
        drawn = _DRAWERS[dataset](self._arrays, self._window.span, rng)
        height, width = drawn.frames.shape[1:3]
        record = ClipRecord(
            key=make_key(digest.hexdigest(), 0),
            source=source,
            sha256=digest.hexdigest(),
            dataset=dataset,
            split="train",
            labels=drawn.labels,
            start_s=0.0,
            end_s=round(self._window.span / FPS, 6),
            fps=FPS,
            num_frames=self._window.span,
            height=height,
            width=width,
            codec="drawn",
        )
        step = self._window.frame_step
        return Clip(drawn.frames[::step], record, None, drawn.centres[::step])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}


def _load(path: Path) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as opened:
            arrays = dict(opened)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is nothing to draw endless clips from; ingest a set such as moving-mnist"
        ) from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged, or not made by kineme ({error}); {ANEW}") from error
    if str(arrays.get("dataset")) not in _DRAWERS:
        raise DataError(f"{path}: is of a data set that cannot be drawn; known are {', '.join(_DRAWERS)}")
    return arrays
