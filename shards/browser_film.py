"""A clip as a small mp4 that every browser plays: H.264, yuv420p. For eyes, not for encoders."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import cv2
import numpy as np

from kineme.shards.sample import Frames

MAX_SIDE = 128
_OPTIONS = {"preset": "veryfast", "crf": "20"}


def browser_film(frames: Frames, fps: float, *, max_side: int = MAX_SIDE) -> bytes:
    """Encode frames for a browser, scaled down to at most ``max_side`` pixels on the longer side.

    Args:
        frames: (T, H, W, 3) uint8 RGB, T >= 1.
        fps: frames per second, above 0.
        max_side: pixels, even.

    Returns:
        The bytes of an mp4 whose sides are even: where they are not, the last row or column is doubled.
    """
    scale = min(1.0, max_side / max(frames.shape[1:3]))
    height, width = (max(1, round(side * scale)) for side in frames.shape[1:3])
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        rate = max(Fraction(fps).limit_denominator(65535), Fraction(1, 65535))
        stream = container.add_stream("libx264", rate=rate, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            small = frame if scale == 1 else cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            image = np.ascontiguousarray(np.pad(small, padding, mode="edge"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
