"""Indexes of clustered vectors, large enough for structures, and brute force beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_up_clips import make_records

from kineme.retrieval.evaluation import Metric
from kineme.retrieval.growing import build_index
from kineme.retrieval.index import Index
from kineme.retrieval.vectors import ClipVectors, Vectors, normalised

METRICS: tuple[Metric, ...] = ("cosine", "l2")
DIMS = {"motion": 16, "appearance": 8}


def clustered(count: int, dim: int, seed: int) -> Vectors:
    """(count, dim): 40 clusters, the same for every seed; some rows come twice."""
    centres = np.random.default_rng(0).standard_normal((40, dim)) * 2
    draw = np.random.default_rng((1, seed))
    vectors = centres[draw.integers(0, 40, count)] + 0.5 * draw.standard_normal((count, dim))
    vectors[count - count // 50 :] = vectors[: count // 50]
    return vectors.astype(np.float32)


def clustered_parts(count: int, seed: int, first: int = 0) -> tuple[ClipVectors, list]:
    """Vectors and metadata of clips from number ``first`` on; label ``number`` counts from there."""
    records = make_records([{"number": number} for number in range(first + count)])[first:]
    motion, appearance = (clustered(count, dim, seed) for dim in DIMS.values())
    return ClipVectors([record.key for record in records], motion, appearance), records


def clustered_index(folder: Path, count: int, metric: Metric) -> Index:
    """Of ``count`` clips, both spaces by ``metric``, searched exactly."""
    vectors, records = clustered_parts(count, seed=0)
    return build_index(
        folder,
        vectors,
        records,
        encoder="made-up",
        encoder_files={},
        data="made-up",
        pictures=[],
        metrics={"motion": metric, "appearance": metric},
    )


def brute_force(vectors: Vectors, query: Vectors, metric: Metric) -> np.ndarray:
    """(N, D), (D,) -> (N,) float64: the score of each row."""
    if metric == "cosine":
        return np.asarray(normalised(vectors).astype(np.float64) @ normalised(query[None])[0])
    return np.asarray(-np.linalg.norm(vectors.astype(np.float64) - query, axis=1))
