"""The data sets that can be ingested. A new one is a file beside this and a line in ``_ALL``."""

from __future__ import annotations

import difflib

from kineme.shards.errors import DataError
from kineme.shards.sources.base import Source
from kineme.shards.sources.folder import FolderSource
from kineme.shards.sources.moving_digits import MovingDigitsSource
from kineme.shards.sources.sprites import SpritesSource

_ALL: tuple[Source, ...] = (FolderSource(), SpritesSource(), MovingDigitsSource())

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


def find_source(name: str) -> Source:
    """The data set called ``name``; DataError with the nearest name if there is none."""
    if name in SOURCES:
        return SOURCES[name]
    near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.4)
    mend = f"did you mean {near[0]}?" if near else f"known are {', '.join(SOURCES)}"
    raise DataError(f"no data set is called {name!r}; {mend}")
