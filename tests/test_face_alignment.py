"""Faces are turned, scaled and moved onto the template, and resampled without moire."""

from __future__ import annotations

import math

import numpy as np
import pytest
from face_files import framed_landmarks
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kineme.shards.media import UnreadableError
from kineme.shards.sources.alignment import (
    TEMPLATE,
    Similarity,
    align_frame,
    align_points,
    face_similarity,
    fit_similarity,
)


def _similarity(scale: float, angle: float, x: float, y: float) -> Similarity:
    matrix = scale * np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    return Similarity(matrix, np.array([x, y]))


@given(
    st.floats(0.05, 20), st.floats(-math.pi, math.pi), st.floats(-500, 500), st.floats(-500, 500), st.integers(0, 1000)
)
def test_a_known_transform_is_found_again(scale: float, angle: float, x: float, y: float, seed: int) -> None:
    points = np.random.default_rng(seed).normal(0, 30, (5, 2))
    known = _similarity(scale, angle, x, y)
    found = fit_similarity(points, known(points))
    np.testing.assert_allclose(found.matrix, known.matrix, atol=1e-7 * scale)
    np.testing.assert_allclose(found.shift, known.shift, atol=1e-6 * max(1, scale))
    assert found.scale == pytest.approx(scale)


@given(st.integers(0, 10_000))
def test_it_is_the_least_squares_one(seed: int) -> None:
    """Against the linear least-squares problem in a, b, x, y, written out row by row."""
    rng = np.random.default_rng(seed)
    source, target = rng.normal((3, -2), 1, (5, 2)), rng.normal(0, 1, (5, 2))
    rows, wanted = [], []
    for (px, py), (qx, qy) in zip(source, target, strict=True):
        rows += [(px, -py, 1, 0), (py, px, 0, 1)]
        wanted += [qx, qy]
    a, b, x, y = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    found = fit_similarity(source, target)
    np.testing.assert_allclose(found.matrix, [(a, -b), (b, a)], atol=1e-9)
    np.testing.assert_allclose(found.shift, (x, y), atol=1e-9)


def test_points_in_one_place_are_no_face() -> None:
    with pytest.raises(UnreadableError, match="one place"):
        face_similarity(np.full((5, 2), 7.0), 96)
    with pytest.raises(UnreadableError, match="finite"):
        face_similarity(np.full((5, 2), np.nan), 96)


def test_landmarks_come_to_lie_on_the_template() -> None:
    points = _similarity(3.0, 0.4, 200, 90)(TEMPLATE * 96) - 0.5
    np.testing.assert_allclose(align_points(points, face_similarity(points, 96)), TEMPLATE * 96 - 0.5, atol=1e-9)


def test_whole_pixels_are_moved_bit_exact_and_turned_to_a_rounding() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    np.testing.assert_array_equal(align_frame(picture, _similarity(1, 0, -7, -3), 40), picture[3:43, 7:47])
    turned = align_frame(picture, _similarity(1, math.pi / 2, 40, 0), 40)
    np.testing.assert_allclose(turned.astype(int), np.rot90(picture[:40, :40], -1).astype(int), atol=1)


def test_beyond_the_picture_its_border_is_repeated() -> None:
    picture = np.full((30, 40, 3), (10, 200, 30), np.uint8)
    picture[:, 0] = (250, 0, 0)
    square = align_frame(picture, _similarity(1, 0, 12, 5), 32)
    assert (square[:, :12] == (250, 0, 0)).all()
    assert (square[:, 13:] == (10, 200, 30)).all()


def test_a_face_far_outside_is_refused() -> None:
    with pytest.raises(UnreadableError, match="within its 40x30 px"):
        align_frame(np.zeros((30, 40, 3), np.uint8), _similarity(1, 0, 500, 0), 32)


@pytest.mark.parametrize(("scale", "angle"), [(0.16, 0.1), (0.45, -0.3), (0.9, 0.05), (1.7, 0.2)])
def test_a_smooth_picture_is_what_it_was_at_the_point_it_came_from(scale: float, angle: float) -> None:
    """Every pixel of the square against the picture's own formula at the place it came from."""

    def colour(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return 128 + 60 * np.sin(x / 60) + 50 * np.cos(y / 45)

    rows, columns = np.mgrid[:360, :640]
    grey = colour(columns + 0.5, rows + 0.5)
    picture = np.rint(np.repeat(grey[..., None], 3, axis=-1)).astype(np.uint8)
    there = _similarity(scale, angle, 0, 0)
    centred = Similarity(there.matrix, np.array([24.0, 24.0]) - there.matrix @ (320, 180))
    square = align_frame(picture, centred, 48)
    y, x = np.mgrid[:48, :48] + 0.5
    back = (np.stack([x, y], axis=-1) - centred.shift) @ np.linalg.inv(centred.matrix).T
    np.testing.assert_allclose(square[..., 0], colour(back[..., 0], back[..., 1]), atol=4)


def test_fine_patterns_become_grey_and_not_moire() -> None:
    checks = np.indices((720, 1280)).sum(axis=0) % 2 * 255
    picture = np.repeat(checks[..., None], 3, axis=-1).astype(np.uint8)
    square = align_frame(picture, face_similarity(framed_landmarks(picture), 96), 96)
    assert np.abs(square.astype(int) - 127).max() <= 3
