"""``kineme query``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kineme.pipeline.commands.options import IndexFolder, Where

if TYPE_CHECKING:
    from kineme.retrieval import blending
    from kineme.retrieval.search import Hit
    from kineme.retrieval.spans import Span


class By(StrEnum):
    """The space to search, or both."""

    motion = "motion"
    appearance = "appearance"
    both = "both"


def query(
    index_folder: IndexFolder,
    clips: Annotated[
        list[str],
        typer.Argument(
            metavar="CLIP...",
            help="A video file, or the key of a clip in the index. Several ask together, by the mean of their vectors.",
        ),
    ],
    by: Annotated[By | None, typer.Option(help="How it moves, what it shows, or both; by motion if not given.")] = None,
    weight: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of motion where both are asked for, from 0 to 1; 0.5 if not given."),
    ] = None,
    looks: Annotated[
        str | None, typer.Option(metavar="CLIP", help="Moves like CLIP..., looks like this one: asks by both.")
    ] = None,
    span: Annotated[
        str | None,
        typer.Option(metavar="START:END", help="Ask with all of these seconds of one video; START: goes to its end."),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Say where in which video: hits that touch are one span. --span does it, too."),
    ] = False,
    k: Annotated[int, typer.Option("-k", "--hits", min=1, help="Hits, or spans, wanted.")] = 10,
    where: Where = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of hits for a program to read.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the query and the hits as film strips.")
    ] = None,
) -> None:
    """Find the clips of an index that move, or look, like a clip, or the parts of its videos that do.

    Example: kineme query indexes/sprites my_video.mp4 --by motion -k 5 --where "height >= 64" --sheet hits.png

    This motion, that appearance: kineme query indexes/sprites dance.mp4 --looks robot.mp4 --weight 0.7

    Where else does this happen: kineme query indexes/films a.mp4 --span 12.5:20 --where "source <> 'a.mp4'"
    """
    from kineme.pipeline.pictures import picture_kind, save_picture
    from kineme.pipeline.querying import draw_hits, draw_spans, find_hits, find_spans
    from kineme.pipeline.question import Stretch, read_question
    from kineme.retrieval.index import open_index

    if sheet is not None:
        picture_kind(sheet)
    stretch = None if span is None else Stretch.parse(span)
    opened = open_index(index_folder)
    asked: blending.By | None = None if by is None else by.value
    question = read_question(opened, clips, by=asked, weight=weight, looks=looks, span=stretch)
    there = "are in the index besides the query" if question.keys else "are in the index"
    if where:
        there = "pass the filter"
    found: Sequence[Hit] | Sequence[Span]
    if merge or stretch is not None:
        found = spans = find_spans(opened, question, k=k, where=where)
        cells, draw = _span_cells(spans), partial(draw_spans, spans=spans)
    else:
        found = hits = find_hits(opened, question, k=k, where=where)
        cells, draw = _hit_cells(hits), partial(draw_hits, hits=hits)
        if 0 < len(hits) < k:
            typer.echo(f"-k {k}: only {len(hits)} clips {there}; all of them are shown", err=True)
    if not found:
        typer.echo(f"-k {k}: no clips {there}", err=True)
    if sheet is not None:
        save_picture(draw(opened, question), sheet)
        typer.echo(f"{sheet}: contact sheet written", err=True)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _print_table(*cells)


def _hit_cells(hits: Sequence[Hit]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Names of the columns, and the rows."""
    rows: list[Sequence[str]] = []
    for hit in hits:
        labels = ", ".join(f"{name} {value}" for name, value in hit.labels.items())
        seconds = _seconds(hit.start_s, hit.end_s)
        rows.append((str(hit.rank), f"{hit.score:.4f}", hit.key, hit.source, seconds, labels))
    return ("rank", "score", "key", "source", "seconds", "labels"), rows


def _span_cells(spans: Sequence[Span]) -> tuple[Sequence[str], list[Sequence[str]]]:
    rows: list[Sequence[str]] = []
    for span in spans:
        seconds, asked = _seconds(span.start_s, span.end_s), _seconds(span.query_start_s, span.query_end_s)
        rows.append((str(span.rank), f"{span.score:.4f}", span.source, seconds, asked, str(len(span.keys))))
    return ("rank", "score", "source", "seconds", "of the query", "clips"), rows


def _seconds(start_s: float | None, end_s: float | None) -> str:
    return "" if start_s is None else f"{start_s:.2f} to {end_s:.2f}"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in columns:
        number = name in ("rank", "score", "clips")
        table.add_column(name, justify="right" if number else "left", overflow="ellipsis" if number else "fold")
    for row in rows:
        # Text, so that brackets in a name are not read as markup.
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
