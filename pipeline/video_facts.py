"""What the header of a video file says, for exports that need frame numbers."""

from __future__ import annotations

from pathlib import Path

import av

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.fiftyone_layout import VideoFacts
from kineme.shards.media import open_media


def video_facts(path: Path) -> VideoFacts:
    """The facts of a video file. Nothing is decoded.

    Raises:
        RetrievalError: there is no such file, or no video in it that tells its rate.
    """
    mend = "name the folder that was ingested, or leave --video-root out"
    if not path.is_file():
        raise RetrievalError(f"{path}: there is no such video; {mend}")
    try:
        with open_media(path) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise RetrievalError(f"{path}: no video stream; {mend}")
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            if not rate:
                raise RetrievalError(f"{path}: it does not tell its frame rate; {mend}")
            length_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            duration_s = length_s or (container.duration or 0) / av.time_base
            frames = stream.frames or round(duration_s * rate)
            return VideoFacts(rate, frames, duration_s or frames / rate, stream.height, stream.width)
    except av.FFmpegError as error:
        raise RetrievalError(f"{path}: not a video FFmpeg can read ({error.strerror}); {mend}") from None
