"""Frames of any size to square ones: the middle square, resized; and the same map for points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kineme.shards.sample import Frames


def square_frame(frame: Frames, size: int) -> Frames:
    """Crop the middle square and resize it, antialiased (Pillow, bicubic over the whole footprint of a target pixel).

    The same as resizing the short side to ``size`` and cropping the middle. A square of that size already is returned
    bit-exact.

    Args:
        frame: (H, W, 3) uint8.
        size: side of the square in pixels, >= 1.

    Returns:
        (size, size, 3) uint8.
    """
    left, top, side = _middle_square(frame.shape[0], frame.shape[1])
    square = frame[top : top + side, left : left + side]
    if side == size:
        return square
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC))


def square_points(points: NDArray[np.float32], height: int, width: int, size: int) -> NDArray[np.float32]:
    """Where :func:`square_frame` puts points, (..., 2) as x, y; whole numbers are centres of pixels.

    Points outside the middle square come out below 0 or above ``size`` - 1; they are kept.
    """
    left, top, side = _middle_square(height, width)
    corner = np.array([left, top], np.float64)
    return np.asarray((points - corner + 0.5) * (size / side) - 0.5, np.float32)


def _middle_square(height: int, width: int) -> tuple[int, int, int]:
    side = min(height, width)
    return (width - side) // 2, (height - side) // 2, side
