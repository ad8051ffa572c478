"""A real HTTP server for the tests, which can be told to misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """Serves ``files`` by path.

    Attributes:
        url: its address, without a slash at the end.
        files: what it serves; change it to change a file at its origin.
        ranges: whether it knows Range and If-Range.
        stubborn: it sends the part that is asked for even if If-Range does not hold any more.
        tags: whether it sends ETags.
        lengths: whether it says how long an answer is; if not, the end of the connection is the end of the file.
        cuts: bytes after which the next connections are cut, one after the other.
        statuses: HTTP statuses with which the next requests fail.
        pause_s: time between two pieces of 64 KiB.
        asked: (path, Range) of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    stubborn: bool = False
    tags: bool = True
    lengths: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def tag(self, path: str) -> str:
        return f'"{hash(self.files[path]) & 0xFFFFFFFF:08x}"'


@contextmanager
def serving(**files: bytes) -> Iterator[FileServer]:
    server = FileServer(files={f"/{name}": data for name, data in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            span = self.headers.get("Range")
            server.asked.append((self.path, span))
            status = server.statuses.pop(0) if server.statuses else 200 if self.path in server.files else 404
            if status != 200:
                self.send_error(status)
                return
            data, start = server.files[self.path], 0
            holds = self.headers.get("If-Range") in (None, server.tag(self.path)) or server.stubborn
            if span is not None and server.ranges and holds:
                start = int(span.removeprefix("bytes=").removesuffix("-"))
                if start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            if server.tags:
                self.send_header("ETag", server.tag(self.path))
            if server.lengths:
                self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self._send(data[start:])

        def _send(self, body: bytes) -> None:
            body = body[: server.cuts.pop(0)] if server.cuts else body
            try:
                for place in range(0, len(body), 1 << 16):
                    self.wfile.write(body[place : place + (1 << 16)])
                    time.sleep(server.pause_s)
            except OSError:  # the other side went away
                pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
