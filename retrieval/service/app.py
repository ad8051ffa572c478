"""The service as an ASGI app: an index, searched over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles

from kineme.retrieval.service import clip_routes, drawing_routes, search_routes, state_routes
from kineme.retrieval.service.answers import add_schemas
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.guard import Guard
from kineme.retrieval.service.library import Library
from kineme.retrieval.service.pages import make_pages
from kineme.retrieval.service.problems import add_problems
from kineme.retrieval.service.settings import ServiceSettings
from kineme.retrieval.service.sign_in import make_sign_in
from kineme.retrieval.service.studio import Studio
from kineme.retrieval.service.tokens import Tokens

STATIC = Path(__file__).parent / "static"


def make_app(library: Library, studio: Studio, settings: ServiceSettings) -> FastAPI:
    """The service. It closes the library when it ends, the studio is its maker's to close.

    Args:
        library: the index.
        studio: decoders and networks.
        settings: bounds, and the token.
    """
    desk = Desk(library, studio, settings)
    tokens = Tokens(settings.token, settings.session_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            desk.close()

    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(title="kineme", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = desk
    add_problems(app)
    app.add_middleware(Guard, tokens=tokens, metrics=desk.metrics)
    for part in (state_routes, clip_routes, search_routes, drawing_routes):
        app.include_router(part.router)
    app.include_router(make_sign_in(tokens, settings))
    app.include_router(make_pages(desk))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return describe(app)

    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the service."""
    document = get_openapi(
        title="kineme",
        version="1",
        summary="Find video by how it moves",
        description="Errors are application/problem+json. Where the service has a token, send Authorization: Bearer.",
        routes=app.routes,
    )
    add_schemas(document)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document
