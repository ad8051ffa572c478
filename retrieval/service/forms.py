"""The bodies of requests, read to their bounds and no further: JSON, form fields, and at most one file.

A file goes to the disk while it comes, under a name of our own; what a client calls it is never read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

import orjson
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kineme.retrieval.service.problems import ProblemError

MULTIPART = "multipart/form-data"
FILE_FIELD = "file"
_MOST_FIELDS = 100
# The vectors of 128 windows, as text.
_FIELD_BYTES = 8 << 20
_PATIENCE = 8

Fields = dict[str, Any]
"""What a client said, by name; of a form, text, and a list of texts where a name comes again."""


def media_type(request: Request) -> str:
    """Of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_fields(request: Request, *, most_bytes: int, seconds: float) -> Fields:
    """A JSON object, or the fields of a form without a file.

    Raises:
        ProblemError: another kind of body, a damaged one, or one beyond the bounds.
    """
    kind = media_type(request)
    if kind not in ("application/json", "application/x-www-form-urlencoded"):
        raise ProblemError(
            415, f"content type {kind or 'missing'}: application/json is needed, or {MULTIPART} with a file"
        )
    async with _in_time(seconds):
        body = b"".join([chunk async for chunk in bounded(request, most_bytes)])
    if kind != "application/json":
        return _named(_pairs(body))
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProblemError(400, f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ProblemError(422, f"the body is a JSON {type(content).__name__}: an object is needed")
    return content


async def read_upload(request: Request, video: Path, *, most_bytes: int, seconds: float) -> Fields:
    """The fields of a multipart form; its file is written to ``video``.

    Args:
        request: of type multipart/form-data.
        video: is made if there is a file.
        most_bytes: of the whole body.
        seconds: in which it must have come.

    Raises:
        ProblemError: a damaged form, one that is too slow, or too many bytes, fields or files.
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    if not (boundary := parameters.get(b"boundary")):
        raise ProblemError(400, f"{MULTIPART} without a boundary: let your client write the header")
    async with _in_time(seconds), AsyncExitStack() as open_files:
        form = _Form(lambda: open_files.enter_context(video.open("xb")))
        try:
            parser = MultipartParser(boundary, form.callbacks())
            async for chunk in bounded(request, most_bytes):
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise ProblemError(400, f"the form cannot be read: {error}") from None
        if not form.ended:
            raise ProblemError(400, "the form is cut short: its last boundary is missing")
    return _named(form.fields)


async def bounded(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The body in pieces.

    Raises:
        ProblemError: the header announces more bytes, or more come; what is left is not asked for.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most_bytes:
        # A client that reads the answer only after it sent all may do so, but not for ever.
        close = {"Connection": "close"} if int(announced) > _PATIENCE * most_bytes else {}
        raise ProblemError(413, f"a body of {announced} bytes: at most {most_bytes} are allowed", close, "bytes")
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > most_bytes:
            close = {"Connection": "close"}
            raise ProblemError(413, f"the body has more than the {most_bytes} bytes that are allowed", close, "bytes")
        if chunk:
            yield chunk


class _Form:
    """What a multipart parser finds."""

    def __init__(self, open_file: Callable[[], BinaryIO]) -> None:
        self.fields: list[tuple[str, str]] = []
        self.ended = False
        self._parts = 0
        self._open_file = open_file
        self._file: BinaryIO | None = None
        self._in_file = self._nothing = False
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._value = bytearray()

    def callbacks(self) -> Any:
        """For the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._value = {}, bytearray()
        self._in_file = self._nothing = False
        self._parts += 1
        if self._parts > _MOST_FIELDS:
            raise ProblemError(413, f"more than {_MOST_FIELDS} fields in a form")

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = parameters.get(b"name", b"").decode("utf-8", "replace")
        named = parameters.get(b"filename", parameters.get(b"filename*"))
        self._in_file, self._nothing = bool(named), named == b""
        if not self._in_file:
            return
        if self._file is not None:
            raise ProblemError(400, "more than one file: a request takes one", refusal="count")
        if self._name != FILE_FIELD:
            raise ProblemError(422, f"a file in the field {self._name[:40]!r}: it belongs in {FILE_FIELD!r}")
        self._file = self._open_file()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            assert self._file is not None
            # Pieces of 64 kB into the page cache: a thread would cost more than it saves.
            self._file.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _FIELD_BYTES:
            raise ProblemError(413, f"the field {self._name[:40]!r} has more than {_FIELD_BYTES} bytes")

    def _part_end(self) -> None:
        # Browsers send an empty name and no bytes where no file was chosen.
        if self._in_file or self._nothing:
            return
        self.fields.append((self._name, _text(bytes(self._value))))

    def _end(self) -> None:
        self.ended = True


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(_text(body), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise ProblemError(400, f"the form cannot be read: {error}") from None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ProblemError(400, "the form cannot be read: its text is not UTF-8") from None


def _named(pairs: list[tuple[str, str]]) -> Fields:
    named: dict[str, list[str]] = {}
    for name, value in pairs:
        named.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in named.items()}


@asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ProblemError(
            408,
            f"the body did not come within {seconds:g} s: send less, or over a faster line",
            {"Connection": "close"},
        ) from None
