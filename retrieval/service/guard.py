"""What stands before every route: it measures, refuses strangers, says how answers may be used, and catches faults.

Without a token the service is for this machine alone. Its browser, however, also runs pages of others: those that reach
this address under a name of their own (DNS rebinding) are told apart by Host, those that send it requests from
elsewhere by Origin and Sec-Fetch-Site.
"""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kineme.retrieval.service.metrics import Metrics
from kineme.retrieval.service.problems import as_problem, problem
from kineme.retrieval.service.settings import is_loopback
from kineme.retrieval.service.sign_in import LOGIN, sign_in_page
from kineme.retrieval.service.tokens import Tokens

# The sign-in page and what it looks like; none of it is of the library.
PUBLIC = frozenset(("/healthz", LOGIN, "/static/app.css", "/static/icon.svg"))
_STATIC = "/static/"
_UNKNOWN = "none"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_log = logging.getLogger("kineme.service")


class Guard:
    """An ASGI middleware.

    Args:
        app: what it guards.
        tokens: who is let in.
        metrics: what is counted.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, metrics: Metrics) -> None:
        self._app = app
        self._tokens = tokens
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, send_guarded)
        except ClientDisconnect:
            pass
        except Exception as error:
            _log.exception("%s %r failed", scope["method"], scope["path"])
            if status:
                raise
            told = as_problem(error)
            await problem(told.status, told.detail)(scope, receive, send_guarded)
        finally:
            # A client that left before its answer has no status.
            if status:
                self._metrics.answered(_route(scope), status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._tokens.needed and not is_loopback(_hostname(host)):
            return problem(
                421, f"host {host[:100]!r}: without a token only localhost, 127.0.0.1 and [::1] are answered"
            )
        if self._tokens.bears(headers):
            return None
        if _is_foreign(scope["method"], headers, host):
            return problem(403, "a page of another site sent this request: only this service's own pages may")
        if not self._tokens.needed or scope["path"] in PUBLIC or self._tokens.remembers(headers):
            return None
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return sign_in_page()
        return problem(
            401,
            "the token is missing or wrong: send it as Authorization: Bearer TOKEN, or sign in with a browser",
            {"WWW-Authenticate": "Bearer"},
        )


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_foreign(method: str, headers: Headers, host: str) -> bool:
    """Whether a browser says that another site's page sent a request, other than by a link that was followed."""
    origin = headers.get("origin")
    if method not in _SAFE_METHODS and origin is not None and origin.lower().partition("://")[2] != host.lower():
        return True
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    return method not in _SAFE_METHODS or headers.get("sec-fetch-mode") != "navigate"


def _route(scope: Scope) -> str:
    """The pattern that a request matched: what clients write must not become names of counters."""
    if scope["path"].startswith(_STATIC):
        return _STATIC
    return getattr(scope.get("route"), "path", _UNKNOWN)
