"""Single clips that a user names on the command line: read from any video, written as video or picture."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kineme.pipeline.errors import RunError
from kineme.pipeline.pictures import film_strips, save_picture
from kineme.retrieval.atomic import replacing
from kineme.shards.codec import decode_clip, encode_frames
from kineme.shards.decode_pool import DecodePool, Limits
from kineme.shards.decode_video import Clip, Done, Task, Unusable
from kineme.shards.errors import DataError
from kineme.shards.manifest import write_atomically
from kineme.shards.media import IMAGE_FOLDER_FPS
from kineme.shards.sample import ClipRecord, Frames
from kineme.shards.sampling import Sampling, Windows
from kineme.shards.shard_work import record_of
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.folder import FolderSource, numbered_images
from kineme.shards.sources.openers import ImageFolder, VideoFile

_LIMITS = Limits(silence_s=60.0)
SHOWN_SIZE = 256
"""Written videos are enlarged to at least this, so that a player shows more than a stamp."""


@dataclass(frozen=True)
class NamedClip:
    """The first clip of a video.

    Attributes:
        frames: (T, H, W, 3) uint8, square.
        fps: their rate.
        clips: how many such clips the video holds.
        end_s: when it ends, seconds after the video's first frame.
    """

    frames: Frames
    fps: float
    clips: int
    end_s: float


@dataclass(frozen=True)
class Beginning:
    """The first frames of a video.

    Attributes:
        frames: (T, H, W, 3) uint8, square.
        fps: their rate.
        source_fps: the video's own rate.
        source_size: height and width of the video's own frames, pixels.
    """

    frames: Frames
    fps: float
    source_fps: float
    source_size: tuple[int, int]


@dataclass(frozen=True)
class WindowBatch:
    """B clips that overlap, of one video.

    Attributes:
        frames: (B, T, H, W, 3) uint8, square.
        starts_s: (B,) float64, when each begins, seconds after the video's first frame.
        ends_s: (B,) float64, when each ends.
        fps: rate of the frames.
    """

    frames: Frames
    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    fps: float


def read_clip(path: Path, *, clip_frames: int, frame_size: int, fps: float | None = None) -> NamedClip:
    """The first ``clip_frames`` frames of a video or of a folder of numbered images, square, ``frame_size`` pixels.

    Decoded like an ingest does it, in a child process that is killed if it hangs.

    Args:
        path: the video.
        clip_frames: frames wanted.
        frame_size: height and width, pixels.
        fps: rate to sample at; the video's own if not given. Images have none, and each is a frame of this rate.

    Raises:
        DataError: there is no such file, it cannot be read as video, or is too short.
    """
    with _decoded(path, Sampling(clip_frames, fps=fps), frame_size) as (coming, end):
        clips = list(coming)
    return NamedClip(decode_clip(clips[0].mp4), end.fps, len(clips), clips[0].end_s)


def read_beginning(path: Path, *, most_frames: int, frame_size: int, fps: float | None = None) -> Beginning:
    """The first ``most_frames`` frames of a video, or as many as it has.

    Args:
        path, frame_size, fps: as of `read_clip`.
        most_frames: frames wanted, at least 1.

    Raises:
        DataError: there is no such file, or it cannot be read as video.
    """
    with _decoded(path, Sampling(most_frames, fps=fps), frame_size, first_only=True) as (clips, end):
        (clip,) = clips
    return Beginning(decode_clip(clip.mp4), end.fps, end.source_fps, end.source_size)


def read_windows(
    path: Path,
    windows: Windows,
    *,
    clip_frames: int,
    frame_size: int,
    fps: float | None = None,
    batch_size: int = 64,
) -> Iterator[WindowBatch]:
    """Clips that overlap, of a part of a video, a batch at a time: memory does not grow with the video.

    Args:
        path, clip_frames, frame_size, fps: as of `read_clip`.
        windows: the part, and how far a clip is from the next.
        batch_size: clips of a batch; the last may have fewer.

    Raises:
        DataError: there is no such file, it cannot be read as video, or the part is shorter than a clip.
    """
    with _decoded(path, Sampling(clip_frames, fps=fps), frame_size, windows=windows) as (clips, end):
        while some := list(islice(clips, batch_size)):
            yield WindowBatch(
                np.stack([decode_clip(clip.mp4) for clip in some]),
                np.array([clip.start_s for clip in some]),
                np.array([clip.end_s for clip in some]),
                end.fps,
            )


def read_stored(
    path: Path, *, clip_frames: int, frame_size: int, fps: float | None = None
) -> Iterator[tuple[ClipRecord, Frames]]:
    """The clips of a video as an ingest would store them: records and frames (T, H, W, 3) uint8.

    Their source is the path as it is given; they belong to no data set and have no labels.

    Args:
        path, clip_frames, frame_size, fps: as of `read_clip`.

    Raises:
        DataError: there is no such file, it cannot be read as video, or is too short.
    """
    with _decoded(path, Sampling(clip_frames, fps=fps), frame_size) as (clips, end):
        item = SourceItem(path.as_posix(), VideoFile(path))
        for number, clip in enumerate(clips):
            yield record_of(FolderSource.name, item, end, number, clip), decode_clip(clip.mp4)


@contextmanager
def _decoded(
    path: Path, sampling: Sampling, size: int, *, first_only: bool = False, windows: Windows | None = None
) -> Iterator[tuple[Iterator[Clip], Done]]:
    """The clips, which can be read once and wait on disk where they are many, and how the video ended."""
    if not path.exists():
        raise DataError(f"{path}: there is no such video; give a video file or a folder of numbered images")
    opener = _images(path, sampling.fps) if path.is_dir() else VideoFile(path)
    task = Task(SourceItem(path.name, opener), sampling, size, first_only=first_only, windows=windows)
    with tempfile.TemporaryDirectory() as scratch, DecodePool(1, _LIMITS, Path(scratch)) as pool:
        (video,) = pool.decode([task])
        if isinstance(video.end, Unusable):
            video.drop()
            raise DataError(f"{path}: {video.end.reason}")
        yield video.clips(), video.end


def _images(folder: Path, fps: float | None) -> ImageFolder:
    paths = numbered_images(folder.iterdir())
    if not paths:
        raise DataError(f"{folder}: a folder without numbered images; give a folder of such, or a video file")
    return ImageFolder(paths, fps=fps or IMAGE_FOLDER_FPS)


def write_clip(frames: Iterable[Frames], fps: float, path: Path) -> None:
    """Write frames by the suffix: .mp4 and .gif enlarged to be watched, .png as a film strip; whole or not at all.

    Args:
        frames: each (H, W, 3) uint8, all of one size, at least one. An .mp4 is written while they come, and does not
            hold them; the others do.
        fps: their rate.
        path: the file; folders are made.

    Raises:
        RunError: the suffix is none of these.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[path.suffix.lower()](frames, fps, path)


def check_suffix(path: Path) -> None:
    """Refuse a file that `write_clip` cannot write, before the work for it is done.

    Raises:
        RunError: the suffix is none of those.
    """
    if path.suffix.lower() not in _WRITERS:
        raise RunError(f"{path}: the suffix decides what is written; use one of {', '.join(_WRITERS)}")


def _write_mp4(frames: Iterable[Frames], fps: float, path: Path) -> None:
    with replacing(path) as partial:
        encode_frames(map(_enlarged, frames), fps, partial)


def _write_gif(frames: Iterable[Frames], fps: float, path: Path) -> None:
    images = (Image.fromarray(_enlarged(frame)) for frame in frames)
    first = next(images)
    gif = io.BytesIO()
    # GIF counts in hundredths of a second and players slow down below two of them.
    duration_ms = max(20, round(1000 / fps))
    first.save(gif, format="GIF", save_all=True, append_images=images, duration=duration_ms, loop=0)
    write_atomically(path, gif.getvalue())


def _write_png(frames: Iterable[Frames], fps: float, path: Path) -> None:
    clip = np.stack(list(frames))
    save_picture(film_strips([clip], [path.stem], frames_per_clip=None), path)


_WRITERS: dict[str, Callable[[Iterable[Frames], float, Path], None]] = {
    ".mp4": _write_mp4,
    ".gif": _write_gif,
    ".png": _write_png,
}


def _enlarged(frame: Frames) -> Frames:
    factor = -(-SHOWN_SIZE // max(frame.shape[:2]))
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)
