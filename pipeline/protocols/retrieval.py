"""Precision@10 of the recipe's questions on a split, beside chance and beside raw pixels.

A question is a space, a label that should agree, and a label whose clips are left out: "same motion, someone else".
Raw pixels rank by the cosine of whole clips, every frame at the stored size, which is what a search without any
learning would do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

from kineme.pipeline.encoders import load_encoder
from kineme.pipeline.encoders.sequential_vae import SequentialVAEEncoder
from kineme.pipeline.encoding import encode_shards
from kineme.pipeline.errors import RunError
from kineme.pipeline.labels import label_of
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.chosen_clips import encode_chosen
from kineme.pipeline.recipe import Question, SequentialVAERecipe
from kineme.pipeline.run import Run
from kineme.retrieval.evaluation import Metric, PrecisionAtK, best_mean_precision, precisions_at_k
from kineme.retrieval.evaluation import Question as Labelled
from kineme.retrieval.vectors import SPACES, ClipVectors, Space
from kineme.shards.sample import ClipRecord

K = 10


def measure_retrieval(run: Run, shards: Path, split: str) -> Metrics:
    """Figures named SPACE/LABEL/precision_at_10, .../chance and .../raw_pixels, and ``clips``.

    Where several questions that are no leaks ask the same of a space but for the label, SPACE/precision_at_10 is their
    mean, and SPACE/best_possible the most that it can be: those that share all labels of a query may be fewer than ten.
    Where motions are ranked by draws (``motion_vector: drawn``), .../of_means has what the means of the posterior give.

    Raises:
        RunError: the recipe asks no questions, or about a label that the shards lack.
        DataError: the shards hold no clips of the split.
    """
    questions: list[Question] = getattr(run.recipe, "questions", [])
    if not questions:
        raise RunError(
            f"{run.folder}: its recipe lists no questions: add some to evaluate retrieval by your labels, or choose "
            "--protocol disentanglement or motion-retrieval"
        )
    encoder = load_encoder(run.folder, run.device)
    clips = encode_chosen(encoder, shards, split)
    labelled = {_name(question): _labelled(question, clips.records) for question in questions}
    by_pixels = precisions_at_k(clips.pixels, labelled, k=K)
    metric_of: dict[Space, Metric] = {"motion": encoder.metric, "appearance": "cosine"}
    metrics: Metrics = {"clips": len(clips.records)}

    def ranked(vectors: ClipVectors, space: Space) -> dict[str, PrecisionAtK]:
        asked = {_name(q): labelled[_name(q)] for q in questions if q.by == space}
        return precisions_at_k(vectors.space(space), asked, k=K, metric=metric_of[space]) if asked else {}

    for space in SPACES:
        for name, found in ranked(clips.vectors, space).items():
            metrics |= _figures(name, found, by_pixels[name])
        wanted = [q for q in questions if q.by == space and not q.leak]
        if len(wanted) > 1 and len({q.leave_out for q in wanted}) == 1:
            metrics[f"{space}/precision_at_{K}"] = fmean(metrics[f"{_name(q)}/precision_at_{K}"] for q in wanted)
            metrics[f"{space}/best_possible"] = best_mean_precision({_name(q): labelled[_name(q)] for q in wanted}, k=K)
    if isinstance(run.recipe, SequentialVAERecipe) and run.recipe.motion_vector == "drawn":
        recipe = run.recipe.model_copy(update={"motion_vector": "states"})
        means, _ = encode_shards(SequentialVAEEncoder(replace(run, recipe=recipe)), shards, split=split)
        for name, found in ranked(means, "motion").items():
            metrics[f"{name}/of_means"] = found.value
    return metrics


def _name(question: Question) -> str:
    return f"{question.by}/{question.label}"


def _figures(name: str, found: PrecisionAtK, by_pixels: PrecisionAtK) -> Metrics:
    return {
        f"{name}/precision_at_{K}": found.value,
        f"{name}/chance": found.chance,
        f"{name}/raw_pixels": by_pixels.value,
    }


def _labelled(question: Question, records: list[ClipRecord]) -> Labelled:
    def values(name: str) -> list[str]:
        return [label_of(record, name) for record in records]

    return Labelled(values(question.label), None if question.leave_out is None else values(question.leave_out))
