"""From a stream of decoded frames to clips: which frames are taken, and where one clip ends and the next begins.

Everything here is a generator over frames, so that a video of any length needs the memory of one clip.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kineme.shards.errors import DataError
from kineme.shards.sample import Frames

_ROUNDING_S = 1e-6
"""Times this near to one another are the same."""


class TimedFrame(NamedTuple):
    """A decoded frame, (H, W, 3) uint8, and when it is shown, in seconds after the video's first frame."""

    start_s: float
    image: Frames


class SampledFrame(NamedTuple):
    """A frame that was taken: its number in the source, and its half-open span in seconds."""

    number: int
    start_s: float
    end_s: float
    image: Frames


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are taken and how many make a clip.

    Attributes:
        clip_frames: frames of a clip, T >= 1.
        frame_step: every so many-th frame is taken, >= 1.
        fps: instead of ``frame_step``, the common rate to resample to; the frame nearest in time is taken.
    """

    clip_frames: int = 16
    frame_step: int = 1
    fps: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("clip-frames", self.clip_frames), ("frame-step", self.frame_step)):
            if value < 1:
                raise DataError(f"--{name} {value}: at least 1 is needed")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise DataError(f"--fps {self.fps:g}: a rate in (0, 1000] frames per second is needed")
        if self.fps is not None and self.frame_step != 1:
            raise DataError(
                f"--fps {self.fps:g} and --frame-step {self.frame_step}: they exclude one another; keep one"
            )

    def rate(self, source_fps: float) -> float:
        """Frames per second after sampling."""
        return self.fps or source_fps / self.frame_step

    def sample(self, frames: Iterable[TimedFrame], source_fps: float) -> Iterator[SampledFrame]:
        """The frames that are taken, in order. The last frame of a video is shown for 1 / ``source_fps`` seconds."""
        if self.fps is None:
            return _every_nth(frames, self.frame_step, source_fps)
        return _nearest(frames, self.fps, source_fps)


@dataclass(frozen=True)
class Windows:
    """Clips that overlap, of a part of a video: the frames that begin in [``start_s``, ``end_s``).

    Attributes:
        stride: sampled frames from the beginning of one clip to that of the next, >= 1.
        start_s: seconds after the video's first frame, >= 0.
        end_s: None: the end of the video.
        most: clips, >= 1; the part ends with the last of them. None: any number.
    """

    stride: int
    start_s: float = 0.0
    end_s: float | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise DataError(f"stride {self.stride}: at least 1 frame is needed")
        if self.most is not None and self.most < 1:
            raise DataError(f"most {self.most}: at least 1 clip is needed")
        end_s = math.inf if self.end_s is None else self.end_s
        if not (0 <= self.start_s < end_s and math.isfinite(self.start_s)):
            raise DataError(f"span of {self.start_s:g} to {end_s:g} s: 0 <= start < end is needed, in seconds")

    def holds(self, frame: SampledFrame) -> bool:
        """Whether a frame is in the part."""
        return self.start_s - _ROUNDING_S <= frame.start_s and not self.over(frame)

    def over(self, frame: SampledFrame) -> bool:
        """Whether the part ends before this frame."""
        return self.end_s is not None and frame.start_s >= self.end_s - _ROUNDING_S


def _every_nth(frames: Iterable[TimedFrame], step: int, source_fps: float) -> Iterator[SampledFrame]:
    """Every ``step``-th frame; each one's span reaches to the next one taken, or to the end of the video."""
    taken: tuple[int, TimedFrame] | None = None
    end_s = 0.0
    for index, frame in enumerate(frames):
        end_s = frame.start_s + 1 / source_fps
        if index % step:
            continue
        if taken is not None:
            yield SampledFrame(taken[0], taken[1].start_s, frame.start_s, taken[1].image)
        taken = index, frame
    if taken is not None:
        yield SampledFrame(taken[0], taken[1].start_s, end_s, taken[1].image)


def _nearest(frames: Iterable[TimedFrame], rate: float, source_fps: float) -> Iterator[SampledFrame]:
    """At k / ``rate`` seconds, k = 0, 1, ..., while the video lasts: the frame nearest in time (of two, the first)."""
    number = 0
    last: tuple[int, TimedFrame] | None = None
    for index, frame in enumerate(frames):
        if last is not None:
            middle = (last[1].start_s + frame.start_s) / 2
            while number / rate <= middle:
                yield _at(number, rate, last)
                number += 1
        last = index, frame
    # The tolerance keeps rounding from adding a frame that would start at the very end.
    while last is not None and number / rate < last[1].start_s + 1 / source_fps - _ROUNDING_S:
        yield _at(number, rate, last)
        number += 1


def _at(number: int, rate: float, frame: tuple[int, TimedFrame]) -> SampledFrame:
    return SampledFrame(frame[0], number / rate, (number + 1) / rate, frame[1].image)


def cut_clips(
    frames: Iterable[SampledFrame], clip_frames: int, prepare: Callable[[Frames], Frames]
) -> Iterator[list[SampledFrame]]:
    """Non-overlapping clips of ``clip_frames`` frames; the last is moved back to end with the video, so none is lost.

    Args:
        frames: the sampled frames.
        clip_frames: T.
        prepare: applied once to every image, before it is kept (resizing).

    Raises:
        DataError: there are fewer frames than one clip has.
    """
    window: deque[SampledFrame] = deque(maxlen=clip_frames)
    count = 0
    for frame in frames:
        window.append(frame._replace(image=prepare(frame.image)))
        count += 1
        if count % clip_frames == 0:
            yield list(window)
    if count < clip_frames:
        raise DataError(
            f"{count} sampled frames are fewer than the {clip_frames} of a clip; choose --clip-frames {count} or less"
            if count
            else "it has no frames"
        )
    if count % clip_frames:
        yield list(window)


def cut_first(
    frames: Iterable[SampledFrame], clip_frames: int, prepare: Callable[[Frames], Frames]
) -> Iterator[list[SampledFrame]]:
    """The first clip alone, of ``clip_frames`` frames or of as many as there are.

    The others are read, too: only then is the video known to be whole.

    Args:
        frames, clip_frames, prepare: as of :func:`cut_clips`.

    Raises:
        DataError: there is no frame.
    """
    first: list[SampledFrame] = []
    for frame in frames:
        if len(first) < clip_frames:
            first.append(frame._replace(image=prepare(frame.image)))
    if not first:
        raise DataError("it has no frames")
    yield first


def cut_windows(
    frames: Iterable[SampledFrame], clip_frames: int, prepare: Callable[[Frames], Frames], windows: Windows
) -> Iterator[list[SampledFrame]]:
    """Clips that overlap, over a part of a video; the last is moved back to end with the part, so no frame is lost.

    What comes after the part is not read.

    Args:
        frames, clip_frames, prepare: as of :func:`cut_clips`.
        windows: the part, and how far a clip is from the next.

    Raises:
        DataError: the part has fewer frames than one clip.
    """
    window: deque[SampledFrame] = deque(maxlen=clip_frames)
    count, clips, end_s = 0, 0, 0.0
    for frame in frames:
        if windows.over(frame):
            break
        end_s = frame.end_s
        if not windows.holds(frame):
            continue
        window.append(frame._replace(image=prepare(frame.image)))
        count += 1
        if count >= clip_frames and (count - clip_frames) % windows.stride == 0:
            yield list(window)
            clips += 1
            if clips == windows.most:
                return
    if not count:
        raise DataError(f"it ends after {end_s:g} s: no frame begins at {windows.start_s:g} s or later")
    if count < clip_frames:
        raise DataError(
            f"{count} sampled frames from {windows.start_s:g} to {end_s:g} s are fewer than the {clip_frames} of a "
            "clip; give a longer span"
        )
    if (count - clip_frames) % windows.stride:
        yield list(window)
