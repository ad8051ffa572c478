"""How runs are measured: one file a protocol, each a function from a run and shards to named figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kineme.pipeline.run import Run

Metrics = dict[str, float]
Protocol = Callable[[Run, Path], Metrics]


def protocols() -> dict[str, tuple[str, Protocol]]:
    """Every protocol by name, with the kind of run it measures."""
    from kineme.pipeline.protocols.prediction import measure_prediction
    from kineme.pipeline.protocols.retrieval import measure_retrieval

    return {
        "retrieval": ("sequential-vae", measure_retrieval),
        "prediction": ("frame-predictor", measure_prediction),
    }
