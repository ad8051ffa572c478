"""``kineme ingest``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kineme.pipeline.commands.options import Json, read_options

if TYPE_CHECKING:
    from kineme.shards.decode_pool import Limits
    from kineme.shards.ingest import IngestReport, Progress
    from kineme.shards.shard_work import Engine

_PLAIN_STEPS = 20  # lines of progress where there is no terminal


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

    Example: kineme ingest ~/videos --out data/mine --size 64 --clip-frames 16 --fps 12.5
    """
    from kineme.shards.decode_pool import Limits
    from kineme.shards.ingest import IngestSettings
    from kineme.shards.ingest import ingest as run_ingest
    from kineme.shards.sampling import Sampling
    from kineme.shards.sources.registry import find_source

    chosen = find_source(dataset, read_options(option or []))
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
        counts = f", {progress.clips} clips, {progress.rejects} rejected" if progress.stage == "ingesting" else ""
        typer.echo(
            f"{progress.stage}: {progress.done} of {progress.total} videos{counts}",
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
                f"{len(names)} {what} since they were ingested, the first: {names[0]}; their clips stay as they are; "
                "to have the folder as it is now, ingest it into a new one"
            )
    if report.rejects:
        first = report.rejects[0]
        seen = f"see {out / 'rejects.parquet'}; the first: {first.path}: {first.reason}"
        typer.echo(f"{len(report.rejects)} could not be used, {seen}")
    if len(report.rates) > 1 and not resampled:
        rates = ", ".join(f"{rate:g} ({count})" for rate, count in sorted(report.rates.items()))
        typer.echo(f"several frame rates: {rates}; the same motion then differs in frames, --fps R makes them one")
