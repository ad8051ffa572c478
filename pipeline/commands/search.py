"""``kineme index`` and ``kineme query``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kineme.retrieval.search import Hit


class By(StrEnum):
    """The space to search."""

    motion = "motion"
    appearance = "appearance"


class Untrained(StrEnum):
    """The encoders that need no run."""

    motion_histogram = "motion-histogram"


def index(
    data: Annotated[Path, typer.Option("--data", metavar="SHARDS", help="Folder of shards to index.")],
    out: Annotated[Path, typer.Option("--out", metavar="INDEX", help="Index folder to make.")],
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Folder of a training run, unless --encoder is given.")
    ] = None,
    encoder: Annotated[
        Untrained | None, typer.Option(help="Instead of RUN: histograms of optical flow, without any training.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of --encoder, such as clip_frames=8."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only the clips of this split, such as test.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips encoded at once.")] = 64,
    force: Annotated[bool, typer.Option("--force", help="Replace an index that is there already.")] = False,
) -> None:
    """Encode every clip and build an index folder that holds all a query needs.

    Example: kineme index runs/sprites --data data/sprites --out indexes/sprites --split test

    Without a run: kineme index --encoder motion-histogram --data data/mine --out indexes/mine --set frame_size=96

    Settings of motion-histogram: clip_frames, frame_step, frame_size (pixels), directions, cells (in each row and
    column of the frame; 1 does not ask where), still_below (pixels a frame), window (of the flow, pixels).
    """
    from kineme.pipeline.errors import RunError
    from kineme.pipeline.searching import index_by_flow, index_run

    if (run is None) == (encoder is None):
        given = "neither RUN nor --encoder" if run is None else f"both {run} and --encoder {encoder}"
        raise RunError(f"{given} given: name the run that encodes the clips, or --encoder motion-histogram")
    if run is None:
        built = index_by_flow(settings or [], data, out, split=split, batch_size=batch_size, overwrite=force)
    elif settings:
        raise RunError(f"--set {settings[0]}: only --encoder has settings; a run keeps those it was trained with")
    else:
        built = index_run(run, data, out, split=split, batch_size=batch_size, overwrite=force)
    sizes = ", ".join(f"{space} {size}" for space, size in built.info.dims.items())
    typer.echo(f"{out}: {built.count} clips indexed ({sizes} dimensions)")


def query(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder made by kineme index.")],
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="A video file, or the key of a clip in the index.")],
    by: Annotated[By, typer.Option(help="How it moves, or what it shows.")] = By.motion,
    k: Annotated[int, typer.Option("-k", "--hits", min=1, help="Hits wanted.")] = 10,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only clips for which this is true, such as \"action = 'walk'\".")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of hits for a program to read.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the query and the hits as film strips.")
    ] = None,
) -> None:
    """Find the clips of an index that move, or look, like a clip.

    Example: kineme query indexes/sprites my_video.mp4 --by motion -k 5 --where "height >= 64" --sheet hits.png
    """
    from kineme.pipeline.pictures import save_picture
    from kineme.pipeline.searching import answer_query, draw_answer
    from kineme.retrieval.index import open_index

    opened = open_index(index_folder)
    answer = answer_query(opened, clip, by=by.value, k=k, where=where)
    if len(answer.hits) < k:
        why = (
            "pass the filter"
            if where
            else "are in the index besides the query"
            if answer.labels
            else "are in the index"
        )
        shown = f"only {len(answer.hits)} clips {why}; all of them are shown" if answer.hits else f"no clips {why}"
        typer.echo(f"-k {k}: {shown}", err=True)
    if sheet is not None:
        save_picture(draw_answer(opened, answer), sheet)
        typer.echo(f"{sheet}: contact sheet written", err=True)
    if as_json:
        typer.echo(json.dumps([asdict(hit) for hit in answer.hits], indent=2, ensure_ascii=False))
    else:
        _print_table(answer.hits)


def _print_table(hits: list[Hit]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    for name in ("key", "source", "seconds", "labels"):
        table.add_column(name, overflow="fold")
    for hit in hits:
        labels = ", ".join(f"{name} {value}" for name, value in hit.labels.items())
        span = f"{hit.start_s:.2f} to {hit.end_s:.2f}"
        # Text, so that brackets in a name are not read as markup.
        table.add_row(*(Text(cell) for cell in (str(hit.rank), f"{hit.score:.4f}", hit.key, hit.source, span, labels)))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
