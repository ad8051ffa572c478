"""Threads for work that would hold up the event loop: a lane for each kind, first come, first served, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kineme.retrieval.service.problems import ProblemError

T = TypeVar("T")


class Lane:
    """Some threads, and a queue before them; used from one event loop.

    Args:
        name: of the threads.
        threads: calls at a time.
        queue: calls that may wait.
        prepare: called once in each thread.
    """

    def __init__(self, name: str, threads: int, queue: int, prepare: Callable[[], object] = lambda: None) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"kineme-{name}", initializer=prepare)
        self._room = threads + queue

    async def run(self, work: Callable[[], T]) -> T:
        """Do work in a thread; the event loop goes on meanwhile.

        Raises:
            ProblemError: too many wait already (503).
        """
        if not self._room:
            raise ProblemError(503, "too many requests wait already; ask again in a second", {"Retry-After": "1"})
        self._room -= 1
        # Shielded: a client that leaves does not free the thread that still works for it.
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[T]) -> None:
        self._room += 1
        if not future.cancelled():
            # Looked at here, where a client has left nobody else will.
            future.exception()

    def close(self) -> None:
        """Wait for what is in work; what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
