"""A service as its tests need it: a real index of digits, real runs, real decoders, and a real server in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from video_files import write_video

from kineme.pipeline.server import Bind
from kineme.pipeline.serving import RunStudio
from kineme.retrieval.service.app import make_app
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.library import Library
from kineme.retrieval.service.settings import ServiceSettings
from kineme.shards.decode_pool import Limits
from kineme.shards.decode_video import Bounds

LIMITS = Limits(silence_s=20.0, memory_bytes=1 << 30, total_s=60.0)
BOUNDS = Bounds(pixels=640 * 480, seconds=20.0)


class Client(httpx.Client):
    """Of one service, whose insides it shows, too."""

    desk: Desk

    @property
    def keys(self) -> list[str]:
        """Keys of the index, in its order."""
        return self.desk.library.index.keys

    @property
    def scratch(self) -> Path:
        """Where uploads lie while they are in work."""
        with self.desk.scratch() as path:
            return path.parent


@contextmanager
def serving(index: Path, studio: RunStudio, *, check_s: float = 0.0, **settings: Any) -> Iterator[Client]:
    """A client of a service over an index; ``settings`` are those of `ServiceSettings`."""
    app = make_app(Library(index, studio, check_s=check_s), studio, ServiceSettings(**settings))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
    with Bind("127.0.0.1", 0).open() as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with Client(base_url=address, timeout=120) as client:
                client.desk = app.state.desk
                while not server.started and thread.is_alive():
                    time.sleep(0.01)
                yield client
        finally:
            server.should_exit = True
            thread.join()


def problem_of(response: httpx.Response, status: int) -> str:
    """The detail of a problem, after a look at its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content.keys() == {"type", "title", "status", "detail"}
    assert content["status"] == status
    assert "\n" not in content["detail"]
    assert content["detail"]
    return str(content["detail"])


def send(
    client: httpx.Client, content: bytes, route: str = "/search", name: str = "clip.mp4", **fields: Any
) -> httpx.Response:
    """Upload a file."""
    return client.post(route, files={"file": (name, content, "video/mp4")}, data=fields)


def video_bytes(folder: Path, frames: int = 30, size: tuple[int, int] = (48, 64), fps: int = 25) -> bytes:
    """A video that plays."""
    path = folder / f"{frames}-{size[0]}-{fps}.mp4"
    write_video(path, frames, size, "libx264", fps)
    return path.read_bytes()
