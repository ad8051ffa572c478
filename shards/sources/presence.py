"""Which frames at the ends of a video show no person: subtraction of a median background (thesis, 7.B.2).

The background is the median of the video itself, and so holds whoever stands still in it for half of the time. Then the
frames of rest differ little from it, and would pass for empty. So an end is cut only if it is plain that a person comes
in, or goes out, there: at the first frame that differs, what differs must lie at one side of the picture. In every case
of doubt all frames are kept: a person who stops and stays, a camera that moves, a flash.

Only the middle square is looked at, for only that is stored: a person beside it is not there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kineme.shards.geometry import square_frame
from kineme.shards.sample import Frames

BACKGROUND_FRAMES = 200
"""At most so many frames, evenly spread, make up the median."""

SIDE = 72
"""Frames are looked at in this size, which averages noise away and bounds the memory."""

NOISE_FACTOR = 6.0
"""A pixel differs if it does by so many standard deviations of the noise, which is measured by the median absolute
difference from the background, over all pixels and frames."""

SMALLEST_DIFFERENCE = 20.0
"""... and by so much of 255, so that compression and flicker do not count where there is next to no noise."""

PERSON_SHARE = 0.1
"""A frame shows a person if so large a part of it differs, relative to the frame that differs fifth most of all: a
person is there for that long, a flash is not."""

SMALLEST_PERSON = 0.003
"""A video of which no frame differs in this part of its pixels is left whole: nothing in it comes or goes."""

_PERSON_FRAMES = 5
_MARGIN = 1 / 16  # of the width: who comes in touches this strip at the side
_OUTER = 1 / 3  # of the width: the mean of what differs lies in this part
_MASK_GREY = 16  # of 255: mask pixels are this near to black or white
_MASK_SHARE = 0.005  # of the pixels: so many of a mask may be grey, at its edges


class _Frame(NamedTuple):
    """What is known of one frame: part of it that differs from the background, and whether it does at one side."""

    share: float
    at_side: bool


def frames_with_person(frames: Callable[[], Iterator[Frames]]) -> range:
    """From the first to the last frame that shows a person; all frames where that cannot be told.

    A video of silhouettes (all pixels black or white) needs no background: a frame is empty if its mask is.

    Args:
        frames: starts the video anew; (H, W, 3) uint8. Called twice.

    Raises:
        UnreadableError: as the frames do.
    """
    spread, is_mask, count = _survey(frames())
    if not count:
        return range(0)
    if is_mask:
        filled = [number for number, image in enumerate(frames()) if (_square(image) > 127).any()]
        return range(filled[0], filled[-1] + 1) if filled else range(count)
    background = np.median(spread, axis=0).astype(np.float32)
    # Of a normal distribution the standard deviation is 1.4826 times the median absolute difference.
    noise = 1.4826 * float(np.median(np.abs(spread - background)))
    threshold = max(NOISE_FACTOR * noise, SMALLEST_DIFFERENCE)
    return _ends([_compare(image, background, threshold) for image in frames()])


def _survey(frames: Iterable[Frames]) -> tuple[NDArray[np.uint8], bool, int]:
    """Evenly spread frames, reduced, (N, S, S, 3); whether the video is one of silhouettes; the number of its frames.

    The number is not known beforehand, so every second one is dropped whenever there are too many.
    """
    kept: list[Frames] = []
    step, count, is_mask = 1, 0, True
    for image in frames:
        is_mask = is_mask and _is_mask(image)
        if count % step == 0:
            kept.append(_reduced(image))
            if len(kept) > BACKGROUND_FRAMES:
                kept, step = kept[::2], 2 * step
        count += 1
    return np.array(kept), is_mask, count


def _is_mask(image: Frames) -> bool:
    grey = (image > _MASK_GREY) & (image < 255 - _MASK_GREY)
    return float(grey.mean()) <= _MASK_SHARE


def _square(image: Frames) -> Frames:
    return square_frame(image, min(image.shape[:2]))


def _reduced(image: Frames) -> Frames:
    return square_frame(image, min(SIDE, *image.shape[:2]))


def _compare(image: Frames, background: NDArray[np.float32], threshold: float) -> _Frame:
    differs = np.abs(_reduced(image) - background).max(axis=-1) > threshold
    columns = differs.sum(axis=0)
    width = len(columns)
    if not columns.any():
        return _Frame(0.0, at_side=False)
    margin = max(1, round(_MARGIN * width))
    centre = float(columns @ (np.arange(width) + 0.5) / columns.sum()) / width
    left = bool(columns[:margin].any()) and centre < _OUTER
    right = bool(columns[-margin:].any()) and centre > 1 - _OUTER
    return _Frame(float(differs.mean()), left or right)


def _ends(seen: list[_Frame]) -> range:
    shares = np.array([frame.share for frame in seen])
    largest = float(np.sort(shares)[-min(_PERSON_FRAMES, len(shares))])
    if largest < SMALLEST_PERSON:
        return range(len(seen))
    shown = np.flatnonzero(shares >= PERSON_SHARE * largest)
    first, last = int(shown[0]), int(shown[-1])
    return range(first if seen[first].at_side else 0, last + 1 if seen[last].at_side else len(seen))
