"""From what a user asks with to the clips of an index that are like it, or to parts of its videos; and as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from kineme.pipeline.labels import label_line
from kineme.pipeline.pictures import contact_sheet
from kineme.pipeline.question import Question
from kineme.retrieval.blending import search_by
from kineme.retrieval.index import Index
from kineme.retrieval.search import Hit
from kineme.retrieval.spans import Span, search_windows
from kineme.shards.sample import Frames


def find_hits(index: Index, question: Question, *, k: int, where: str | None = None) -> list[Hit]:
    """The k clips of the index that are most like what one clip, or several together, ask with.

    Args:
        index: an open index.
        question: of one window.
        k: hits wanted.
        where: boolean SQL expression over the metadata.

    Raises:
        RetrievalError: k < 1, a weight out of its range, or a bad filter.
    """
    vectors = {space: rows[0] for space, rows in question.vectors(index).items()}
    return search_by(index, vectors, by=question.by, weight=question.weight, k=k, where=where, exclude=question.keys)


def find_spans(index: Index, question: Question, *, k: int, where: str | None = None) -> list[Span]:
    """The k parts of the index's videos that are most like what was asked with; see `search_windows`.

    Args:
        index, question, k, where: as of `find_hits`; the question may have many windows.

    Raises:
        RetrievalError: as of `find_hits`.
    """
    return search_windows(
        index,
        question.vectors(index),
        question.parts,
        by=question.by,
        weight=question.weight,
        k=k,
        where=where,
        exclude=question.keys,
    ).spans


def draw_hits(index: Index, question: Question, hits: Sequence[Hit]) -> Image.Image:
    """The contact sheet of an answer: film strips of what asks, then those of the hits with rank, score and labels."""
    strips = index.previews([hit.key for hit in hits])
    rows = [(strips[hit.key], f"{hit.rank}    {hit.score:.3f}\n{label_line(hit.labels)}\n{hit.source}") for hit in hits]
    return contact_sheet(_asking_rows(index, question), rows)


def draw_spans(index: Index, question: Question, spans: Sequence[Span]) -> Image.Image:
    """The same of spans: a strip goes over all hits of a span."""
    rows = []
    for span in spans:
        strips = index.previews(span.keys)
        seconds = f"{span.start_s:.2f} to {span.end_s:.2f} s"
        film = np.concatenate([strips[key] for key in span.keys])
        rows.append((film, f"{span.rank}    {span.score:.3f}\n{seconds}\n{span.source}"))
    return contact_sheet(_asking_rows(index, question), rows)


def _asking_rows(index: Index, question: Question) -> list[tuple[Frames, str]]:
    strips = index.previews(question.keys)
    rows = []
    for clip in question.asking:
        what = question.by
        if question.looks is not None:
            what = "appearance" if clip is question.looks else "motion"
        frames = strips[str(clip.key)] if clip.frames is None else clip.frames
        rows.append((frames, f"query by {what}\n{clip.name}\n{label_line(clip.labels or {})}"))
    return rows
