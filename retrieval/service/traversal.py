"""GET /traversal/dims and POST /traversal/frame: numbers of a run's code, and a clip redrawn as they are moved."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from kineme.retrieval.index import Index
from kineme.retrieval.service.asking import PNG, data_uri, known
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.kept import Kept
from kineme.retrieval.service.latents import Traversal
from kineme.retrieval.service.problems import ProblemError
from kineme.retrieval.vectors import Frames

_FARTHEST = 10.0


class Redrawing(BaseModel):
    """Which clip to redraw, and how."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=200, description="A clip of the index.")]
    moves: dict[str, Annotated[FiniteFloat, Field(ge=-_FARTHEST, le=_FARTHEST)]] = Field(
        default_factory=dict, description="Name of a dimension -> how far it is moved, in its standard deviations."
    )


def make_traversal(desk: Desk) -> APIRouter:
    """The routes of a latent traversal."""
    router = APIRouter()

    async def find(index: Index) -> Traversal:
        return await desk.networks.run(lambda: desk.studio.traversal(index))

    traversals = Kept(find)

    async def traversal_of(index: Index) -> Traversal:
        if not desk.studio.can_traverse:
            raise ProblemError(409, "this service has no run with a decoder: start it with --run RUN")
        return await traversals.of(index)

    @router.get("/traversal/dims", summary="The numbers of a run's code that differ most between clips")
    async def dims() -> dict[str, Any]:
        """Each with its part, "motion" or "appearance", and its standard deviation over ``clips`` clips."""
        traversal = await traversal_of(desk.library.index)
        return {"clips": traversal.clips, "dims": [asdict(dim) for dim in traversal.dims]}

    @router.post("/traversal/frame", summary="A clip redrawn with some numbers of its code moved")
    async def frame(redrawing: Redrawing) -> dict[str, Any]:
        """``strip`` is a PNG, as a data URI, of so many ``frames`` side by side."""
        index = desk.library.index
        traversal = await traversal_of(index)
        film = index.film(known(index, redrawing.key))
        if not film:
            raise ProblemError(404, f"{redrawing.key!r}: the index keeps no film of this clip; choose another")
        drawn = await desk.networks.run(lambda: _redrawn(desk, traversal, film, redrawing.moves))
        return {"frames": len(drawn), "strip": data_uri(_png(drawn), PNG)}

    return router


def _redrawn(desk: Desk, traversal: Traversal, film: bytes, moves: Mapping[str, float]) -> Frames:
    return traversal.draw(desk.studio.frames(film), moves)


def _png(frames: Frames) -> bytes:
    """Frames side by side."""
    picture = io.BytesIO()
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(picture, "PNG")
    return picture.getvalue()
