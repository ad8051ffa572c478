"""How runs are measured: one file a protocol, each a function from a run, shards and a split to named figures."""

from __future__ import annotations

from collections.abc import Callable

Metrics = dict[str, float]
Protocol = Callable[..., Metrics]
"""Called as ``measure(run, shards, split, **options)``: measures a run on a split of a shards folder, or on what a
label picks out (``actor=daria``). Its keyword-only parameters are what ``kineme evaluate --option NAME=VALUE`` sets."""

TEST_SPLIT = "test"


def protocols() -> dict[str, tuple[tuple[str, ...], Protocol]]:
    """Every protocol by name, with the kinds of runs it measures. The first that fits is a run's own."""
    from kineme.pipeline.encoders import ENCODERS
    from kineme.pipeline.protocols.accuracy import measure_accuracy
    from kineme.pipeline.protocols.attentive_linear import measure_attentive_linear
    from kineme.pipeline.protocols.disagreement import measure_disagreement
    from kineme.pipeline.protocols.disentanglement import measure_disentanglement
    from kineme.pipeline.protocols.elbo import measure_elbo
    from kineme.pipeline.protocols.finetune import measure_finetune
    from kineme.pipeline.protocols.generation import measure_generation
    from kineme.pipeline.protocols.linear_probe import measure_linear_probe
    from kineme.pipeline.protocols.motion_retrieval import measure_motion_retrieval
    from kineme.pipeline.protocols.prediction import measure_prediction
    from kineme.pipeline.protocols.retrieval import measure_retrieval
    from kineme.pipeline.recipe import KINDS

    encoding = tuple(kind for kind in KINDS if kind in ENCODERS)
    asking = tuple(kind for kind in encoding if "questions" in KINDS[kind].model_fields)
    return {
        "retrieval": (asking, measure_retrieval),
        "motion-retrieval": (encoding, measure_motion_retrieval),
        "disentanglement": (encoding, measure_disentanglement),
        "disagreement": (("sequential-vae",), measure_disagreement),
        "generation": (("sequential-vae",), measure_generation),
        "elbo": (("sequential-vae",), measure_elbo),
        "linear-probe": (("statics-dynamics",), measure_linear_probe),
        "attentive-linear": (("statics-dynamics",), measure_attentive_linear),
        "finetune": (("statics-dynamics",), measure_finetune),
        "prediction": (("frame-predictor", "kernel-predictor"), measure_prediction),
        "accuracy": (("judge",), measure_accuracy),
    }
