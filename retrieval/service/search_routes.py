"""POST /search."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from kineme.retrieval.service.answers import KEY, SearchAnswer, body, described
from kineme.retrieval.service.asking import ask
from kineme.retrieval.service.desk import desk_of
from kineme.retrieval.service.questions import Question

router = APIRouter()
_EXAMPLES = {
    "by key": {"key": KEY, "by": "motion", "k": 5},
    "filtered": {"key": KEY, "where": "action = 'walk' and height >= 64"},
    "this motion, that appearance": {"key": KEY, "looks": "77b0c2d9a1e4f653-000000", "weight": 0.6},
    "by several": {"keys": [KEY, "77b0c2d9a1e4f653-000000"], "by": "both"},
    "by vector": {"vectors": {"motion": [0.12, -0.7, 0.33]}, "by": "motion"},
}
_HIT = {
    "rank": 1,
    "score": 0.974,
    "key": "77b0c2d9a1e4f653-000000",
    "source": "walk/daria.mp4",
    "start_s": 0.0,
    "end_s": 0.64,
    "labels": {"action": "walk"},
    "video": "/clips/77b0c2d9a1e4f653-000000/video",
    "strip": "/clips/77b0c2d9a1e4f653-000000/strip.png",
}
_ANSWER = {
    "query": {
        "name": KEY,
        "keys": [KEY],
        "start_s": 1.28,
        "end_s": 1.92,
        "fps": 25.0,
        "windows": 1,
        "vectors": {"motion": [0.12, -0.7, 0.33], "appearance": [0.5, 0.1]},
        "video": f"/clips/{KEY}/video",
        "note": None,
    },
    "by": "motion",
    "weight": 0.5,
    "hits": [_HIT],
    "spans": [],
    "seconds": 0.002,
}


@router.post(
    "/search",
    summary="Find the clips that move, or look, like a clip",
    responses=described(SearchAnswer, 400, 404, 413, 422, 429, 503, example=_ANSWER),
    openapi_extra=body(Question, _EXAMPLES, with_file=True),
)
async def search(request: Request) -> Response:
    """Ask with a clip of the index, several of them, vectors, or a file; see the examples."""
    desk = desk_of(request)
    async with desk.body(request) as asked:
        answer = await ask(desk, Question.model_validate(asked.fields), asked.video)
    return Response(orjson.dumps(answer), media_type="application/json")
