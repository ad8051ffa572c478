"""The sign-in page, and what it does: a browser shows the token once, and is remembered by a cookie."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from kineme.retrieval.service.forms import read_fields
from kineme.retrieval.service.problems import problem
from kineme.retrieval.service.rendering import rendered
from kineme.retrieval.service.settings import ServiceSettings
from kineme.retrieval.service.tokens import COOKIE, Tokens

LOGIN = "/login"
_MOST_BYTES = 4096


def sign_in_page(*, refused: bool = False, headers: Mapping[str, str] | None = None) -> Response:
    """The page that asks for the token, with status 401; ``refused``: what was given is not it."""
    return HTMLResponse(rendered("sign_in.html", signed_in=False, refused=refused), 401, headers)


def make_sign_in(tokens: Tokens, settings: ServiceSettings) -> APIRouter:
    """The route to which the sign-in page sends the token."""
    router = APIRouter(include_in_schema=False)

    @router.get(LOGIN)
    async def came_back() -> Response:
        return RedirectResponse("/", 303)

    @router.post(LOGIN)
    async def sign_in(request: Request) -> Response:
        fields = await read_fields(request, most_bytes=_MOST_BYTES, seconds=settings.upload_s)
        if not tokens.needed:
            return RedirectResponse("/", 303)
        if not tokens.is_token(str(fields.get("token", ""))):
            if "text/html" in request.headers.get("accept", ""):
                return sign_in_page(refused=True)
            return problem(401, "that is not the token that the service was started with")
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            tokens.cookie(),
            max_age=int(settings.session_s),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    return router
