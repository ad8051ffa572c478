"""GET /healthz, /stats and /metrics."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from kineme.retrieval.service.answers import HealthAnswer, StatsAnswer, described
from kineme.retrieval.service.desk import Desk, desk_of
from kineme.retrieval.service.library import Opened
from kineme.retrieval.service.metrics import MEDIA_TYPE

router = APIRouter()


@router.get("/healthz", summary="Whether it answers", responses={200: {"model": HealthAnswer}})
async def healthz(request: Request) -> Response:
    """The one route without a token."""
    library = desk_of(request).library
    opened = library.current()
    health = {"status": "ok", "clips": opened.index.count, "generation": opened.generation}
    if library.trouble is not None:
        health |= {"status": "stale", "trouble": library.trouble}
    return Response(orjson.dumps(health), media_type="application/json")


@router.get("/stats", summary="What is in the index, and what can be asked", responses=described(StatsAnswer))
async def stats_route(request: Request) -> Response:
    """Counts, sizes and labels, and the bounds of uploads."""
    desk = desk_of(request)
    opened = desk.library.current()
    return Response(orjson.dumps(await desk.searches.run(lambda: stats(desk, opened))), media_type="application/json")


@router.get("/metrics", summary="Counters for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """In Prometheus' text format."""
    return Response(desk_of(request).metrics.page(), headers={"Content-Type": MEDIA_TYPE})


def stats(desk: Desk, opened: Opened) -> dict[str, Any]:
    """What `StatsAnswer` describes."""
    info, studio, settings = opened.index.info, desk.studio, desk.settings
    kinds = {space: info.structures[space].kind if space in info.structures else "exact" for space in info.dims}
    return {
        "clips": opened.index.count,
        "generation": opened.generation,
        "dims": info.dims,
        "metrics": info.metrics,
        "kinds": kinds,
        "encoder": info.encoder,
        "data": info.data,
        "columns": opened.index.filter.columns,
        "labels": opened.labels,
        "can": {"predict": studio.can_predict, "swap": studio.can_swap, "traverse": studio.can_traverse},
        "bounds": {
            "upload_bytes": settings.upload_bytes,
            "uploads": settings.uploads,
            "hits": settings.hits,
            "samples": settings.samples,
            "horizon": settings.horizon,
        },
    }
