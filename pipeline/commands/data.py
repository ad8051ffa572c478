"""``kineme datasets``, ``fetch``, ``ingest``, ``inspect`` and ``verify``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kineme.shards.ingest import IngestReport, Progress
    from kineme.shards.summary import Summary

_PLAIN_STEPS = 20  # lines of progress where there is no terminal
_SHEET_CLIPS = 12
_TOP = 6

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Shards = Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder made by kineme ingest.")]


def datasets(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Say which of them this folder holds.")] = None,
    as_json: Json = False,
) -> None:
    """List what can be ingested, where it comes from, and its licence.

    Example: kineme datasets ~/videos
    """
    from kineme.shards.sources.registry import SOURCES

    rows = [
        {
            "name": source.name,
            "description": source.description,
            "licence": source.licence,
            "origin": source.origin,
            "clip_frames": source.clip_frames,
            "present": None if folder is None else source.present(folder),
        }
        for source in SOURCES.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['name']}: {row['description']}")
        for name in ("licence", "origin"):
            typer.echo(f"    {name}: {row[name]}")
        if folder is not None:
            typer.echo(f"    in {folder}: {'yes' if row['present'] else 'no'}")


def fetch(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A name that kineme datasets lists.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for its files.")],
    clips: Annotated[int, typer.Option(help="moving-digits: clips to draw, train and test together.")] = 2500,
    seed: Annotated[int, typer.Option(help="moving-digits: the same seed draws the same clips.")] = 0,
    frames: Annotated[int, typer.Option(help="moving-digits: frames of a clip.")] = 16,
    train_fraction: Annotated[float, typer.Option(help="moving-digits: share of clips for training.")] = 0.8,
    mnist: Annotated[
        Path | None, typer.Option(metavar="DIR", help="moving-digits: draw MNIST digits, from its idx files in DIR.")
    ] = None,
) -> None:
    """Put a data set's original files into a folder.

    Example: kineme fetch moving-digits --to digits --clips 2500 --seed 0
    """
    from kineme.shards.sources.base import FetchOptions
    from kineme.shards.sources.registry import find_source

    options = FetchOptions(clips=clips, seed=seed, frames=frames, train_fraction=train_fraction, mnist=mnist)
    typer.echo(find_source(dataset).fetch(to, options))


def ingest(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder tree of videos, or of a data set's files.")],
    out: Annotated[Path, typer.Option("--out", metavar="SHARDS", help="Folder for the shards.")],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="A name that kineme datasets lists.")] = "folder",
    size: Annotated[int, typer.Option(metavar="PX", help="Side of the stored square frames.")] = 64,
    clip_frames: Annotated[
        int | None, typer.Option(metavar="T", help="Frames of a clip; 16 unless the data set says otherwise.")
    ] = None,
    frame_step: Annotated[int, typer.Option(metavar="N", help="Take every N-th frame.")] = 1,
    fps: Annotated[
        float | None, typer.Option(help="Resample every video to this rate instead, by the nearest frame.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Decoder processes; one a processor if not given.")] = None,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="Give a video up when no frame was decoded for so long.")
    ] = 120.0,
    shard_clips: Annotated[int, typer.Option(help="Clips of a shard, about: it is closed between two videos.")] = 1000,
    as_json: Json = False,
) -> None:
    """Turn a folder of videos into shards of clips; run again, it goes on where it was stopped.

    Example: kineme ingest ~/videos --out shards/mine --size 64 --clip-frames 16 --fps 12.5
    """
    from kineme.shards.decode_pool import default_workers
    from kineme.shards.ingest import IngestSettings
    from kineme.shards.ingest import ingest as run_ingest
    from kineme.shards.sampling import Sampling
    from kineme.shards.sources.registry import find_source

    chosen = find_source(dataset)
    sampling = Sampling(chosen.clip_frames if clip_frames is None else clip_frames, frame_step, fps)
    settings = IngestSettings(size=size, sampling=sampling, shard_clips=shard_clips)
    with _progress(quiet=as_json) as progress:
        report = run_ingest(
            chosen,
            source,
            out,
            settings,
            workers=default_workers() if workers is None else workers,
            silence_s=deadline,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(_report(report), ensure_ascii=False))
        return
    _say_report(report, out, resampled=fps is not None)


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


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line now and then elsewhere; on stderr, so that stdout stays for results."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bars(*columns, console=Console(stderr=True)) as bars:
            bar = bars.add_task("videos", total=None)
            yield lambda progress: bars.update(bar, completed=progress.done, total=progress.total)
    else:
        yield _plain_line


def _plain_line(progress: Progress) -> None:
    every = max(1, progress.total // _PLAIN_STEPS)
    if progress.done % every == 0 or progress.done == progress.total:
        typer.echo(
            f"{progress.done} of {progress.total} videos, {progress.clips} clips, {progress.rejects} rejected", err=True
        )


def _report(report: IngestReport) -> dict[str, object]:
    manifest = report.manifest
    return {
        "videos": manifest.videos,
        "clips": manifest.clips,
        "shards": len(manifest.shards),
        "rejects": [reject._asdict() for reject in report.rejects],
        "rates": {f"{rate:g}": count for rate, count in sorted(report.rates.items())},
        "unchanged": report.unchanged,
    }


def _say_report(report: IngestReport, out: Path, resampled: bool) -> None:
    manifest = report.manifest
    already = " already, nothing to do" if report.unchanged else ""
    typer.echo(f"{out}: {manifest.clips} clips of {manifest.videos} videos in {len(manifest.shards)} shards{already}")
    if report.rejects:
        first = report.rejects[0]
        seen = f"see {out / 'rejects.parquet'}; the first: {first.path}: {first.reason}"
        typer.echo(f"{len(report.rejects)} could not be used, {seen}")
    if len(report.rates) > 1 and not resampled:
        rates = ", ".join(f"{rate:g} ({count})" for rate, count in sorted(report.rates.items()))
        typer.echo(f"several frame rates: {rates}; the same motion then differs in frames, --fps R makes them one")


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
