"""The map of a library: near vectors are near points, the same again each time, whatever the vectors are."""

from __future__ import annotations

import numpy as np
import pytest

from kineme.retrieval.service.projection import EMBEDDED_MOST, project


def clusters(count: int, *, dims: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around 6 centres, and which centre each is of."""
    draw = np.random.default_rng(seed)
    of = np.arange(count) % 6
    centres = draw.standard_normal((6, dims)) * 4
    return (centres[of] + 0.3 * draw.standard_normal((count, dims))).astype(np.float32), of


@pytest.mark.parametrize("count", [120, EMBEDDED_MOST + 600])
def test_neighbours_stay_neighbours(count: int) -> None:
    vectors, of = clusters(count)
    points = project(vectors, cosine=False)
    distances = np.linalg.norm(points[:100, None] - points[None], axis=2)
    distances[np.arange(100), np.arange(100)] = np.inf
    assert (of[distances.argmin(1)] == of[:100]).mean() > 0.95


def test_the_picture_is_the_same_again() -> None:
    vectors, _ = clusters(60)
    assert np.array_equal(project(vectors, cosine=True), project(vectors, cosine=True))


def test_length_does_not_count_where_directions_are_compared() -> None:
    vectors, _ = clusters(6)
    scaled = vectors * np.arange(1, 7, dtype=np.float32)[:, None]
    np.testing.assert_allclose(project(vectors, cosine=True), project(scaled, cosine=True), atol=1e-5)
    assert not np.allclose(project(vectors, cosine=False), project(scaled, cosine=False), atol=1e-2)


@pytest.mark.parametrize("count", [1, 2, 3, 11, 12, 13])
@pytest.mark.parametrize("dims", [1, 2, 5])
@pytest.mark.parametrize("same", [True, False])
def test_any_library_fits_the_square(count: int, dims: int, *, same: bool) -> None:
    vectors = np.ones((count, dims), np.float32) if same else clusters(count, dims=dims)[0]
    points = project(vectors, cosine=False)
    assert points.shape == (count, 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()
    farthest = np.abs(points).max()
    assert farthest == pytest.approx(0 if same or count == 1 else 1, abs=1e-6)
