"""Makes real video files for tests, and decoders that hang or crash, which a worker process imports by this name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from kineme.shards.media import Footage
from kineme.shards.sample import Frames
from kineme.shards.sources.openers import VideoFile

PIXELS = {"libx264": "yuv420p", "libx264rgb": "rgb24", "mpeg4": "yuv420p", "gif": "rgb8", "libvpx-vp9": "yuv420p"}


def picture(number: int, seed: int, height: int, width: int) -> Frames:
    """A frame that differs from every other one: noise, and a bar as wide as its number."""
    image = np.random.default_rng((seed, number)).integers(0, 256, (height, width, 3), np.uint8)
    image[: height // 4] = 0
    image[: height // 4, : number % width] = 255
    return image


def write_video(
    path: Path,
    frames: int = 20,
    size: tuple[int, int] = (32, 32),
    codec: str = "libx264rgb",
    fps: int = 25,
    seed: int = 0,
    starts_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> list[Frames]:
    """Write ``frames`` pictures of ``size`` (height, width); bit-exact with libx264rgb. Returns them."""
    height, width = size
    pictures = [picture(number, seed, height, width) for number in range(frames)]
    lossless = {"qp": "0"} if codec == "libx264rgb" else {}
    with av.open(path, "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=1000 if starts_ms else fps, options=lossless)
        stream.width, stream.height, stream.pix_fmt = width, height, PIXELS[codec]
        for number, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = starts_ms[number] if starts_ms else number
            frame.time_base = Fraction(1, 1000 if starts_ms else fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return pictures


def write_sound(path: Path) -> None:
    """An mp4 with an audio stream alone."""
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass(frozen=True)
class HangingVideo(VideoFile):
    """Never gives a frame, deaf to signals that can be ignored, as decord's endless loop is."""

    def readers(self) -> Sequence[Callable[[], Footage]]:
        def hang() -> Footage:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
            raise AssertionError

        return (hang,)


@dataclass(frozen=True)
class CrashingVideo(VideoFile):
    """Takes the process down."""

    def readers(self) -> Sequence[Callable[[], Footage]]:
        def crash() -> Footage:
            os.kill(os.getpid(), signal.SIGSEGV)
            raise AssertionError

        return (crash,)
