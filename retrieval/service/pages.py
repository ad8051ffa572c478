"""The web page: whole pages at addresses that can be kept, and the parts of them that htmx asks for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index
from kineme.retrieval.previews import MAX_FRAMES
from kineme.retrieval.service.asking import Answer, ask, known
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.drawing import predict, swap
from kineme.retrieval.service.forms import Fields
from kineme.retrieval.service.kept import Kept
from kineme.retrieval.service.label_filters import LabelFilter, as_sql, label_filters
from kineme.retrieval.service.library_map import make_map
from kineme.retrieval.service.page_views import HITS, PageQuestion, answer_view, clip_view
from kineme.retrieval.service.problems import ProblemError, as_problem
from kineme.retrieval.service.questions import Prediction, Swap
from kineme.retrieval.service.rendering import rendered
from kineme.retrieval.service.traversal import make_traversal

_SHELF = 60
_MOST_ROWS = 2**31
_CLIP_NAME = 8
_OF_THE_QUERY = ("start_s", "end_s", "vectors")


def make_pages(desk: Desk) -> APIRouter:
    """The routes of the page, those of the map and of the latent traversal among them."""
    router = APIRouter()
    router.include_router(make_map(desk))
    router.include_router(make_traversal(desk))
    pages = APIRouter(include_in_schema=False)
    filters: Kept[list[LabelFilter]] = Kept(lambda index: asyncio.to_thread(label_filters, index))

    async def view(index: Index, answer: Answer, asked: PageQuestion, upload: str = "") -> dict[str, Any]:
        return answer_view(index, answer, asked, await filters.of(index), upload)

    @pages.get("/")
    async def search_page(request: Request) -> Response:
        """The page, with the answer to what stands in its address; without that, to the first clip of the library."""
        index = desk.library.index
        fields = _address_fields(request)
        asked = PageQuestion.of(fields)
        if not asked.keys and "clip" not in fields and index.count:
            asked = PageQuestion.of({**fields, "key": index.keys[0]})
        answer, problem = None, None
        if asked.keys:
            try:
                answer = await view(index, await ask(desk, asked.question(index)), asked)
            except (ProblemError, RetrievalError, ValidationError) as error:
                problem = as_problem(error)
        return _page(
            "search.html",
            problem.status if problem else 200,
            page="search",
            problem=problem.detail if problem else "",
            question=asked,
            answer=answer,
            gone="clip" in fields,
            filters=await filters.of(index),
            hits=HITS,
            clips=index.count,
            encoder=index.info.encoder,
            upload_mb=desk.settings.upload_bytes >> 20,
            can_predict=desk.studio.can_predict,
            can_swap=desk.studio.can_swap,
            swap={},
        )

    @pages.post("/page/answer")
    async def answer_part(request: Request) -> Response:
        """The answer to the page's form, for a file, for the vectors of one that was sent before, or for keys."""
        index = desk.library.index
        async with desk.body(request) as body:
            asked = PageQuestion.of(_texts(body.fields))
            more = {name: body.fields[name] for name in _OF_THE_QUERY if body.fields.get(name)}
            answer = await ask(desk, asked.question(index, **more), body.video)
        upload = "" if asked.keys else "Your clip"
        shown = await view(index, answer, asked, upload)
        # A clip from outside has no address of its own; this one tells it from others in the browser's history.
        named = str(body.fields.get("clip", ""))
        clip = named if named.isalnum() and len(named) == _CLIP_NAME else secrets.token_hex(_CLIP_NAME // 2)
        address = asked.address(clip=clip) if upload else asked.address()
        return _part("_answer_part.html", {"HX-Push-Url": address}, question=asked, answer=shown, clip=clip)

    @pages.post("/page/next")
    async def next_part(request: Request) -> Response:
        """A future of the query."""
        async with desk.body(request) as body:
            keys = _texts(body.fields).get("key")
            keys = keys[0] if isinstance(keys, list) else keys
            if body.video is None and not keys:
                raise ProblemError(422, "the clip that was dropped is no longer at hand: drop it again")
            wanted = Prediction.model_validate(
                {
                    "key": keys if body.video is None else None,
                    "seed": body.fields.get("seed"),
                }
            )
            futures = await predict(desk, wanted, body.video)
        return _part("_next.html", futures=futures, marks=_strip_marks(futures))

    @pages.post("/page/swap")
    async def swap_part(request: Request) -> Response:
        """The swap: a clip in each of its two places, and what comes of both once there are two."""
        index = desk.library.index
        async with desk.body(request) as body:
            fields = {
                name: value[0] if isinstance(value, list) else value for name, value in _texts(body.fields).items()
            }
        keys = {slot: fields.get(slot, "") for slot in ("looks", "motion")}
        if (slot := fields.get("take")) in keys:
            if not fields.get("key"):
                raise ProblemError(422, "the swap takes clips of the library: search by one of them")
            keys[slot] = fields["key"]
        shown: dict[str, Any] = {slot: _known_view(index, key) for slot, key in keys.items() if key}
        if len(shown) == len(keys):
            shown |= await swap(desk, Swap(looks=keys["looks"], motion=keys["motion"]))
            shown["href"] = PageQuestion(by="both", keys=[keys["motion"]], looks=keys["looks"]).address()
            # The API's answer has the keys under these names.
            shown |= {slot: _known_view(index, key) for slot, key in keys.items()}
        return _part("_swap.html", can_swap=desk.studio.can_swap, swap=shown)

    @pages.get("/page/library")
    async def library_part(
        request: Request,
        page: Literal["search", "traversal"] = "search",
        after: Annotated[int, Query(ge=0, le=_MOST_ROWS)] = 0,
    ) -> Response:
        """Some clips of the library to pick from: those that pass the form's filters, in the order of the index."""
        index = desk.library.index
        asked = PageQuestion.of(_address_fields(request))
        return await desk.searches.run(lambda: _shelf(index, asked, page, after))

    @pages.get("/traversal")
    async def traversal_page(request: Request) -> Response:
        """Sliders for the numbers of a code, and a clip redrawn by them."""
        index = desk.library.index
        key = request.query_params.get("key") or (index.keys[0] if index.count else "")
        clip, problem = None, None
        try:
            clip = _known_view(index, key) if key else None
        except ProblemError as error:
            problem = error
        return _page(
            "traversal.html",
            problem.status if problem else 200,
            page="traversal",
            problem=problem.detail if problem else "",
            clip=clip,
            can_traverse=desk.studio.can_traverse,
        )

    router.include_router(pages)
    return router


def _known_view(index: Index, key: str) -> dict[str, Any]:
    return clip_view(index.clip(index.row_of(known(index, key))))


def _shelf(index: Index, asked: PageQuestion, page: str, after: int) -> Response:
    where = as_sql(asked.chosen, asked.where, index.label_columns)
    rows = index.filter.rows(where) if where else index.live_rows
    shown = rows[after : after + _SHELF]
    picks = [clip_view(clip) for clip in index.clips(shown)]
    for pick in picks:
        to_traversal = "/traversal?" + urlencode({"key": pick["key"]})
        pick["href"] = to_traversal if page == "traversal" else replace(asked, keys=[pick["key"]], looks="").address()
    return _part(
        "_library.html",
        picks=picks,
        first=after == 0,
        after=after + _SHELF,
        more=after + _SHELF < len(rows),
        found=len(rows),
        clips=index.count,
        page=page,
    )


def _strip_marks(futures: dict[str, Any]) -> list[bool]:
    """Which frames of a film strip of futures are drawn; the others were given."""
    frames = futures["context"] + futures["horizon"]
    shown = np.linspace(0, frames - 1, min(frames, MAX_FRAMES)).round()
    return [number >= futures["context"] for number in shown.tolist()]


def _texts(fields: Fields) -> Fields:
    """The fields of a form, which are texts; a body of JSON, which no form sends, may have others.

    Raises:
        ProblemError: one is not.
    """
    for name, value in fields.items():
        if not all(isinstance(each, str) for each in (value if isinstance(value, list) else [value])):
            raise ProblemError(422, f"{name[:40]!r}: the page's forms send text")
    return fields


def _address_fields(request: Request) -> Fields:
    named: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        named.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in named.items()}


def _page(name: str, status: int, **context: Any) -> Response:
    return HTMLResponse(rendered(name, signed_in=True, **context), status)


def _part(name: str, headers: Mapping[str, str] | None = None, **context: Any) -> Response:
    return HTMLResponse(rendered(name, **context), headers=headers)
