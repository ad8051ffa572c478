"""GET /traversal/dims and POST /traversal/frame: numbers of a run's code, and a clip redrawn as they are moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from kineme.retrieval.index import Index
from kineme.retrieval.service.answers import KEY, body
from kineme.retrieval.service.asking import PNG, data_uri
from kineme.retrieval.service.clip_routes import film_of, strip_png
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.kept import Kept
from kineme.retrieval.service.latents import Traversal
from kineme.retrieval.service.problems import ProblemError
from kineme.retrieval.service.questions import Redrawing
from kineme.retrieval.vectors import Frames

_EXAMPLE = {"key": KEY, "moves": {"z 3": 1.5}}


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

    @router.post(
        "/traversal/frame",
        summary="A clip redrawn with some numbers of its code moved",
        openapi_extra=body(Redrawing, {"one number": _EXAMPLE}, with_file=False),
    )
    async def frame(request: Request) -> dict[str, Any]:
        """``strip`` is a PNG, as a data URI, of so many ``frames`` side by side."""
        # The framework would read a body of any length.
        async with desk.body(request) as sent:
            redrawing = Redrawing.model_validate(sent.fields)
        index = desk.library.index
        traversal = await traversal_of(index)
        film = await desk.searches.run(lambda: film_of(index, redrawing.key))
        drawn = await desk.networks.run(lambda: _redrawn(desk, traversal, film, redrawing.moves))
        return {"frames": len(drawn), "strip": data_uri(strip_png(drawn), PNG)}

    return router


def _redrawn(desk: Desk, traversal: Traversal, film: bytes, moves: Mapping[str, float]) -> Frames:
    return traversal.draw(desk.studio.frames(film), moves)
