"""Errors as application/problem+json (RFC 9457), those of the framework among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.service.studio import Refusal, RefusedVideoError

MEDIA_TYPE = "application/problem+json"
_STATUS: Mapping[Refusal, int] = {"pixels": 413, "seconds": 413, "memory": 413}
_MOST_ERRORS = 10
_LONGEST = 200


class Problem(BaseModel):
    """What a client is told when a request fails."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class ProblemError(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        detail: a line for whoever sent the request.
        headers: of the answer.
        refusal: where an upload is refused, why.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.refusal = refusal


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response of an error."""
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    return Response(orjson.dumps(content), status, headers, MEDIA_TYPE)


def as_problem(error: Exception) -> ProblemError:
    """Any error as what the client is told; of one that is our fault, nothing but that it is."""
    match error:
        case ProblemError():
            return error
        case RefusedVideoError():
            return ProblemError(_STATUS.get(error.refusal, 422), str(error), refusal=error.refusal)
        case RetrievalError():
            return ProblemError(422, " ".join(str(error).split()))
        case ValidationError() | RequestValidationError():
            return ProblemError(422, _in_a_line(error.errors()))
        case HTTPException():
            return ProblemError(error.status_code, str(error.detail), error.headers)
    return ProblemError(500, "the service failed at this request; its log has the reason")


def add_problems(app: FastAPI) -> None:
    """Let an app answer errors of these kinds as problems; all others are for `guard` to catch and to log."""

    async def answer(request: Request, error: Exception) -> Response:
        told = as_problem(error)
        return problem(told.status, told.detail, told.headers)

    for kind in (ProblemError, RetrievalError, ValidationError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def _in_a_line(errors: Sequence[Any]) -> str:
    """What pydantic found, without the values, which may be long."""
    found = [f"{'.'.join(map(str, error['loc']))[:_LONGEST] or 'the body'}: {error['msg']}" for error in errors]
    more = f"; and {len(found) - _MOST_ERRORS} more" if len(found) > _MOST_ERRORS else ""
    return "; ".join(found[:_MOST_ERRORS]) + more
