"""GET /map: the clips of a library in the plane, those near each other that are alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray

from kineme.retrieval.index import Index
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.kept import Kept
from kineme.retrieval.service.label_filters import as_text
from kineme.retrieval.service.problems import ProblemError
from kineme.retrieval.service.projection import Points, project
from kineme.retrieval.vectors import SPACES, Space

MOST_POINTS = 5000
"""More are no longer told apart in a picture: of a larger library every so manieth clip is shown."""


@dataclass(frozen=True)
class LibraryMap:
    """Clips in the plane.

    Attributes:
        clips: in the library.
        rows: (N,) which of them are shown, counted from 0 in the order of `Index.keys`.
        points: (N, 2) where.
    """

    clips: int
    rows: NDArray[np.int64]
    points: Points


def lay_out(index: Index, by: Space) -> LibraryMap:
    """The map of a library by one of its spaces; slow for thousands of clips."""
    shown = np.linspace(0, index.count - 1, min(index.count, MOST_POINTS)).round().astype(np.int64)
    parts = index.parts(index.live_rows[shown])
    vectors = [segment.encoded(by, rows) for segment, rows in parts]
    if not len(shown):
        return LibraryMap(0, shown, np.empty((0, 2), np.float32))
    return LibraryMap(index.count, shown, project(np.concatenate(vectors), cosine=index.info.metrics[by] == "cosine"))


def make_map(desk: Desk) -> APIRouter:
    """The route of the map."""
    router = APIRouter()

    def kept(by: Space) -> Kept[LibraryMap]:
        return Kept(lambda index: desk.layouts.run(lambda: lay_out(index, by)))

    maps = {space: kept(space) for space in SPACES}

    @router.get("/map", summary="The clips of the library in the plane")
    async def library_map(
        by: Annotated[
            Space, Query(description="Clips that move alike, or look alike, lie near each other.")
        ] = "motion",
        label: Annotated[str, Query(max_length=200, description="A label whose values are told of each.")] = "",
    ) -> dict[str, Any]:
        """At most 5000 clips: their keys, places from -1 to 1, and which of ``values`` they have, if any."""
        index = desk.library.index
        found = await maps[by].of(index)
        values, numbers = await asyncio.to_thread(_values, index, found, label)
        keys = [index.keys[row] for row in found.rows.tolist()]
        places = found.points.round(4).tolist()
        points = [[key, x, y, number] for key, (x, y), number in zip(keys, places, numbers, strict=True)]
        return {"by": by, "clips": found.clips, "values": values, "points": points}

    return router


def _values(index: Index, found: LibraryMap, label: str) -> tuple[list[str], Sequence[int | None]]:
    """Values of a label, the most frequent first, and the number of that of each clip."""
    if not label:
        return [], [None] * len(found.rows)
    column = next((column for column, name in index.label_columns.items() if name == label), None)
    if column is None:
        raise ProblemError(422, f"label {label!r}: the index has {', '.join(index.label_columns.values()) or 'none'}")
    own = [
        None if value is None else as_text(value) for value in index.table.column(column).take(found.rows).to_pylist()
    ]
    counts = Counter(value for value in own if value is not None)
    values = sorted(counts, key=lambda value: (-counts[value], value))
    numbers = {value: number for number, value in enumerate(values)}
    return values, [None if value is None else numbers[value] for value in own]
