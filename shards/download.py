"""Downloading one file: gone on with after a cut, checked, and under its final name only when it is whole."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from kineme.shards.errors import DataError
from kineme.shards.manifest import publish, write_atomically

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here, and those of the whole file if the server says."""

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_LONGEST_PAUSE_S = 60.0
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_RANGE_IS_WRONG = 416
_OFFLINE = {errno.ENETUNREACH, errno.EHOSTUNREACH}


class UnreachableError(DataError):
    """The server cannot be reached, or does not hold the file."""


class _InterruptedError(Exception):
    """An attempt failed and another may not. ``pause_s``: how long the server wants to be left alone."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


@dataclass(frozen=True)
class Published:
    """What its publisher says of a file: bytes and checksums in hex digits; None where that is not said."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def check(self, path: Path) -> tuple[str, str | None]:
        """The file's sha256, and how it differs from what is published, if it does."""
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                size += len(chunk)
                if self.md5 is not None:
                    md5.update(chunk)
        found = (
            ("bytes", size, self.size),
            ("sha256", sha256.hexdigest(), self.sha256),
            ("md5", md5.hexdigest(), self.md5),
        )
        wrong = [f"{name} {mine}, published {theirs}" for name, mine, theirs in found if theirs not in (None, mine)]
        return sha256.hexdigest(), wrong[0] if wrong else None


def download(
    url: str,
    to: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    pauses_s: Sequence[float] = _PAUSES_S,
) -> str:
    """Download a file, or finish what an earlier call left as ``NAME.part``; a file that is there is only checked.

    What is there already is used only if the server says that it still serves the same file (If-Range with its ETag or
    date of change), else the download starts over.

    Args:
        url: http or https.
        to: the file to make; its folder must exist.
        sha256, md5: published checksums, hex digits.
        size: published size in bytes.
        progress: called as the bytes come in.
        pauses_s: seconds to wait before another attempt; it is given up when so many in a row brought nothing new.

    Returns:
        The file's sha256.

    Raises:
        UnreachableError: no network, no such file, or a server that fails again and again; what has come is kept.
        DataError: the checksum or size is wrong: nothing is left of it. Or ``to`` is there and is another file.
        OSError: the disk is full or read-only; what has come is kept.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: only http and https are downloaded")
    published = Published(size, sha256, md5)
    if to.exists():
        found, wrong = published.check(to)
        if wrong is not None:
            raise DataError(f"{to}: is not the published file ({wrong}); move it away, or delete it to get it again")
        return found
    part, note = to.with_name(f"{to.name}.part"), to.with_name(f"{to.name}.part.json")
    with _open_alone(part) as file:
        _Attempts(url, to, file, note, published, progress or (lambda done, total: None)).run(pauses_s)
        os.fsync(file.fileno())
        found, wrong = published.check(part)
        if wrong is None:
            publish(part, to)
        else:
            part.unlink()
        note.unlink(missing_ok=True)
    if wrong is not None:
        raise DataError(f"{url}: what came is not the published file ({wrong}) and was deleted; try again later")
    return found


@contextmanager
def _open_alone(part: Path) -> Iterator[FileIO]:
    """Open or create the file that is being downloaded, and keep a second download out of it."""
    with open(part, "a+b", buffering=0) as file:  # noqa: PTH123 - its type says that it is not buffered
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = _is_still(part, file)
        except BlockingIOError:
            mine = False
        if not mine:
            raise DataError(f"{part}: another download is writing it; wait for that one, or stop it")
        try:
            yield file
        finally:
            if _is_still(part, file) and not os.fstat(file.fileno()).st_size:
                part.unlink()


def _is_still(path: Path, file: FileIO) -> bool:
    """Whether ``file`` has that name: another process may have finished it and given it its final one."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


@dataclass(frozen=True)
class _Note:
    """What is known of the file that an unfinished download is of; kept beside it.

    Attributes:
        url: where it is from.
        validator: its ETag or date of change.
        bytes: of the whole file.
    """

    url: str
    validator: str | None
    bytes: int | None

    @classmethod
    def load(cls, path: Path) -> _Note | None:
        """None if there is no note, or none that can be read."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        write_atomically(path, json.dumps(asdict(self)).encode())


@dataclass(frozen=True)
class _Attempts:
    """Getting one file in as many requests as it takes."""

    url: str
    to: Path
    file: FileIO
    note: Path
    published: Published
    progress: Progress

    def run(self, pauses_s: Sequence[float]) -> None:
        """Until the file is whole, or as many attempts as there are pauses brought nothing new."""
        most = failures = 0
        while True:
            try:
                self._attempt()
                return
            except _InterruptedError as error:
                if self._length() > most:
                    most, failures = self._length(), 0
                if failures == len(pauses_s):
                    raise self._unreachable(str(error)) from error
                time.sleep(max(pauses_s[failures], error.pause_s))
                failures += 1

    def _attempt(self) -> None:
        old = _Note.load(self.note)
        start = self._length()
        if old is None or old.url != self.url or old.validator is None or not start:
            old, start = None, 0
        elif start == old.bytes:
            return
        with self._ask(start, old) as answer:
            validator = _validator(answer)
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                start, total = 0, answer.length
            elif old is not None and _first_byte(answer) == start and validator in (None, old.validator):
                validator = old.validator
                total = None if answer.length is None else start + answer.length
            else:
                self._start_over("the server sent another part than was asked for")
            self._check_total(total, answer)
            self.file.truncate(start)
            _Note(self.url, validator, total).save(self.note)
            self._receive(answer, total)

    def _receive(self, answer: http.client.HTTPResponse, total: int | None) -> None:
        done = self._length()
        self.progress(done, total)
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _InterruptedError(_reason(error)) from error
            if not chunk:
                break
            self._write(chunk)
            done += len(chunk)
            self.progress(done, total)
        if total is not None and done < total:
            raise _InterruptedError(f"cut off after {done} of {total} bytes")

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; what has come is kept", self.file.name) from error

    def _ask(self, start: int, old: _Note | None) -> http.client.HTTPResponse:
        headers = {"User-Agent": "kineme", "Accept-Encoding": "identity"}
        if old is not None and old.validator is not None:
            headers |= {"Range": f"bytes={start}-", "If-Range": old.validator}
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(
                urllib.request.Request(self.url, headers=headers), timeout=_TIMEOUT_S
            )
        except urllib.error.HTTPError as error:
            with error:
                if error.code == _RANGE_IS_WRONG:
                    self._start_over("the file there is shorter now")
                reason = f"HTTP {error.code} {error.reason}"
                if error.code in _PASSING:
                    raise _InterruptedError(reason, _pause(error.headers.get("Retry-After"))) from error
                raise self._unreachable(reason) from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            hopeless = isinstance(cause, OSError) and cause.errno in _OFFLINE
            if hopeless or isinstance(cause, socket.gaierror | ssl.SSLCertVerificationError):
                raise self._unreachable(_reason(cause)) from error
            raise _InterruptedError(_reason(cause)) from error
        return answer

    def _check_total(self, total: int | None, answer: http.client.HTTPResponse) -> None:
        published = self.published
        if None not in (total, published.size) and total != published.size:
            self.file.truncate(0)
            raise DataError(f"{self.url}: the file there has {total} bytes, the published one {published.size}")
        if total is None and not answer.chunked and published == Published():
            raise self._unreachable("the server does not say how long the file is, so a cut would not be seen")

    def _start_over(self, reason: str) -> None:
        self.file.truncate(0)
        raise _InterruptedError(reason)

    def _length(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def _unreachable(self, reason: str) -> UnreachableError:
        return UnreachableError(f"{self.url}: cannot be had ({reason}); get it by hand and place it as {self.to}")


def _validator(answer: http.client.HTTPResponse) -> str | None:
    """What tells whether the file is still the same; a weak ETag does not."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _first_byte(answer: http.client.HTTPResponse) -> int | None:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _pause(retry_after: str | None) -> float:
    return min(float(retry_after), _LONGEST_PAUSE_S) if retry_after and retry_after.isdigit() else 0.0


def _reason(error: object) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
