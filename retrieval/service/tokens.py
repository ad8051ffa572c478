"""Who may ask: programs that show the token, and browsers that showed it not long ago."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

COOKIE = "kineme_session"
_SCHEME = "bearer"


class Tokens:
    """Checks what clients show, in a time that does not depend on how much of it is right.

    A browser's cookie holds when it expires, in seconds since 1970, and the HMAC-SHA256 of that under the token: it
    says nothing of the token, cannot be made without it, and is worthless once the service has another one.

    Args:
        token: None lets everybody in.
        session_s: seconds for which a cookie is good.
        now: the clock.
    """

    def __init__(self, token: str | None, session_s: float, now: Callable[[], float] = time.time) -> None:
        self._token = None if token is None else token.encode()
        self._session_s = session_s
        self._now = now

    @property
    def needed(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def is_token(self, shown: str) -> bool:
        """Whether this is the token."""
        return self._token is not None and _same(shown.encode(), self._token)

    def bears(self, headers: Headers) -> bool:
        """Whether a request has the token in its header, where no page of another site can put it."""
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        return scheme.lower() == _SCHEME and self.is_token(shown.strip())

    def remembers(self, headers: Headers) -> bool:
        """Whether a request has a cookie that is good."""
        expiry, _, mac = cookie_parser(headers.get("cookie", "")).get(COOKIE, "").partition(".")
        # The MAC first: only what we wrote is read as a number.
        return self._token is not None and _same(mac.encode(), self._mac(expiry).encode()) and self._now() < int(expiry)

    def cookie(self) -> str:
        """A new cookie's value."""
        expiry = str(int(self._now() + self._session_s))
        return f"{expiry}.{self._mac(expiry)}"

    def _mac(self, expiry: str) -> str:
        assert self._token is not None
        return hmac.new(self._token, f"kineme session until {expiry}".encode(), hashlib.sha256).hexdigest()


def _same(one: bytes, other: bytes) -> bool:
    # Digests are of one length, so that not even the token's length can be measured.
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())
