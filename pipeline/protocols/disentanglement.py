"""What each of the two vectors knows, label by label: precision@10 of every label, with every other one left out.

A row of the matrix is the label that should agree, a column the label whose clips are left out: "same action, another
character". Searching by motion should find the labels of motion, whoever is left out, and those of appearance no more
often than chance; by appearance the reverse. Beside both stand raw pixels (:mod:`~kineme.pipeline.protocols.retrieval`)
and chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from kineme.pipeline.encoders import load_encoder
from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.chosen_clips import encode_chosen
from kineme.pipeline.protocols.retrieval import K
from kineme.pipeline.recipe_sections import Count
from kineme.pipeline.run import Run
from kineme.retrieval.evaluation import Metric, Question, precisions_at_k
from kineme.retrieval.vectors import Vectors
from kineme.shards.sample import ClipRecord, Label

MOST_CLIPS = 3000
MOST_VALUES = 200


def measure_disentanglement(run: Run, shards: Path, split: str, *, most: Count = MOST_CLIPS) -> Metrics:
    """The figures of :func:`precision_matrix` of a split's clips, at most ``most`` of them, and ``clips``.

    Raises:
        RunError: the clips have no labels that could be asked.
        DataError: the shards hold no clips of the split.
    """
    encoder = load_encoder(run.folder, run.device)
    clips = encode_chosen(encoder, shards, split, most)
    spaces: dict[str, tuple[Vectors, Metric]] = {
        "motion": (clips.vectors.motion, encoder.metric),
        "appearance": (clips.vectors.appearance, "cosine"),
        "raw_pixels": (clips.pixels, "cosine"),
    }
    matrix = precision_matrix(spaces, shared_labels(clips.records))
    if not matrix:
        raise RunError(
            f"{shards}: no label of the {len(clips.records)} clips of split {split} can be asked: it needs 2 to "
            f"{MOST_VALUES} values, one of which two clips share, and {K + 1} clips; ingest with labels, or more clips"
        )
    return {"clips": len(clips.records), **matrix}


def shared_labels(records: Sequence[ClipRecord]) -> dict[str, list[Label]]:
    """The labels that every clip has, in the order of their names: one value a clip."""
    names = set.intersection(*(set(record.labels) for record in records))
    return {name: [record.labels[name] for record in records] for name in sorted(names)}


def precision_matrix(spaces: Mapping[str, tuple[Vectors, Metric]], labels: Mapping[str, Sequence[Hashable]]) -> Metrics:
    """Precision@10 of every question that some clip can ask, in every space.

    Rows are the labels with 2 to 200 values; columns are "among_all", and "without_same_OTHER" for every other label
    that more than one clip shares and not all do.

    Args:
        spaces: name -> vectors (N, D) and how they are compared.
        labels: name -> N labels.

    Returns:
        disentanglement/SPACE/LABEL/COLUMN/precision_at_10, and the same with "chance" as SPACE.
    """
    questions = _questions(labels)
    metrics: Metrics = {}
    if not questions:
        return metrics
    for space, (vectors, metric) in spaces.items():
        for name, found in precisions_at_k(vectors, questions, k=K, metric=metric).items():
            metrics[f"disentanglement/{space}/{name}/precision_at_{K}"] = found.value
            metrics[f"disentanglement/chance/{name}/precision_at_{K}"] = found.chance
    return metrics


def _questions(labels: Mapping[str, Sequence[Hashable]]) -> dict[str, Question]:
    questions = {}
    for label, values in labels.items():
        if not 2 <= len(set(values)) <= MOST_VALUES:
            continue
        everyone = range(len(values))
        columns: dict[str, Sequence[Hashable]] = {"among_all": everyone}
        for other, left_out in labels.items():
            if other != label and 1 < len(set(left_out)) < len(left_out):
                columns[f"without_same_{other}"] = left_out
        for column, left_out in columns.items():
            if _can_be_asked(values, left_out):
                questions[f"{label}/{column}"] = Question(values, left_out)
    return questions


def _can_be_asked(values: Sequence[Hashable], left_out: Sequence[Hashable]) -> bool:
    """Whether a clip has K candidates, and one of them with its value, once those that share the other label are gone.

    No clip has where one label decides the other: all clips of a character have its hair.
    """
    same, gone, both = Counter(values), Counter(left_out), Counter(zip(values, left_out, strict=True))
    return any(
        len(values) - gone[other] >= K and same[value] > both[value, other]
        for value, other in zip(values, left_out, strict=True)
    )
