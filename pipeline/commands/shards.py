"""``kineme inspect`` of shards or of a run, and ``verify``."""

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
    folder: Annotated[Path, typer.Argument(metavar="SHARDS|RUN", help="Folder made by kineme ingest, or by train.")],
    clip: Annotated[
        Path | None, typer.Argument(metavar="[CLIP]", help="With a statics-dynamics RUN: the video to look into.")
    ] = None,
    as_json: Json = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw some clips, or what the run makes of CLIP, as film strips.")
    ] = None,
) -> None:
    """Say what a shards folder holds: counts, durations, labels, rejects. Or draw what a run makes of a clip.

    With a run and a clip, --sheet shows the clip, its statics S, S warped to each frame, and the reconstructions.

    Example: kineme inspect data/mine --sheet clips.png

    Example: kineme inspect runs/digits some_clip.mp4 --sheet inside.png
    """
    if clip is not None:
        _look_inside(folder, clip, sheet, as_json)
        return
    if (folder / "recipe.yaml").is_file():
        from kineme.pipeline.errors import RunError

        raise RunError(f"{folder}: is a run; give a CLIP, too, and --sheet PNG for what the run makes of it")
    from kineme.shards.summary import summarise

    summary = summarise(folder)
    if sheet is not None:
        _draw(folder, sheet)
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=1, ensure_ascii=False))
        return
    _say_summary(summary)


def _look_inside(run: Path, clip: Path, sheet: Path | None, as_json: bool) -> None:
    from kineme.pipeline.errors import RunError
    from kineme.pipeline.generation import look_inside
    from kineme.pipeline.pictures import film_strips, save_picture
    from kineme.pipeline.run import load_run

    if sheet is None or as_json:
        raise RunError("what a run makes of a clip is a picture: give --sheet PNG, and no --json")
    strips = look_inside(load_run(run), clip)
    save_picture(film_strips(list(strips.values()), list(strips)), sheet)
    typer.echo(f"{sheet}: {', '.join(strips)} of {clip}")


def verify(shards: Shards, as_json: Json = False) -> None:
    """Compare every checksum and decode every clip; exit code 2 if anything is not as it was written.

    Example: kineme verify data/mine
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
