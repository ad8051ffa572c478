"""Do the nearest clips move alike? Table 7.1 of the thesis (7.5.2), by the true places of keypoints.

Every query's nearest clip of the database is looked up, by each of several vectors, and the two clips' keypoint
displacement distance (:mod:`kineme.retrieval.displacement`) is averaged over the queries. Beside the encoder's own
vectors stand those that need no learning: raw pixels (the cosine of whole clips at the stored size) and histograms of
optical flow. The scale runs from a random neighbour, in expectation, to the oracle, the clip that moves most alike of
all; "trajectory" is the neighbour by the keypoints' true places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kineme.pipeline.encoders import RunEncoder, load_encoder
from kineme.pipeline.encoders.motion_histogram import MotionHistogramRecipe, motion_histograms
from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.chosen_clips import chosen_batches, database_split
from kineme.pipeline.recipe_sections import Count, Seed
from kineme.pipeline.run import Run
from kineme.retrieval.displacement import (
    NearestRow,
    bootstrap_interval,
    displacement_distances,
    linear_r2,
    nearest,
    regression_targets,
    trajectory_distances,
    way_to_oracle,
)
from kineme.retrieval.vectors import Vectors
from kineme.shards.manifest import Manifest

MOST_QUERIES = 1000
MOST_DATABASE = 10_000
INTERCHANGEABLE = frozenset({"moving-digits", "moving-mnist", "pushing"})
"""Data sets whose keypoints are the centres of things drawn in any order; elsewhere each keypoint has its own name."""
WITH_KEYPOINTS = (
    "moving-digits, moving-mnist, pushing, ravdess with --option keypoints=true, or a folder with "
    "VIDEO.keypoints.npy beside its videos"
)

FLOW = MotionHistogramRecipe()
"""How flow is binned; clips are taken as long and as large as the encoder under test and the shards have them."""


@runtime_checkable
class KnowsFrameDynamics(Protocol):
    """An encoder that can tell how every single frame differs from what the clip has in common (thesis 7.3)."""

    def frame_dynamics(self, frames: Tensor) -> Vectors:
        """uint8 frames (B, T, C, H, W) -> (B, T * d) float32, p_1 ... p_T side by side."""


@dataclass(frozen=True)
class Described:
    """N clips: keypoints (N, T, K, 2) in pixels, and by name the (N, D) vectors that are searched."""

    keypoints: NDArray[np.float32]
    vectors: dict[str, Vectors]


def measure_motion_retrieval(
    run: Run,
    shards: Path,
    split: str,
    *,
    most_queries: Count = MOST_QUERIES,
    most_database: Count = MOST_DATABASE,
    baselines: bool = True,
    seed: Seed = 0,
) -> Metrics:
    """:func:`motion_retrieval` by the encoder of a run."""
    encoder = load_encoder(run.folder, run.device)
    return motion_retrieval(
        encoder,
        shards,
        split,
        most_queries=most_queries,
        most_database=most_database,
        baselines=baselines,
        seed=seed,
    )


def motion_retrieval(
    encoder: RunEncoder,
    shards: Path,
    split: str,
    *,
    most_queries: int = MOST_QUERIES,
    most_database: int = MOST_DATABASE,
    baselines: bool = True,
    seed: int = 0,
) -> Metrics:
    """The figures of :func:`neighbour_figures`, and how much of place and motion can be read from a motion vector.

    Queries are clips of ``split``, the database is the training split, or for ``LABEL=VALUE`` all other values. Of
    longer stored clips the first frames are taken.

    ``motion_retrieval/r2_position`` and ``.../r2_displacement`` are the R2 on the queries of ridge regression from
    motion vectors to the keypoints' places and displacements, fitted on the database
    (:func:`~kineme.retrieval.displacement.regression_targets` says to what where they are interchangeable). How
    something moves tells where it is, where there are walls to bounce off; ``.../r2_position_from_displacement`` is how
    much, read from the true displacements: what a vector that knows no place may reach.

    Args:
        encoder: neighbours by "frames" are measured where it knows frame dynamics.
        shards: ingested data with keypoints.
        split: of the queries.
        most_queries: clips of ``split`` taken at most.
        most_database: clips of the rest taken at most.
        baselines: also find neighbours by pixels and by flow, whatever the encoder.
        seed: chooses clips.

    The thesis holds queries out of the encoder's training too: that is the run's ``data.split`` to say.

    Raises:
        RunError: the shards have no keypoints, or ``split`` is the database itself.
        DataError: no clips of either split.
    """
    rest = database_split(split)
    seen: list[NDArray[np.uint8]] = []
    queries = _describe(encoder, shards, split, most_queries, seed, seen.append if baselines else None)
    by_pixels = NearestRow(np.concatenate(seen)) if baselines else None
    database = _describe(encoder, shards, rest, most_database, seed, by_pixels.add if by_pixels else None)
    neighbours = {
        name: nearest(vectors, database.vectors[name], encoder.metric if name in ("motion", "frames") else "cosine")
        for name, vectors in queries.vectors.items()
    }
    if by_pixels:
        neighbours["pixels"] = by_pixels.rows
    interchangeable = Manifest.load(shards).dataset in INTERCHANGEABLE
    count, searched = len(queries.keypoints), len(database.keypoints)
    return {
        "clips": count + searched,
        "queries": count,
        "database": searched,
        **neighbour_figures(neighbours, queries.keypoints, database.keypoints, interchangeable=interchangeable),
        **_readable(queries, database, interchangeable),
    }


def neighbour_figures(
    neighbours: Mapping[str, NDArray[np.int64]],
    queries: NDArray[np.floating],
    database: NDArray[np.floating],
    *,
    interchangeable: bool,
) -> Metrics:
    """How alike queries and their neighbours move.

    Args:
        neighbours: name -> (Q,) numbers of the clips of the database that were found.
        queries: their keypoints, (Q, T, K, 2) pixels.
        database: keypoints (N, T, K, 2).
        interchangeable: whether keypoints may be assigned to one another at will.

    Returns:
        motion_retrieval/displacement_NAME, in pixels a keypoint, for every name and for "random", "oracle" and
        "trajectory"; motion_retrieval/way_to_oracle_NAME, where a random neighbour is 0 and the oracle is 1, for all
        but these two. Each with the ends of its 95% interval, ..._low and ..._high, queries drawn with all they found.
    """
    distances = displacement_distances(queries, database, interchangeable=interchangeable)
    by_place = trajectory_distances(queries, database, interchangeable=interchangeable).argmin(axis=1)
    random, oracle = distances.mean(axis=1, dtype=np.float64), distances.min(axis=1)
    figures = {**_figure("displacement_random", random), **_figure("displacement_oracle", oracle)}
    for name, rows in {**neighbours, "trajectory": by_place}.items():
        found = distances[np.arange(len(rows)), rows]
        figures |= _figure(f"displacement_{name}", found)
        figures |= _figure(f"way_to_oracle_{name}", found, random, oracle, statistic=way_to_oracle)
    return figures


def _figure(
    name: str, *values: NDArray[np.floating], statistic: Callable[..., NDArray[np.float64]] | None = None
) -> Metrics:
    means = [value.mean(dtype=np.float64) for value in values]
    low, high = bootstrap_interval(*values, statistic=statistic)
    figure = means[0] if statistic is None else statistic(*means)
    named = f"motion_retrieval/{name}"
    return {named: float(figure), f"{named}_low": low, f"{named}_high": high}


def _readable(queries: Described, database: Described, interchangeable: bool) -> Metrics:
    def targets(clips: Described, order: int) -> NDArray[np.float64]:
        return regression_targets(np.diff(clips.keypoints, n=order, axis=1), interchangeable=interchangeable)

    places, moves = ((targets(database, order), targets(queries, order)) for order in (0, 1))
    motion = database.vectors["motion"], queries.vectors["motion"]
    return {
        "motion_retrieval/r2_position": linear_r2(motion[0], places[0], motion[1], places[1]),
        "motion_retrieval/r2_displacement": linear_r2(motion[0], moves[0], motion[1], moves[1]),
        "motion_retrieval/r2_position_from_displacement": linear_r2(moves[0], places[0], moves[1], places[1]),
    }


def _describe(
    encoder: RunEncoder, shards: Path, split: str, most: int, seed: int, see: Callable[[NDArray[np.uint8]], None] | None
) -> Described:
    """Encode clips of a split; ``see`` is given the pixels of each batch, (B, D), which are too many to keep.

    Without it there is no flow, either.
    """
    keypoints: list[NDArray[np.float32]] = []
    vectors: dict[str, list[Vectors]] = {"motion": [], "appearance": []}
    if see:
        vectors["flow"] = []
    if isinstance(encoder, KnowsFrameDynamics):
        vectors["frames"] = []
    for batch in chosen_batches(shards, encoder, split, most, seed):
        if batch.keypoints is None:
            raise RunError(
                f"{shards}: clips of split {split} have no keypoints, by which motion-retrieval measures; ingest data "
                f"that has them: {WITH_KEYPOINTS}"
            )
        keypoints.append(batch.keypoints.numpy())
        motion, appearance = encoder.encode_batch(batch.frames)
        vectors["motion"].append(motion)
        vectors["appearance"].append(appearance)
        if see:
            vectors["flow"].append(motion_histograms(batch.frames.movedim(2, -1).numpy(), FLOW))
            see(batch.frames.flatten(1).numpy())
        if isinstance(encoder, KnowsFrameDynamics):
            vectors["frames"].append(encoder.frame_dynamics(batch.frames))
    return Described(np.concatenate(keypoints), {name: np.concatenate(parts) for name, parts in vectors.items()})
