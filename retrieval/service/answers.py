"""What the service answers, for its OpenAPI description; routes write it themselves, which is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from kineme.retrieval.blending import By
from kineme.retrieval.metadata import Label
from kineme.retrieval.service.problems import MEDIA_TYPE, Problem
from kineme.retrieval.service.questions import Prediction, QueryVectors, Question, Redrawing, Swap

_REFERENCE = "#/components/schemas/{model}"
KEY = "0f3a9c1be2d47586-000002"
"""The clip of the examples."""


class Query(BaseModel):
    """What asked. Times are seconds of the clip's own video, or of the file."""

    name: str
    keys: list[str]
    start_s: float | None
    end_s: float | None
    fps: float | None
    windows: int = Field(description="Clips of a part of a file that asked together.")
    vectors: QueryVectors
    video: str | None = Field(description="Where it can be seen: an address of the service, or a data: URI.")
    note: str | None = Field(description="What a person should know of it.")


class SearchHit(BaseModel):
    """A clip that was found. A larger score is nearer."""

    rank: int
    score: float
    key: str
    source: str
    start_s: float
    end_s: float
    labels: dict[str, Label]
    video: str
    strip: str


class SearchSpan(BaseModel):
    """Hits of one video that touch, and the part of the file that found them."""

    rank: int
    score: float
    source: str
    start_s: float
    end_s: float
    keys: list[str]
    query_start_s: float | None
    query_end_s: float | None


class SearchAnswer(BaseModel):
    """Best first."""

    query: Query
    by: By
    weight: float
    hits: list[SearchHit]
    spans: list[SearchSpan] = Field(description="Of several windows alone.")
    seconds: float


class Future(BaseModel):
    """A drawn future, behind the frames it starts from, as data: URIs."""

    seed: int
    video: str
    strip: str


class PredictionAnswer(BaseModel):
    """Frames given, frames drawn, and the futures."""

    context: int
    horizon: int
    fps: float
    samples: list[Future]
    note: str | None
    seconds: float


class SwapAnswer(BaseModel):
    """The one's looks with the other's motion, as data: URIs."""

    video: str
    strip: str
    note: str | None
    seconds: float


class ClipAnswer(BaseModel):
    """All that is known of a clip; times are seconds of its source, sizes pixels."""

    key: str
    source: str
    start_s: float
    end_s: float
    dataset: str
    split: str
    fps: float
    num_frames: int
    height: int
    width: int
    labels: dict[str, Label]
    video: str
    strip: str


class StatsAnswer(BaseModel):
    """The index, and what the service can do."""

    clips: int
    generation: int
    dims: dict[str, int]
    metrics: dict[str, str]
    kinds: dict[str, str] = Field(description="How each space is searched.")
    encoder: str
    data: str
    columns: list[str] = Field(description="What a filter can name.")
    labels: dict[str, dict[str, int]] = Field(description="Clips that have a value; the 50 most frequent ones.")
    can: dict[str, bool]
    bounds: dict[str, float]


class HealthAnswer(BaseModel):
    """Whether the newest index is the one that is open."""

    status: str = Field(description="ok, or stale: then the newer index cannot be opened.")
    clips: int
    generation: int
    trouble: str | None = None


_PROBLEMS: Mapping[int, str] = {
    400: "The body cannot be read.",
    401: "The token is missing or wrong.",
    404: "There is no such clip.",
    413: "More bytes, pixels or seconds than are allowed.",
    422: "It cannot be done with what was sent; detail says why.",
    429: "Too many uploads are in work; see Retry-After.",
    503: "Too many requests wait; see Retry-After.",
}


def described(model: type[BaseModel], *problems: int, example: Any = None) -> Any:
    """A route's ``responses``: its answer, and the problems it may have."""
    content: dict[str, Any] = {} if example is None else {"application/json": {"example": example}}
    responses: dict[int, Any] = {200: {"model": model, **({"content": content} if content else {})}}
    for status in (401, *problems):
        schema = {"$ref": _REFERENCE.format(model=Problem.__name__)}
        responses[status] = {"description": _PROBLEMS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
    return responses


def body(model: type[BaseModel], examples: Mapping[str, Any], *, with_file: bool) -> Any:
    """A route's ``openapi_extra``: a JSON body, or a form with a file and the same fields."""
    content: dict[str, Any] = {
        "application/json": {
            "schema": {"$ref": _REFERENCE.format(model=model.__name__)},
            "examples": {name: {"value": value} for name, value in examples.items()},
        }
    }
    if with_file:
        fields = model.model_json_schema(ref_template=_REFERENCE)["properties"]
        file = {"type": "string", "format": "binary", "description": "A video; it is kept nowhere."}
        content["multipart/form-data"] = {
            "schema": {"type": "object", "properties": {"file": file, **fields}, "required": ["file"]}
        }
    return {"requestBody": {"required": True, "content": content}}


def add_schemas(openapi: dict[str, Any]) -> None:
    """Put what `body` and `described` refer to into an OpenAPI document."""
    models: Sequence[type[BaseModel]] = (Question, Prediction, Swap, Redrawing, Problem)
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    openapi.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
