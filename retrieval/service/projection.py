"""The map of a library: vectors of one space laid out in the plane, near ones near each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kineme.retrieval.vectors import Vectors, normalised

Points = NDArray[np.float32]
"""Places in the plane, (N, 2) float32, within [-1, 1]."""
EMBEDDED_MOST = 3000
"""Neighbours are embedded for so many clips; beyond, it takes too long, and the plane is of the main components."""
_FEWEST = 12
_COMPONENTS = 50
_STEPS = 500


def project(vectors: Vectors, *, cosine: bool) -> Points:
    """Lay vectors out in the plane: t-SNE from the main components, or these alone where clips are few or very many.

    The same vectors give the same picture: the start is no draw, and components point to where their largest part is
    positive.

    Args:
        vectors: (N, D) float32.
        cosine: they are compared by their direction alone.

    Returns:
        A place for each, the middle at 0 and the farthest at 1 or -1 on one of the axes.
    """
    rows = (normalised(vectors) if cosine else vectors).astype(np.float64)
    components = _main_components(rows, _COMPONENTS)
    plane = components[:, :2]
    if _FEWEST <= len(rows) <= EMBEDDED_MOST and np.ptp(plane) > 0:
        plane = _neighbours(components)
    return _fitted(plane)


def _main_components(rows: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Coordinates along the axes of largest variance, (N, at least 2 and at most ``most``)."""
    centred = rows - rows.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :most]
    # An axis has no direction of its own: without this, which way it points depends on the library's version.
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    found = centred @ axes
    missing = max(0, 2 - found.shape[1])
    return np.pad(found, ((0, 0), (0, missing)))


def _neighbours(components: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    start = components[:, :2] / max(components[:, 0].std(), 1e-12) * 1e-4
    perplexity = min(30.0, (len(components) - 1) / 3)
    embedding = TSNE(init=start, perplexity=perplexity, max_iter=_STEPS, learning_rate="auto", random_state=0)
    placed: NDArray[np.float64] = embedding.fit_transform(components)
    return placed


def _fitted(plane: NDArray[np.float64]) -> Points:
    low, high = plane.min(0), plane.max(0)
    reach = max(float((high - low).max()) / 2, 1e-12)
    fitted: Points = ((plane - (low + high) / 2) / reach).astype(np.float32)
    return fitted
