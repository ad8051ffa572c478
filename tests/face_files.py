"""Landmarks of faces: of a picture framed as RAVDESS is, and as OpenFace writes them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.shards.sample import Frames
from kineme.shards.sources.ravdess import FRAMING


def framed_landmarks(picture: Frames) -> NDArray[np.float64]:
    """Of a picture framed as RAVDESS is."""
    return np.array(FRAMING) * (picture.shape[1], picture.shape[0]) - 0.5


def write_openface(path: Path, points: NDArray[np.float64], failed: tuple[int, ...] = ()) -> None:
    """Points (F, 68, 2) as OpenFace writes them: blanks in the header, 3D points called alike but for the case."""
    names = [f"{axis}_{number}" for axis in "xy" for number in range(68)]
    solid = [f"{axis}_{number}" for axis in "XYZ" for number in range(68)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", *(f" {name}" for name in ("face_id", "confidence", "success", *names, *solid))])
        for number, row in enumerate(points, 1):
            success = int(number - 1 not in failed)
            where = row if success else np.zeros_like(row)
            writer.writerow([number, 0, 0.98, success, *where.T.ravel().round(3), *np.zeros(204)])


def sixty_eight(five: NDArray[np.float64]) -> NDArray[np.float64]:
    """68 points with the eyes as rings about theirs, the nose and the corners of the mouth on theirs."""
    ring = 5 * np.stack([np.cos(np.arange(6) * math.pi / 3), np.sin(np.arange(6) * math.pi / 3)], axis=-1)
    points = np.random.default_rng(0).uniform(0, 500, (68, 2))
    points[36:42], points[42:48] = five[0] + ring, five[1] + ring
    points[30], points[48], points[54] = five[2:]
    return points
