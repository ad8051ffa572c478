"""What every route of the service works with: the library, the studio, the bounds, and threads for slow work.

A route finds it by :func:`desk_of`.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import faiss
from fastapi import Request

from kineme.retrieval.service.forms import MULTIPART, Fields, media_type, read_fields, read_upload
from kineme.retrieval.service.lanes import Lane
from kineme.retrieval.service.library import Library
from kineme.retrieval.service.metrics import Metrics
from kineme.retrieval.service.problems import ProblemError, as_problem
from kineme.retrieval.service.settings import ServiceSettings
from kineme.retrieval.service.studio import Studio


@dataclass(frozen=True)
class Asked:
    """The body of a request: its fields, and where its video is as long as the request is in work."""

    fields: Fields
    video: Path | None


class Desk:
    """The parts of one running service.

    Attributes:
        library: the index.
        studio: decoders and networks.
        settings: bounds.
        metrics: counters.
        searches: threads for reading and searching the index.
        decoders: threads that wait for decoders.
        networks: one thread for all that computes with networks.
        layouts: one thread for maps, which take seconds.
    """

    def __init__(self, library: Library, studio: Studio, settings: ServiceSettings) -> None:
        self.library = library
        self.studio = studio
        self.settings = settings
        self.metrics = Metrics(library)
        processors = os.cpu_count() or 1
        # A search has a thread of its own, and more threads than processors hold one another up.
        self.searches = Lane("search", processors, settings.queue, lambda: faiss.omp_set_num_threads(1))
        self.decoders = Lane("decode", processors, settings.slow_queue)
        self.networks = Lane("network", 1, settings.slow_queue)
        self.layouts = Lane("layout", 1, settings.slow_queue)
        # Nobody else may look into it, and it goes with the service.
        self._scratch = tempfile.TemporaryDirectory(prefix="kineme-serve-")
        self._uploads = 0

    def close(self) -> None:
        """End the threads, and remove what was left of uploads."""
        for lane in (self.searches, self.decoders, self.networks, self.layouts):
            lane.close()
        self.library.close()
        self._scratch.cleanup()

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[Asked]:
        """Read the body of a request; the video that it may hold is gone when the block ends.

        Raises:
            ProblemError: it cannot be read, is beyond the bounds, or too many uploads are in work.
        """
        if media_type(request) != MULTIPART:
            fields = await read_fields(request, most_bytes=self.settings.json_bytes, seconds=self.settings.upload_s)
            yield Asked(fields, None)
            return
        with self._counted(), self.scratch() as video:
            fields = await read_upload(
                request, video, most_bytes=self.settings.upload_bytes, seconds=self.settings.upload_s
            )
            yield Asked(fields, video if video.exists() else None)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A name for a file that is gone when the block ends."""
        path = Path(self._scratch.name, secrets.token_hex(16))
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """One of the uploads in work; those that are refused are counted."""
        try:
            if self._uploads >= self.settings.uploads:
                busy = f"{self._uploads} uploads are in work: ask again in a second"
                raise ProblemError(429, busy, {"Retry-After": "1"}, "busy")
            self._uploads += 1
            try:
                yield
            finally:
                self._uploads -= 1
        except Exception as error:
            if (refusal := as_problem(error).refusal) is not None:
                self.metrics.refused(refusal)
            raise


def desk_of(request: Request) -> Desk:
    """The desk of the app that answers a request."""
    desk: Desk = request.app.state.desk
    return desk
