"""Faces by a similarity transform onto fixed positions of eyes, nose and mouth in a square.

The thesis (section 7.5.1) normalises the RAVDESS faces as Karras et al. (2019) do: a similarity transform that removes
the rotation in the plane, and one scale for all. :data:`TEMPLATE` is where that procedure puts the median face of the
24 actors: the side of its square is the larger of 4.0 distances between the eyes and 3.6 from the eyes to the mouth,
its centre lies a tenth of the latter below the eyes. The similarity here is the least-squares one over all five points
rather than the one through eyes and mouth alone, so that an error in one point is shared.

A continuous coordinate system is used inside: (0, 0) is the corner of the first pixel, so its centre is (0.5, 0.5).
Landmarks come in with whole numbers at the centres of pixels, as everywhere in kineme.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kineme.shards.media import UnreadableError
from kineme.shards.sample import Frames

POINTS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""The five landmarks in their order; left and right as the picture shows them."""

TEMPLATE = np.array(
    [(0.375, 0.473), (0.625, 0.473), (0.500, 0.611), (0.395, 0.744), (0.605, 0.744)],
    np.float64,
)
"""Where :data:`POINTS` go, (5, 2) as x, y, fractions of the side of the square."""

_FARTHEST = 2.0  # sides of the square: further outside of the picture, the landmarks cannot be of a face in it


@dataclass(frozen=True)
class Similarity:
    """x -> ``matrix`` x + ``shift``: a rotation times a scale > 0, no reflection.

    Attributes:
        matrix: (2, 2).
        shift: (2,).
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def scale(self) -> float:
        """Target lengths per source length."""
        return math.sqrt(float(np.linalg.det(self.matrix)))

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points (..., 2) go."""
        return np.asarray(points @ self.matrix.T + self.shift)


def fit_similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> Similarity:
    """The similarity that takes ``source`` to ``target`` with the least sum of squared distances.

    In the plane the problem is linear: with z and w the centred points as complex numbers, the rotation and scale are
    the complex factor sum(conj(z) w) / sum(conj(z) z). The same as Umeyama (1991) wherever that gives no reflection.

    Args:
        source, target: (N, 2), N >= 2.

    Raises:
        UnreadableError: the points of ``source`` lie in one place, or those of either are not finite.
    """
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise UnreadableError("a landmark is not a finite number")
    origin, goal = source.mean(axis=0), target.mean(axis=0)
    z = (source - origin) @ (1, 1j)
    w = (target - goal) @ (1, 1j)
    spread = float((z.conj() @ z).real)
    factor = complex(z.conj() @ w) / spread if spread > 0 else 0j
    if not abs(factor) > 0:
        raise UnreadableError("the landmarks lie in one place: no face can be aligned to them")
    matrix = np.array([(factor.real, -factor.imag), (factor.imag, factor.real)])
    return Similarity(matrix, goal - matrix @ origin)


def face_similarity(landmarks: NDArray[np.float64], side: int) -> Similarity:
    """From the pixels of a picture to those of a square of ``side`` pixels, both continuous.

    Args:
        landmarks: (5, 2) as in :data:`POINTS`, pixels, whole numbers at the centres.
        side: of the square.

    Raises:
        UnreadableError: see :func:`fit_similarity`.
    """
    return fit_similarity(landmarks + 0.5, TEMPLATE * side)


def align_points(points: NDArray[np.float64], similarity: Similarity) -> NDArray[np.float64]:
    """Where points (..., 2) of the picture lie in the aligned square, whole numbers at the centres of pixels."""
    return similarity(points + 0.5) - 0.5


def align_frame(frame: Frames, similarity: Similarity, side: int) -> Frames:
    """The square that ``similarity`` takes from a picture, antialiased; beyond the picture its border is repeated.

    Pillow's own transform takes no account of how many source pixels a target pixel covers. So the picture is first
    resized to the target's scale by the antialiased bicubic filter, and then only turned and moved.

    Args:
        frame: (H, W, 3) uint8.
        similarity: continuous pixels of the picture to those of the square.
        side: of the square, pixels.

    Returns:
        (side, side, 3) uint8.

    Raises:
        UnreadableError: the square lies far outside of the picture.
    """
    height, width = frame.shape[:2]
    corners = np.array([(0, 0), (side, 0), (0, side), (side, side)], np.float64)
    inverse = np.linalg.inv(similarity.matrix)
    there = (corners - similarity.shift) @ inverse.T
    beyond = max(float(-there.min()), float((there - (width, height)).max())) * similarity.scale
    if beyond > _FARTHEST * side:
        raise UnreadableError(f"its landmarks are not of a face within its {width}x{height} px")
    image = Image.fromarray(frame)
    if similarity.scale < 1:
        smaller = (max(1, round(width * similarity.scale)), max(1, round(height * similarity.scale)))
        image = image.resize(smaller, Image.Resampling.BICUBIC)
    per_pixel = np.array([image.width / width, image.height / height])
    border = 2 + max(
        0, math.ceil(max(float((-there * per_pixel).max()), float(((there - (width, height)) * per_pixel).max())))
    )
    padded = np.pad(np.asarray(image), ((border, border), (border, border), (0, 0)), mode="edge")
    # Pillow wants the way back: from the square to the padded picture.
    back = per_pixel[:, None] * inverse
    shift = border - back @ similarity.shift
    coefficients = (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])
    square = Image.fromarray(padded).transform(
        (side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(square)
