"""``kineme inspect`` and ``verify``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kineme.pipeline.commands.options import Json

if TYPE_CHECKING:
    from kineme.shards.summary import Summary

_SHEET_CLIPS = 12
_TOP = 6

Shards = Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder made by kineme ingest.")]


def inspect(
    shards: Shards,
    as_json: Json = False,
    sheet: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw some clips as film strips.")] = None,
) -> None:
    """Say what a shards folder holds: counts, durations, labels, rejects.

    Example: kineme inspect shards/mine --sheet clips.png
    """
    from kineme.shards.summary import summarise

    summary = summarise(shards)
    if sheet is not None:
        _draw(shards, sheet)
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=1, ensure_ascii=False))
        return
    _say_summary(summary)


def verify(shards: Shards, as_json: Json = False) -> None:
    """Compare every checksum and decode every clip; exit code 2 if anything is not as it was written.

    Example: kineme verify shards/mine
    """
    from kineme.shards.manifest import Manifest
    from kineme.shards.verify import verify as find_problems

    problems = find_problems(shards)
    if as_json:
        typer.echo(json.dumps({"problems": problems}, ensure_ascii=False))
    for problem in problems if not as_json else []:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(2)
    if not as_json:
        manifest = Manifest.load(shards)
        typer.echo(f"{shards}: {manifest.clips} clips in {len(manifest.shards)} shards, all as they were written")


def _say_summary(summary: Summary) -> None:
    typer.echo(
        f"{summary.dataset}: {summary.clips} clips of {summary.videos} videos in {summary.shards} shards, "
        f"{summary.frames} frames, {summary.seconds:g} s"
    )
    for name, counts in (
        ("split", summary.splits),
        ("size", summary.sizes),
        ("frames a clip", summary.clip_frames),
        ("frames a second", summary.fps),
        ("codec", summary.codecs),
    ):
        typer.echo(f"{name}: {_top(counts)}")
    for label, values in summary.labels.items():
        typer.echo(f"label {label}: {_top(values)}")
    if summary.rejects:
        typer.echo(f"{sum(summary.rejects.values())} rejects:")
    for reason, count in summary.rejects.items():
        typer.echo(f"    {count} x {reason}")


def _top(counts: Mapping[Any, int]) -> str:
    """The most frequent values with their counts, and how many values more there are."""
    shown = ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:_TOP])
    return shown + (f", and {len(counts) - _TOP} more" if len(counts) > _TOP else "")


def _draw(shards: Path, sheet: Path) -> None:
    from kineme.pipeline.pictures import film_strips, save_picture
    from kineme.shards.reader import load_clip_frames
    from kineme.shards.records import read_records
    from kineme.shards.summary import spread

    chosen = spread(read_records(shards), _SHEET_CLIPS)
    captions = [
        "\n".join([record.source, *(f"{name}: {value}" for name, value in sorted(record.labels.items()))])
        for record in chosen
    ]
    save_picture(film_strips([load_clip_frames(shards, record.key) for record in chosen], captions), sheet)
    typer.echo(f"{sheet}: {len(chosen)} clips drawn", err=True)
