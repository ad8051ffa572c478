"""Decoder processes that wait for strangers' videos, so that none of these waits for a process to start."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from kineme.retrieval.service.studio import RefusedVideoError
from kineme.shards.codec import decode_clip
from kineme.shards.decode_pool import DecodePool, Limits
from kineme.shards.decode_video import Bounds, Clip, Done, Task, Trouble, Unusable
from kineme.shards.sample import Frames
from kineme.shards.sampling import Sampling, Windows
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.openers import VideoFile

_NAME = "upload"
# Where the reason is one of ours, it is told without our command line's options.
_TOLD: dict[Trouble, Callable[[str], str]] = {
    "unreadable": lambda reason: f"the file cannot be read as a video: {reason}",
    "unfit": lambda reason: f"the file gives no clip: {reason}",
    "pixels": lambda reason: f"the file is too large: {reason}; scale it down",
    "seconds": lambda reason: f"the file is too long: {reason}; cut it",
    "memory": lambda _: "the file's frames need more memory than a decoder may take; scale it down",
    "slow": lambda _: "the file takes too long to decode; cut it, or scale it down",
    "died": lambda reason: f"the file cannot be read as a video: {reason}",
}


@dataclass(frozen=True)
class ReadVideo:
    """What was read of a video: its clips, (B, T, H, W, 3) uint8 with their spans in seconds, and its own facts."""

    frames: Frames
    starts_s: list[float]
    ends_s: list[float]
    end: Done


class WarmDecoders:
    """Some decoder processes; a context manager, which ends them. Safe to share between threads.

    The threads that use it must last as long as it does: Linux ends a process with the thread that started it.

    Args:
        count: videos read at a time.
        limits: a decoder beyond them is killed, and replaced.
        bounds: of a video.
    """

    def __init__(self, count: int, limits: Limits, bounds: Bounds) -> None:
        self._count = count
        self._limits = limits
        self._bounds = bounds
        self._idle: queue.SimpleQueue[DecodePool] = queue.SimpleQueue()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="kineme-decode-")))
            for _ in range(self._count):
                self._idle.put(opened.enter_context(DecodePool(1, self._limits, scratch, quiet=True)))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def read(
        self,
        video: Path,
        *,
        clip_frames: int,
        frame_size: int,
        fps: float | None,
        windows: Windows | None = None,
    ) -> ReadVideo:
        """Read the first clip of a video, or the clips of a part of it; waits until a decoder is free.

        Args:
            video: a file.
            clip_frames: frames of a clip.
            frame_size: height and width, pixels.
            fps: rate to sample at; the video's own if not given.
            windows: the part, and how far a clip is from the next.

        Raises:
            RefusedVideoError: it cannot be read, is too short, or beyond the bounds.
        """
        item = SourceItem(_NAME, VideoFile(video))
        sampling = Sampling(clip_frames, fps=fps)
        task = Task(item, sampling, frame_size, windows is None, windows, self._bounds)
        pool = self._idle.get()
        try:
            (decoded,) = pool.decode([task])
        finally:
            self._idle.put(pool)
        clips = list(decoded.clips())
        if isinstance(decoded.end, Unusable):
            raise _refusal(decoded.end, video)
        _check_length(clips[0], clip_frames, decoded.end.fps)
        return ReadVideo(
            np.stack([decode_clip(clip.mp4) for clip in clips]),
            [clip.start_s for clip in clips],
            [clip.end_s for clip in clips],
            decoded.end,
        )


def _refusal(end: Unusable, video: Path) -> RefusedVideoError:
    reason = end.reason.replace(str(video), _NAME)
    return RefusedVideoError(_TOLD[end.trouble](reason), end.trouble)


def _check_length(clip: Clip, clip_frames: int, fps: float) -> None:
    if clip.num_frames < clip_frames:
        raise RefusedVideoError(
            f"the file is too short: {clip.num_frames} frames at {fps:g} a second, and {clip_frames} are needed "
            f"({clip_frames / fps:.2f} s)",
            "unfit",
        )
