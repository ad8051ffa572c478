"""What is worked out of an index once and kept while the index is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from kineme.retrieval.index import Index

T = TypeVar("T")


class Kept(Generic[T]):
    """The result of slow work on the open index: whoever asks first starts it, whoever asks meanwhile waits for it.

    Used from one event loop.

    Args:
        make: does the work.
    """

    def __init__(self, make: Callable[[Index], Awaitable[T]]) -> None:
        self._make = make
        self._index: Index | None = None
        self._work: asyncio.Future[T] | None = None

    async def of(self, index: Index) -> T:
        """The result for an index. Raises what the work raised; asked again, it is tried again."""
        work = self._work
        if work is None or index is not self._index:
            work = self._work = asyncio.ensure_future(self._make(index))
            self._index = index
            work.add_done_callback(self._look)
        # Shielded: others wait for the same work when one client leaves.
        return await asyncio.shield(work)

    def _look(self, work: asyncio.Future[T]) -> None:
        if (work.cancelled() or work.exception() is not None) and self._work is work:
            self._work = None
