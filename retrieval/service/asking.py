"""From a question to the clips of the index that answer it."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from kineme.retrieval.blending import mean_vector, search_by
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.library import Opened
from kineme.retrieval.service.problems import ProblemError
from kineme.retrieval.service.questions import MOST_WINDOWS, QueryVectors, Question
from kineme.retrieval.spans import Part, WindowAnswer, search_windows
from kineme.retrieval.vectors import SPACES, Space, Vectors

Answer = dict[str, Any]
"""What POST /search sends; `kineme.retrieval.service.search_routes` describes it."""
MP4 = "video/mp4"
PNG = "image/png"


@dataclass(frozen=True)
class _Query:
    """Who asks: (W, D) vectors of W windows, one but for a part of a file; and what is told of them."""

    name: str
    vectors: Mapping[Space, Vectors]
    parts: Sequence[Part] = ()
    keys: Sequence[str] = ()
    fps: float | None = None
    video: str | None = None
    notes: Sequence[str] = ()

    @property
    def windows(self) -> int:
        """W."""
        return max(map(len, self.vectors.values()))

    def told(self) -> Answer:
        """The part of the answer that is about the query."""
        vectors = {space: found.tolist() for space, found in self.vectors.items()}
        return {
            "name": self.name,
            "keys": self.keys,
            "start_s": self.parts[0][0] if self.parts else None,
            "end_s": self.parts[-1][1] if self.parts else None,
            "fps": self.fps,
            "windows": self.windows,
            "vectors": {space: rows if len(rows) > 1 else rows[0] for space, rows in vectors.items()},
            "video": self.video,
            "note": "; ".join(self.notes) or None,
        }


async def ask(desk: Desk, question: Question, video: Path | None = None) -> Answer:
    """Answer a question.

    Args:
        desk: of the service.
        question: what is asked.
        video: the file that came with it.

    Raises:
        ProblemError: it asks with nothing, with too much, or with a clip that is not there.
        RetrievalError: a bad filter, or vectors that do not fit.
        RefusedVideoError: the file cannot be used.
    """
    started = time.perf_counter()
    opened = desk.library.current()
    _check(desk, question, opened.index, video)
    read = None if video is None else await _read(desk, opened, question, video)
    answer = await desk.searches.run(lambda: _answer(opened.index, question, read))
    answer["seconds"] = round(time.perf_counter() - started, 6)
    return answer


def data_uri(content: bytes, kind: str) -> str:
    """A small file as an address, for what is kept nowhere."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def clip_address(key: str, part: str) -> str:
    """Where a clip's "video" or "strip.png" is."""
    return f"/clips/{quote(key, safe='')}/{part}"


def known(index: Index, key: str) -> str:
    """The key itself.

    Raises:
        ProblemError: it is none of the index (404).
    """
    if not index.has(key):
        raise ProblemError(404, f"{key[:200]!r} is no clip of this index; the hits of a search have their keys")
    return key


def _check(desk: Desk, question: Question, index: Index, video: Path | None) -> None:
    ways = {"a file": video is not None, "vectors": question.vectors is not None, "keys": bool(question.clips)}
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) != 1:
        what = f"{' and '.join(given)} are given" if given else "nothing to search by is given"
        raise ProblemError(422, f"{what}: one of key, keys, vectors or a file is needed")
    if question.k > desk.settings.hits:
        raise ProblemError(422, f"k: {question.k}, at most {desk.settings.hits} hits are given")
    if video is None and (question.start_s is not None or question.end_s is not None):
        raise ProblemError(422, "start_s, end_s: they choose a part of a file, and none is given")
    for key in question.excluded:
        known(index, key)


async def _read(desk: Desk, opened: Opened, question: Question, video: Path) -> _Query:
    reader = opened.reader
    excerpt = await desk.decoders.run(lambda: reader.read(video, question.start_s, question.end_s))
    (motion, appearance), shown = await asyncio.gather(
        desk.networks.run(lambda: reader.encode(excerpt.frames)),
        desk.decoders.run(lambda: desk.studio.mp4(excerpt.frames[0], excerpt.fps)),
    )
    return _Query(
        "your clip",
        {"motion": motion, "appearance": appearance},
        list(zip(excerpt.starts_s.tolist(), excerpt.ends_s.tolist(), strict=True)),
        fps=excerpt.fps,
        video=data_uri(shown, MP4),
        notes=excerpt.notes,
    )


def _answer(index: Index, question: Question, read: _Query | None) -> Answer:
    if read is not None:
        query = read
    elif question.vectors is not None:
        query = _of_vectors(question.vectors)
    else:
        query = _of_clips(index, question.clips)
    try:
        vectors = _searched(index, question, query)
        found = _found(index, question, vectors, query.parts)
    except RetrievalError as error:
        # Where the index lies is not the client's business.
        raise RetrievalError(str(error).replace(str(index.folder), "the index")) from None
    return {
        "query": query.told(),
        "by": question.asked_by,
        "weight": question.weight,
        "hits": [
            {**vars(hit), "video": clip_address(hit.key, "video"), "strip": clip_address(hit.key, "strip.png")}
            for hit in found.hits
        ],
        "spans": [vars(span) for span in found.spans],
    }


def _of_clips(index: Index, keys: Sequence[str]) -> _Query:
    vectors: dict[Space, Vectors] = {}
    for space in SPACES:
        rows = np.stack([index.vector(key, space) for key in keys])
        vectors[space] = rows if len(keys) == 1 else mean_vector(rows, index.info.metrics[space])[None]
    if len(keys) > 1:
        return _Query(f"{len(keys)} clips", vectors, keys=keys)
    (clip,) = index.clips([index.row_of(keys[0])])
    part = (clip.start_s, clip.end_s)
    return _Query(clip.key, vectors, [part], keys, clip.fps, clip_address(clip.key, "video"))


def _of_vectors(given: QueryVectors) -> _Query:
    vectors: dict[Space, Vectors] = {}
    for space in SPACES:
        if rows := getattr(given, space):
            try:
                # What float32 cannot hold becomes infinite, and is refused as such.
                with np.errstate(over="ignore"):
                    vectors[space] = np.atleast_2d(np.array(rows, np.float32))
            except ValueError:
                raise ProblemError(422, f"vectors.{space}: its windows are of different lengths") from None
    if not vectors or len(set(map(len, vectors.values()))) > 1:
        raise ProblemError(422, "vectors: one of motion or appearance is needed, and as many windows of either")
    if (windows := len(next(iter(vectors.values())))) > MOST_WINDOWS:
        raise ProblemError(422, f"vectors: {windows} windows, at most {MOST_WINDOWS} ask together")
    return _Query("vectors", vectors)


def _searched(index: Index, question: Question, query: _Query) -> dict[Space, Vectors]:
    """(W, D) of each space that is searched."""
    vectors = dict(query.vectors)
    if question.looks is not None:
        vectors["appearance"] = index.vector(question.looks, "appearance")[None].repeat(query.windows, axis=0)
    by = question.asked_by
    for space in SPACES if by == "both" else (by,):
        if space not in vectors:
            raise ProblemError(422, f"by {by}: the query has no {space} vector")
    return vectors


def _found(index: Index, question: Question, vectors: Mapping[Space, Vectors], parts: Sequence[Part]) -> WindowAnswer:
    how: Any = {
        "by": question.asked_by,
        "weight": question.weight,
        "k": question.k,
        "where": question.where,
        "exclude": question.excluded,
    }
    if len(next(iter(vectors.values()))) > 1:
        return search_windows(index, vectors, parts or None, **how)
    return WindowAnswer(search_by(index, {space: rows[0] for space, rows in vectors.items()}, **how), [])
