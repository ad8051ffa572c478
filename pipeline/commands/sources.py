"""``kineme datasets`` and ``fetch``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kineme.pipeline.commands.options import Json, read_options

if TYPE_CHECKING:
    from kineme.shards.sources.base import Watcher

_PLAIN_BYTES = 10 << 20


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

    source = find_source(dataset, read_options(option or []))
    with _watching() as watcher:
        options = FetchOptions(clips, seed, frames, train_fraction, mnist, watcher)
        done = source.fetch(to, options)
    typer.echo(done)


@contextmanager
def _watching() -> Iterator[Watcher]:
    """The licence and how the downloads go, on stderr: bars on a terminal, a line now and then elsewhere."""
    from kineme.shards.sources.base import Watcher

    if not sys.stderr.isatty():
        yield Watcher(lambda text: typer.echo(text, err=True), _PlainBytes())
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

        yield Watcher(lambda text: bars.console.print(text, markup=False, highlight=False), show)


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
