"""Single clips that a user names on the command line: read from any video, written as video or picture."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
from kineme.shards.sample import Frames
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.folder import numbered_images
from kineme.shards.sources.openers import ImageFolder, VideoFile

_LIMITS = Limits(silence_s=60.0)
SHOWN_SIZE = 256
"""Written videos are enlarged to at least this, so that a player shows more than a stamp."""


@dataclass(frozen=True)
class NamedClip:
    """The first clip of a video: frames (T, H, W, 3) uint8 at ``fps``, and how many such clips the video holds."""

    frames: Frames
    fps: float
    clips: int


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
    clips, end = _decode(path, Sampling(clip_frames, fps=fps), frame_size)
    return NamedClip(decode_clip(clips[0].mp4), end.fps, len(clips))


def read_beginning(path: Path, *, most_frames: int, frame_size: int, fps: float | None = None) -> Beginning:
    """The first ``most_frames`` frames of a video, or as many as it has.

    Args:
        path, frame_size, fps: as of `read_clip`.
        most_frames: frames wanted, at least 1.

    Raises:
        DataError: there is no such file, or it cannot be read as video.
    """
    (clip,), end = _decode(path, Sampling(most_frames, fps=fps), frame_size, first_only=True)
    return Beginning(decode_clip(clip.mp4), end.fps, end.source_fps, end.source_size)


def _decode(path: Path, sampling: Sampling, size: int, *, first_only: bool = False) -> tuple[list[Clip], Done]:
    if not path.exists():
        raise DataError(f"{path}: there is no such video; give a video file or a folder of numbered images")
    opener = _images(path, sampling.fps) if path.is_dir() else VideoFile(path)
    task = Task(SourceItem(path.name, opener), sampling, size, first_only)
    with tempfile.TemporaryDirectory() as scratch, DecodePool(1, _LIMITS, Path(scratch)) as pool:
        (video,) = pool.decode([task])
        clips = list(video.clips())
    if isinstance(video.end, Unusable):
        raise DataError(f"{path}: {video.end.reason}")
    return clips, video.end


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
