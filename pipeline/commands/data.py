"""``kineme datasets``, ``fetch``, ``ingest``, ``inspect`` and ``verify``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from kineme.shards.decode_pool import Limits
    from kineme.shards.ingest import IngestReport, Progress
    from kineme.shards.shard_work import Engine
    from kineme.shards.summary import Summary

_PLAIN_STEPS = 20  # lines of progress where there is no terminal
_PLAIN_BYTES = 10 << 20
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
            **asdict(source.defaults),
            "options": dict(source.options),
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
        for name, text in SOURCES[str(row["name"])].options.items():
            typer.echo(f"    --option {name}=: {text}")
        if folder is not None:
            typer.echo(f"    in {folder}: {'yes' if row['present'] else 'no'}")


def fetch(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A name that kineme datasets lists.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for its files.")],
    clips: Annotated[int, typer.Option(help="moving-digits, pushing: clips to draw, train and test together.")] = 2500,
    seed: Annotated[int, typer.Option(help="moving-digits, pushing: the same seed draws the same clips.")] = 0,
    frames: Annotated[
        int | None, typer.Option(help="moving-digits, pushing: frames of a clip; 16 and 30 if not given.")
    ] = None,
    train_fraction: Annotated[float, typer.Option(help="moving-digits, pushing: share of clips for training.")] = 0.8,
    mnist: Annotated[
        Path | None, typer.Option(metavar="DIR", help="moving-digits: draw MNIST digits, from its idx files in DIR.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the data set; kineme datasets lists them. Repeatable."),
    ] = None,
) -> None:
    """Put a data set's original files into a folder: drawn here, or downloaded; run again, it goes on.

    Downloads show the data set's licence first, and are compared with the published checksums.

    Example: kineme fetch moving-digits --to digits --clips 2500 --seed 0
    """
    from kineme.shards.sources.base import FetchOptions
    from kineme.shards.sources.registry import find_source

    options = FetchOptions(clips=clips, seed=seed, frames=frames, train_fraction=train_fraction, mnist=mnist)
    source = find_source(dataset, _options(option or []))
    with _watched_fetch():
        done = source.fetch(to, options)
    typer.echo(done)


@contextmanager
def _watched_fetch() -> Iterator[None]:
    """The licence and how the downloads go, on stderr: bars on a terminal, a line now and then elsewhere."""
    from kineme.shards.sources.fetching import Watcher, watched_by

    def say(text: str) -> None:
        typer.echo(text, err=True)

    if not sys.stderr.isatty():
        with watched_by(Watcher(say, _PlainBytes())):
            yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        with watched_by(Watcher(lambda text: bars.console.print(text, markup=False, highlight=False), show)):
            yield


class _PlainBytes:
    """A line for every tenth of a large file, and one for a small file."""

    def __init__(self) -> None:
        self._said = ("", 0)

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Say how much of a file is here, if that is news."""
        step = max(_PLAIN_BYTES, (total or 0) // 10)
        tenth = (name, -1 if done == total else done // step)
        if tenth != self._said and tenth[1] != 0:
            self._said = tenth
            typer.echo(f"{name}: {done / 1e6:.1f} of {'?' if total is None else f'{total / 1e6:.1f}'} MB", err=True)


def ingest(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder tree of videos, or of a data set's files.")],
    out: Annotated[Path, typer.Option("--out", metavar="SHARDS", help="Folder for the shards.")],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="A name that kineme datasets lists.")] = "folder",
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of the stored square frames; 64, or what the data set says.")
    ] = None,
    clip_frames: Annotated[
        int | None, typer.Option(metavar="T", help="Frames of a clip; 16, or what the data set says.")
    ] = None,
    frame_step: Annotated[
        int | None, typer.Option(metavar="N", help="Take every N-th frame; 1, or what the data set says.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Resample every video to this rate instead, by the nearest frame.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Decoder processes; one a processor if not given.")] = None,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="Give a video up when no frame was decoded for so long.")
    ] = 120.0,
    memory_gb: Annotated[
        float, typer.Option(metavar="GB", help="Give a video up when its decoder needs more memory than this.")
    ] = 4.0,
    shard_videos: Annotated[
        int, typer.Option(help="Videos of a shard at most; it is also closed at 256 MiB of sources.")
    ] = 1000,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Where to decode: this machine, or a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="ray: the cluster; without it one is started here.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the data set; kineme datasets lists them. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a folder of videos into shards of clips; run again, it goes on where it was stopped.

    Example: kineme ingest ~/videos --out shards/mine --size 64 --clip-frames 16 --fps 12.5
    """
    from kineme.shards.decode_pool import Limits
    from kineme.shards.ingest import IngestSettings
    from kineme.shards.ingest import ingest as run_ingest
    from kineme.shards.sampling import Sampling
    from kineme.shards.sources.registry import find_source

    chosen = find_source(dataset, _options(option or []))
    defaults = chosen.defaults
    if frame_step is None:
        frame_step = 1 if fps is not None else defaults.frame_step
    sampling = Sampling(defaults.clip_frames if clip_frames is None else clip_frames, frame_step, fps)
    settings = IngestSettings(
        size=defaults.size if size is None else size, sampling=sampling, shard_videos=shard_videos
    )
    limits = Limits(deadline, int(memory_gb * (1 << 30)))
    with _progress(quiet=as_json) as progress:
        report = run_ingest(
            chosen,
            source,
            out,
            settings,
            _engine(engine, address, workers, limits),
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(_report(report), ensure_ascii=False))
        return
    _say_report(report, out, resampled=fps is not None)


def _engine(name: str, address: str | None, workers: int | None, limits: Limits) -> Engine:
    from kineme.shards.decode_pool import default_workers
    from kineme.shards.engine_local import LocalEngine
    from kineme.shards.engine_ray import RayEngine
    from kineme.shards.errors import DataError

    count = default_workers() if workers is None else workers
    if name == "ray":
        return RayEngine(address, limits, count)
    if address is not None:
        raise DataError(f"--address {address}: only --engine ray has an address; add it, or leave the address out")
    return LocalEngine(count, limits)


def _options(given: list[str]) -> dict[str, str]:
    from kineme.shards.errors import DataError

    pairs = [text.partition("=") for text in given]
    for text, (name, equals, _) in zip(given, pairs, strict=True):
        if not (name and equals):
            raise DataError(f"--option {text}: NAME=VALUE is needed, such as landmarks=framing")
    return {name: value for name, _, value in pairs}


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
            yield lambda progress: bars.update(
                bar, completed=progress.done, total=progress.total, description=progress.stage
            )
    else:
        yield _plain_line


def _plain_line(progress: Progress) -> None:
    every = max(1, progress.total // _PLAIN_STEPS)
    if progress.done % every == 0 or progress.done == progress.total:
        typer.echo(
            f"{progress.stage}: {progress.done} of {progress.total} videos, {progress.clips} clips, "
            f"{progress.rejects} rejected",
            err=True,
        )


def _report(report: IngestReport) -> dict[str, object]:
    manifest = report.manifest
    return {
        "videos": manifest.videos,
        "clips": manifest.clips,
        "shards": len(manifest.shards),
        "rejects": [reject._asdict() for reject in report.rejects],
        "rates": {f"{rate:g}": count for rate, count in sorted(report.rates.items())},
        "added": report.added,
        "changed": report.changed,
        "vanished": report.vanished,
        "unchanged": report.unchanged,
    }


def _say_report(report: IngestReport, out: Path, resampled: bool) -> None:
    manifest = report.manifest
    already = " already, nothing to do" if report.unchanged else ""
    typer.echo(f"{out}: {manifest.clips} clips of {manifest.videos} videos in {len(manifest.shards)} shards{already}")
    for names, what in ((report.changed, "changed"), (report.vanished, "gone")):
        if names:
            typer.echo(
                f"{len(names)} {what} since they were ingested, the first: {names[0]}; their clips stay as they are: "
                "for shards without them ingest into a new folder"
            )
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
