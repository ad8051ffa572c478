"""POST /predict and POST /swap."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from kineme.retrieval.service.answers import KEY, PredictionAnswer, SwapAnswer, body, described
from kineme.retrieval.service.desk import desk_of
from kineme.retrieval.service.drawing import predict, swap
from kineme.retrieval.service.questions import Prediction, Swap

router = APIRouter()
_FUTURES = {"key": KEY, "samples": 3, "seed": 7, "horizon": 12}
_SWAP = {"looks": KEY, "motion": "77b0c2d9a1e4f653-000000"}


@router.post(
    "/predict",
    summary="Draw the frames that come next",
    responses=described(PredictionAnswer, 400, 404, 413, 422, 429, 503),
    openapi_extra=body(Prediction, {"three futures": _FUTURES}, with_file=True),
)
async def predict_route(request: Request) -> Response:
    """The first frames of a clip of the index, or of a file, and what may follow them; each seed is another future."""
    desk = desk_of(request)
    async with desk.body(request) as asked:
        answer = await predict(desk, Prediction.model_validate(asked.fields), asked.video)
    return Response(orjson.dumps(answer), media_type="application/json")


@router.post(
    "/swap",
    summary="One clip's looks with another's motion",
    responses=described(SwapAnswer, 400, 404, 422, 503),
    openapi_extra=body(Swap, {"two clips": _SWAP}, with_file=False),
)
async def swap_route(request: Request) -> Response:
    """A clip that is drawn from the one's content and the other's motion, by the run the service was given."""
    desk = desk_of(request)
    async with desk.body(request) as asked:
        answer = await swap(desk, Swap.model_validate(asked.fields))
    return Response(orjson.dumps(answer), media_type="application/json")
