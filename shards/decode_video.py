"""One video to encoded clips: hash, read, sample, resize, cut, encode; as messages from a worker to the pool."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kineme.shards.codec import encode_clip
from kineme.shards.errors import DataError
from kineme.shards.geometry import square_frame, square_points
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.sample import Frames
from kineme.shards.sampling import SampledFrame, Sampling, TimedFrame, Windows, cut_clips, cut_first, cut_windows
from kineme.shards.sources.base import SourceItem, Tracks


@dataclass(frozen=True)
class Clip:
    """One encoded clip: a sample without what the data set knows of it. ``start_s``, ``end_s`` are half-open."""

    mp4: bytes
    codec: str
    start_s: float
    end_s: float
    num_frames: int
    height: int
    width: int
    keypoints: NDArray[np.float32] | None
    actions: NDArray[np.float32] | None


@dataclass(frozen=True)
class Beat:
    """The worker has started, or is still decoding."""


@dataclass(frozen=True)
class Restart:
    """Forget the clips sent so far: another reader begins."""


@dataclass(frozen=True)
class Done:
    """The video is whole and all its clips were sent.

    ``source_fps`` and ``source_size`` (height, width in pixels) are its own, ``fps`` is the rate of the clips, and
    ``seconds`` is how long the file says it is; None where it does not.
    """

    sha256: str
    source_fps: float
    fps: float
    source_size: tuple[int, int]
    seconds: float | None


Trouble = Literal["unreadable", "unfit", "pixels", "seconds", "memory", "slow", "died"]
"""What is wrong with a video, for programs: damaged, gives no clip, or (the last five) takes more than it may."""


@dataclass(frozen=True)
class Unusable:
    """The video gives no clips; forget those sent so far."""

    reason: str
    trouble: Trouble = "unreadable"


Message = Clip | Beat | Restart | Done | Unusable


READ_ON_FRAMES = 300
"""A bounded video is read so far beyond a beginning that is wanted alone: a short one is then known to be whole."""


@dataclass(frozen=True)
class Bounds:
    """What a stranger's video may be at most: ``pixels`` of a frame, height times width, and ``seconds`` in all."""

    pixels: int
    seconds: float

    def check(self, pixels: int, seconds: float) -> None:
        """Raise `BeyondBoundsError` if a video is more."""
        if pixels > self.pixels:
            raise BeyondBoundsError(f"frames of {pixels} pixels; at most {self.pixels} are allowed", "pixels")
        if seconds > self.seconds:
            raise BeyondBoundsError(f"a video of {seconds:.1f} s; at most {self.seconds:g} are allowed", "seconds")


class BeyondBoundsError(ValueError):
    """A video is larger than its task allows."""

    def __init__(self, message: str, trouble: Trouble) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble


@dataclass(frozen=True)
class Task:
    """What to make of a video: clips of square frames of ``size`` pixels.

    With ``first_only`` a single one, its beginning, which is shorter where the video has fewer frames than a clip.
    With ``windows`` clips that overlap, of a part of it; what comes after the part is not read.
    With ``bounds`` it is refused where it is larger, by what the file says and again by what is decoded.
    """

    item: SourceItem
    sampling: Sampling
    size: int
    first_only: bool = False
    windows: Windows | None = None
    bounds: Bounds | None = None


def decode_video(task: Task, beat: Callable[[], None] = lambda: None) -> Iterator[Message]:
    """Hash, read, sample, resize, cut and encode one video; ``beat`` is called at every decoded frame.

    The last message is Done or Unusable.
    """
    try:
        sha256 = task.item.opener.sha256()
        tracks = task.item.opener.tracks()
    except OSError as error:
        yield Unusable(error.strerror or str(error))
        return
    except ValueError as error:
        yield Unusable(str(error))
        return
    reason = "it has no reader"
    trouble: Trouble = "unreadable"
    for reader in task.item.opener.readers():
        yield Restart()
        trouble = "unreadable"
        try:
            footage = reader()
            source_size = yield from _clips(task, footage, tracks, beat)
        except UnreadableError as error:
            reason = str(error)
        except BeyondBoundsError as error:
            yield Unusable(str(error), error.trouble)
            return
        except DataError as error:
            yield Unusable(str(error), "unfit")
            return
        except OSError as error:
            reason = error.strerror or str(error)
        except MemoryError:
            reason, trouble = "its frames do not fit into memory; see --memory-gb", "memory"
        # Whatever surprise a damaged file has for a library, it costs one video.
        except Exception as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            seconds = None if footage.claims is None else footage.claims.seconds
            yield Done(sha256, footage.fps, task.sampling.rate(footage.fps), source_size, seconds)
            return
    yield Unusable(reason, trouble)


def _clips(
    task: Task, footage: Footage, tracks: Tracks, beat: Callable[[], None]
) -> Generator[Clip, None, tuple[int, int]]:
    """The clips; at the end, the height and width of the video's own frames."""
    count, height, width = 0, 0, 0
    if task.bounds is not None and footage.claims is not None:
        task.bounds.check(footage.claims.pixels, footage.claims.seconds)

    def watched() -> Iterator[TimedFrame]:
        nonlocal count, height, width
        for frame in footage.frames:
            count, (height, width) = count + 1, frame.image.shape[:2]
            if task.bounds is not None:
                task.bounds.check(height * width, frame.start_s)
            _check_rows(tracks, count, ended=False)
            beat()
            yield frame

    def prepare(image: Frames) -> Frames:
        return square_frame(image, task.size)

    fps = task.sampling.rate(footage.fps)
    for frames in _cut(task, task.sampling.sample(watched(), footage.fps), prepare):
        yield _encode(frames, fps, tracks, (height, width))
    whole = task.windows is None or (task.windows.end_s is None and task.windows.most is None)
    _check_rows(tracks, count, ended=whole)
    return height, width


def _cut(
    task: Task, frames: Iterator[SampledFrame], prepare: Callable[[Frames], Frames]
) -> Iterator[list[SampledFrame]]:
    if task.windows is not None:
        return cut_windows(frames, task.sampling.clip_frames, prepare, task.windows)
    if task.first_only and task.bounds is not None:
        frames = islice(frames, task.sampling.clip_frames + READ_ON_FRAMES)
    return (cut_first if task.first_only else cut_clips)(frames, task.sampling.clip_frames, prepare)


def _encode(frames: list[SampledFrame], fps: float, tracks: Tracks, source_size: tuple[int, int]) -> Clip:
    images = np.stack([frame.image for frame in frames])
    mp4, codec = encode_clip(images, fps)
    taken = [frame.number for frame in frames]
    keypoints, actions = tracks.keypoints, tracks.actions
    return Clip(
        mp4=mp4,
        codec=codec,
        start_s=round(frames[0].start_s, 6),
        end_s=round(frames[-1].end_s, 6),
        num_frames=len(frames),
        height=images.shape[1],
        width=images.shape[2],
        keypoints=None if keypoints is None else square_points(keypoints[taken], *source_size, images.shape[1]),
        actions=None if actions is None else actions[taken],
    )


def _check_rows(tracks: Tracks, count: int, ended: bool) -> None:
    """Keypoints and actions have one row for each of the video's frames; ``count`` of them are known, or all."""
    for name, array in (("keypoints", tracks.keypoints), ("actions", tracks.actions)):
        if array is not None and (len(array) != count if ended else len(array) < count):
            frames = count if ended else f"at least {count}"
            raise DataError(f"{len(array)} rows of {name} for a video of {frames} frames; one row a frame is needed")
