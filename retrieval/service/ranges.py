"""Bytes in memory as a response that players can seek in: one range, an ETag, and nothing sent twice (RFC 9110)."""

from __future__ import annotations

import hashlib
import re

from fastapi import Request, Response

from kineme.retrieval.service.problems import ProblemError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def ranged(request: Request, content: bytes, kind: str) -> Response:
    """All of some bytes, the part of them that is asked for, or that they are the ones the client has.

    Args:
        request: its Range, If-Range and If-None-Match count. Several ranges are answered with all, as the RFC allows.
        content: the bytes.
        kind: their media type.

    Raises:
        ProblemError: a range that begins beyond the end (416).
    """
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    known = request.headers.get("if-none-match", "")
    if known == "*" or tag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    wanted = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if wanted is None or wanted[0] == "bytes=-" or request.headers.get("if-range", tag) != tag:
        return Response(content, headers=headers, media_type=kind)
    first, last = _span(wanted[1], wanted[2], len(content))
    if first > last:
        raise ProblemError(
            416, f"range {wanted[0]}: of {len(content)} bytes", {"Content-Range": f"bytes */{len(content)}"}
        )
    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    return Response(content[first : last + 1], 206, headers, kind)


def _span(first: str, last: str, length: int) -> tuple[int, int]:
    """First and last byte of a range; the first is beyond the last where there is none."""
    if not first:
        return max(0, length - int(last)), length - 1 if int(last) else -1
    begin = int(first)
    if begin >= length:
        return length, -1
    end = min(int(last), length - 1) if last else length - 1
    return begin, end
