"""How runs are measured: one file a protocol, each a function from a run, shards and a split to named figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kineme.pipeline.run import Run

Metrics = dict[str, float]
Protocol = Callable[[Run, Path, str], Metrics]
"""Measures a run on a split of a shards folder, or on what a label picks out (``actor=daria``)."""

TEST_SPLIT = "test"


def protocols() -> dict[str, tuple[str, Protocol]]:
    """Every protocol by name, with the kind of run it measures."""
    from kineme.pipeline.protocols.prediction import measure_prediction
    from kineme.pipeline.protocols.retrieval import measure_retrieval

    return {
        "retrieval": ("sequential-vae", measure_retrieval),
        "prediction": ("frame-predictor", measure_prediction),
    }
