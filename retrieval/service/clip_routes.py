"""GET /clips/KEY, its video, and its strip."""

from __future__ import annotations

import io
from typing import TypeVar

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from PIL import Image

from kineme.retrieval.index import Index
from kineme.retrieval.service.answers import ClipAnswer, described
from kineme.retrieval.service.asking import MP4, PNG, clip_address, known
from kineme.retrieval.service.desk import desk_of
from kineme.retrieval.service.problems import ProblemError
from kineme.retrieval.service.ranges import ranged
from kineme.retrieval.vectors import Frames

router = APIRouter()
T = TypeVar("T")


@router.get("/clips/{key}", summary="What is known of a clip", responses=described(ClipAnswer, 404))
async def clip(request: Request, key: str) -> Response:
    """Where it comes from, its rate and size, and its labels."""
    index = desk_of(request).library.index

    def read() -> bytes:
        stored = index.clip(index.row_of(known(index, key)))
        addresses = {"video": clip_address(key, "video"), "strip": clip_address(key, "strip.png")}
        return orjson.dumps({**vars(stored), **addresses})

    return Response(await desk_of(request).searches.run(read), media_type="application/json")


@router.head("/clips/{key}/video", include_in_schema=False)
@router.get("/clips/{key}/video", summary="A clip to look at", response_class=Response)
async def video(request: Request, key: str) -> Response:
    """A small mp4 of all its frames. Ranges can be asked for."""
    index = desk_of(request).library.index
    return ranged(request, await desk_of(request).searches.run(lambda: film_of(index, key)), MP4)


@router.head("/clips/{key}/strip.png", include_in_schema=False)
@router.get("/clips/{key}/strip.png", summary="A clip at a glance", response_class=Response)
async def strip(request: Request, key: str) -> Response:
    """At most 8 of its frames side by side."""
    index = desk_of(request).library.index

    def draw() -> bytes:
        if index.picture(known(index, key)) is None:
            raise ProblemError(404, f"the index keeps no picture of {key}: it was added without pictures")
        return strip_png(index.previews([key])[key])

    return ranged(request, await desk_of(request).searches.run(draw), PNG)


def film_of(index: Index, key: str) -> bytes:
    """The film of a clip.

    Raises:
        ProblemError: there is no such clip, or no film of it (404).
    """
    if not (film := index.film(known(index, key))):
        raise ProblemError(404, f"the index keeps no film of {key}: it was added without pictures")
    return film


def strip_png(frames: Frames) -> bytes:
    """Frames (T, H, W, 3) uint8 side by side as a PNG."""
    image = io.BytesIO()
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(image, format="PNG")
    return image.getvalue()
