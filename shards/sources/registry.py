"""The data sets that can be ingested. A new one is a file beside this and a line in ``_ALL``."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping

from kineme.shards.errors import DataError
from kineme.shards.sources.atari import AtariSource
from kineme.shards.sources.bair import BairSource
from kineme.shards.sources.base import Source
from kineme.shards.sources.folder import FolderSource
from kineme.shards.sources.moving_digits import MovingDigitsSource
from kineme.shards.sources.moving_mnist import MovingMnistSource
from kineme.shards.sources.pushing import PushingSource
from kineme.shards.sources.ravdess import RavdessSource
from kineme.shards.sources.sprites import SpritesSource
from kineme.shards.sources.weizmann import WeizmannSource

_ALL: tuple[Source, ...] = (
    FolderSource(),
    SpritesSource(),
    MovingDigitsSource(),
    MovingMnistSource(),
    BairSource(),
    PushingSource(),
    WeizmannSource(),
    RavdessSource(),
    AtariSource(),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


def find_source(name: str, options: Mapping[str, str] | None = None) -> Source:
    """The data set called ``name``, its options set.

    Raises:
        DataError: no such data set or option, with the nearest name, or a value that the option does not take.
    """
    if name not in SOURCES:
        raise DataError(f"no data set is called {name!r}; {_nearest(name, SOURCES)}")
    source = SOURCES[name]
    for option in options or {}:
        if option not in source.options:
            known = _nearest(option, source.options) if source.options else "it has none"
            raise DataError(f"--option {option}: {name} has no such option; {known}")
    return dataclasses.replace(source, **options) if options else source  # type: ignore[type-var]


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
