"""Moving digits: two digits on straight paths that bounce off the borders, drawn here and written as real video files.

After Moving MNIST (Srivastava et al. 2015), with labels of what is seen and of how it moves. Digits are scikit-learn's
bundled 8x8 set, enlarged, or MNIST where the user has its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from kineme.shards.sample import Frames, Label
from kineme.shards.sources.base import Defaults, FetchOptions, SourceItem
from kineme.shards.sources.digit_images import DigitImages, bundled_digits, mnist_digits
from kineme.shards.sources.drawn import SPLITS, DrawnSet, DrawnVideo, count_clips, drawn_items, was_drawn

SIZE = 64
FPS = 25.0
SPEEDS = (1, 2, 3)
"""Pixels a frame, along the path."""
DIRECTIONS = ("e", "ne", "n", "nw", "w", "sw", "s", "se")
"""Compass, by eighths of a turn from east; north is up."""


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
    labels: dict[str, Label] = {
        "digits": unordered(digits.classes[chosen].tolist()),
        "directions": unordered([DIRECTIONS[direction] for direction in directions]),
        "speeds": unordered(speeds.tolist()),
        "wall_hit": bool(((free < 0) | (free > room)).any()),
    }
    return finished(np.rint(canvas).astype(np.uint8), corners, room, labels)


def finished(
    grey: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    corners: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    room: float,
    labels: dict[str, Label],
) -> DrawnClip:
    """What was drawn as a clip.

    Args:
        grey: (T, 64, 64).
        corners: (T, 2, 2), the digits' upper left corners as x, y in pixels.
        room: how far a corner can go, pixels.
        labels: of the clip.
    """
    side = SIZE - room
    return DrawnClip(np.stack([grey] * 3, axis=-1), np.asarray(corners + (side - 1) / 2, np.float32), labels)


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


def unordered(values: list[object]) -> str:
    """A pair such as 3-7, the smaller first."""
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
    defaults: Defaults = Defaults()
    repeats: bool = True
    options: Mapping[str, str] = field(default_factory=dict)

    def present(self, root: Path) -> bool:
        """Whether the clips were written there."""
        return was_drawn(self.name, root)

    def items(self, root: Path) -> list[SourceItem]:
        """The video files, found as in any folder. Raises DataError if ``root`` holds no moving digits."""
        return drawn_items(self.name, root)

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Draw the clips and write them as video files with labels and keypoints; all of it or nothing.

        Raises:
            DataError: an option out of range, or ``to`` holds anything else.
        """
        counts = count_clips(options)
        frames = self.defaults.clip_frames if options.frames is None else options.frames
        facts: dict[str, Label] = {
            "clips": options.clips,
            "seed": options.seed,
            "frames": frames,
            "train_fraction": options.train_fraction,
            "digits": "mnist" if options.mnist else "scikit-learn",
        }

        @cache
        def digits(split: int) -> DigitImages:
            return mnist_digits(options.mnist, SPLITS[split]) if options.mnist else bundled_digits(SPLITS[split])

        def draw(split: int, index: int) -> DrawnVideo:
            clip = draw_clip(digits(split), frames, np.random.default_rng((options.seed, split, index)))
            return DrawnVideo(clip.frames, clip.labels, clip.centres)

        return DrawnSet(self.name, facts, FPS, counts, draw).write(to)
