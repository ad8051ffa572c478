"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kineme.shards.errors import DataError

IndexFolder = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder made by kineme index.")]
Where = Annotated[
    str | None, typer.Option(metavar="SQL", help="Only clips for which this is true, such as \"action = 'walk'\".")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def read_options(given: list[str]) -> dict[str, str]:
    """``--option NAME=VALUE``, several times. Raises DataError for anything else."""
    pairs = [text.partition("=") for text in given]
    for text, (name, equals, _) in zip(given, pairs, strict=True):
        if not (name and equals):
            raise DataError(f"--option {text}: NAME=VALUE is needed; a wrong name lists those there are")
    return {name: value for name, _, value in pairs}
