"""Runs the HTTP service until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kineme.pipeline.errors import RunError
from kineme.retrieval.service.settings import ServiceSettings
from kineme.shards.decode_pool import Limits
from kineme.shards.decode_video import Bounds

# Seconds that requests in work have when the service is told to stop.
_GRACE_S = 5
_BACKLOG = 2048


@dataclass(frozen=True)
class Bind:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int

    def open(self) -> socket.socket:
        """A socket that listens.

        Raises:
            RunError: there is no such address, or it is taken.
        """
        try:
            (family, _, _, _, address), *_ = socket.getaddrinfo(
                self.host.strip("[]"), self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            listening = socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as error:
            # create_server adds the address to what is wrong with it, which stands here already.
            reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise RunError(
                f"--host {self.host} --port {self.port}: {reason}; choose another port, or 0 for a free one"
            ) from None
        # Connections inherit it. asyncio sets it on its own sockets alone; without it the body of an answer waits until
        # the client has acknowledged the head, 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening


def run_service(
    index: Path,
    settings: ServiceSettings,
    bind: Bind,
    *,
    limits: Limits,
    bounds: Bounds,
    predictor: Path | None,
    run: Path | None,
    say: Callable[[str], object],
) -> None:
    """Serve an index until SIGINT or SIGTERM.

    Args:
        index: index folder.
        settings: bounds, and the token.
        bind: where to listen.
        limits, bounds: of what a stranger's video may take.
        predictor, run: folders of the runs that draw.
        say: told the address, once connections are taken.

    Raises:
        RunError: a package of the service is missing, a run is of another kind, or the address is taken.
        RetrievalError: the index cannot be opened.
    """
    try:
        import uvicorn

        from kineme.retrieval.service.app import make_app
    except ModuleNotFoundError as error:
        raise RunError(
            f"{error.name} is missing: install what the service needs: pip install 'kineme[service]'"
        ) from None
    from kineme.pipeline.serving import RunStudio
    from kineme.retrieval.service.library import Library

    logging.basicConfig(format="kineme: %(message)s", level=logging.WARNING)
    # uvicorn ends in good order when it is interrupted, and raises the signal again after that.
    with (
        suppress(KeyboardInterrupt),
        bind.open() as listening,
        _Stop(),
        RunStudio(limits, bounds, predictor=predictor, run=run) as studio,
    ):
        library = Library(index, studio)
        config = uvicorn.Config(
            make_app(library, studio, settings),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_S,
        )
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{port}/ serves {library.index.count} clips of {index}; Ctrl-C ends it")
        uvicorn.Server(config).run(sockets=[listening])


class _Stop:
    """While it is entered, SIGTERM ends the program in good order, so that nothing is left in temporary folders."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._end)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _end(self, number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)
