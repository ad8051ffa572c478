"""Moving digits: two digits on straight paths that bounce off the borders, drawn here and written as real video files.

After Moving MNIST (Srivastava et al. 2015), with labels of what is seen and of how it moves. Digits are scikit-learn's
bundled 8x8 set, enlarged, or MNIST where the user has its files.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kineme.shards.codec import encode_clip
from kineme.shards.errors import DataError
from kineme.shards.manifest import write_atomically
from kineme.shards.sample import Frames, Label
from kineme.shards.sources.base import FetchOptions, SourceItem
from kineme.shards.sources.digit_images import DigitImages, bundled_digits, mnist_digits
from kineme.shards.sources.folder import LABELS, FolderSource

SIZE = 64
FPS = 25.0
SPEEDS = (1, 2, 3)
"""Pixels a frame, along the path."""
DIRECTIONS = ("e", "ne", "n", "nw", "w", "sw", "s", "se")
"""Compass, by eighths of a turn from east; north is up."""

_SPLITS = ("train", "test")
_FACTS = "moving-digits.json"
_COLUMNS = ("path", "split", "digits", "directions", "speeds", "wall_hit")


@dataclass(frozen=True)
class DrawnClip:
    """One clip: frames (T, 64, 64, 3) uint8, centres (T, 2, 2) float32 as x, y in pixels, labels."""

    frames: Frames
    centres: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    labels: dict[str, Label]


def draw_clip(digits: DigitImages, frames: int, rng: np.random.Generator) -> DrawnClip:
    """Draw two digits on their paths; overlapping ones are combined by the maximum.

    Args:
        digits: the images to choose from.
        frames: T, >= 1.
        rng: decides everything.
    """
    chosen = rng.integers(len(digits.images), size=2)
    directions = rng.integers(len(DIRECTIONS), size=2)
    speeds = rng.choice(SPEEDS, size=2)
    room = SIZE - digits.images.shape[-1]
    angle = directions * (np.pi / 4)
    velocity = speeds[:, None] * np.stack([np.cos(angle), -np.sin(angle)], axis=-1)
    free = rng.uniform(0, room, size=(2, 2)) + np.arange(frames)[:, None, None] * velocity
    corners = bounce(free, room)
    canvas = np.zeros((frames, SIZE, SIZE), np.float64)
    for digit, image in enumerate(digits.images[chosen]):
        for t in range(frames):
            _draw(canvas[t], image, *corners[t, digit])
    grey = np.rint(canvas).astype(np.uint8)
    return DrawnClip(
        frames=np.repeat(grey[..., None], 3, axis=-1),
        centres=np.asarray(corners + (digits.images.shape[-1] - 1) / 2, np.float32),
        labels={
            "digits": _pair(digits.classes[chosen].tolist()),
            "directions": _pair([DIRECTIONS[direction] for direction in directions]),
            "speeds": _pair(speeds.tolist()),
            "wall_hit": bool(((free < 0) | (free > room)).any()),
        },
    )


def bounce(
    positions: np.ndarray[tuple[int, ...], np.dtype[np.float64]], room: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Fold a straight path into [0, ``room``]: the path of something that bounces exactly at both ends."""
    return room - np.abs(positions % (2 * room) - room)


def _draw(
    canvas: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    image: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    x: float,
    y: float,
) -> None:
    """Put ``image`` with its upper left corner at (x, y), parts of pixels by bilinear weights."""
    left, top = int(x), int(y)
    across, down = x - left, y - top
    wide = np.pad(image, 1)
    shifted = (1 - across) * wide[:, 1:] + across * wide[:, :-1]
    shifted = (1 - down) * shifted[1:] + down * shifted[:-1]
    # At the far border the extra row and column are all zero, and lie outside.
    spot = canvas[top : top + shifted.shape[0], left : left + shifted.shape[1]]
    np.maximum(spot, shifted[: spot.shape[0], : spot.shape[1]], out=spot)


def _pair(values: list[object]) -> str:
    """Unordered: the smaller first."""
    return "-".join(str(value) for value in sorted(values, key=str))


@dataclass(frozen=True)
class MovingDigitsSource:
    """Two digits of ten, each with one of eight directions and three speeds, bouncing in 64 x 64 pixels.

    Labels: ``digits``, ``directions`` (those at the start) and ``speeds`` are unordered pairs such as 3-7, e-nw, 1-3;
    ``wall_hit`` says whether either digit bounced. The digits' centres are the keypoints. Clip i of a split is drawn
    from (seed, split, i) alone: more clips keep the earlier ones. An image of a digit is never in both splits.
    """

    name: str = "moving-digits"
    description: str = (
        "two handwritten digits on bouncing paths, 64x64, labelled by digit and by motion; made on the spot"
    )
    licence: str = "CC BY 4.0 (digits: UCI Optical Recognition, by scikit-learn); with --mnist that of MNIST"
    origin: str = "built in: kineme fetch moving-digits --to DIR"
    clip_frames: int = 16

    def present(self, root: Path) -> bool:
        """Whether the clips were written there."""
        return (root / _FACTS).is_file()

    def items(self, root: Path) -> list[SourceItem]:
        """The video files, found as in any folder. Raises DataError if ``root`` holds no moving digits."""
        if root.is_dir() and not self.present(root):
            raise DataError(f"{root}: holds no moving digits; make them with kineme fetch moving-digits --to {root}")
        return FolderSource().items(root)

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Draw the clips and write them as video files with labels and keypoints; all of it or nothing.

        Raises:
            DataError: an option out of range, or ``to`` holds anything else.
        """
        _check(options)
        facts = _facts(options)
        if self.present(to):
            if (to / _FACTS).read_bytes() == facts:
                return f"moving-digits: {to} holds these {options.clips} clips already"
            raise DataError(f"{to}: holds moving digits made with other options; give another --to, or delete it")
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise DataError(f"{to}: is not an empty folder; give a new one as --to")
        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        partial = to.absolute().with_name(f".{to.absolute().name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        try:
            _write_clips(partial, options)
            write_atomically(partial / _FACTS, facts)
            if to.exists():
                to.rmdir()
            partial.rename(to)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return f"moving-digits: wrote {options.clips} clips to {to}"


def _check(options: FetchOptions) -> None:
    if options.clips < 1:
        raise DataError(f"--clips {options.clips}: at least 1 is needed")
    if options.frames < 1:
        raise DataError(f"--frames {options.frames}: at least 1 is needed")
    if options.seed < 0:
        raise DataError(f"--seed {options.seed}: 0 or more is needed")
    if not 0 <= options.train_fraction <= 1:
        raise DataError(f"--train-fraction {options.train_fraction:g}: a number from 0 to 1 is needed")


def _facts(options: FetchOptions) -> bytes:
    facts = {
        "clips": options.clips,
        "seed": options.seed,
        "frames": options.frames,
        "train_fraction": options.train_fraction,
        "digits": "mnist" if options.mnist else "scikit-learn",
    }
    return json.dumps(facts, sort_keys=True).encode() + b"\n"


def _write_clips(folder: Path, options: FetchOptions) -> None:
    rows = []
    for number, split in enumerate(_SPLITS):
        count = round(options.clips * options.train_fraction)
        count = count if split == "train" else options.clips - count
        (folder / split).mkdir(parents=True)
        if not count:
            continue
        digits = mnist_digits(options.mnist, split) if options.mnist else bundled_digits(split)
        for name, clip in _clips(split, count, digits, options, number):
            mp4, _ = encode_clip(clip.frames, FPS)
            (folder / f"{name}.mp4").write_bytes(mp4)
            np.save(folder / f"{name}.keypoints.npy", clip.centres)
            rows.append(
                {"path": f"{name}.mp4", "split": split, **clip.labels, "wall_hit": _csv(clip.labels["wall_hit"])}
            )
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    (folder / LABELS).write_bytes(text.getvalue().encode())


def _clips(
    split: str, count: int, digits: DigitImages, options: FetchOptions, number: int
) -> Iterator[tuple[str, DrawnClip]]:
    for index in range(count):
        rng = np.random.default_rng((options.seed, number, index))
        yield f"{split}/{index:06d}", draw_clip(digits, options.frames, rng)


def _csv(value: Label) -> str:
    return str(value).lower()
