"""Threads for slow work: first come, first served, and no more waiting than there is room for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kineme.retrieval.service.lanes import Lane
from kineme.retrieval.service.problems import ProblemError


def test_who_comes_first_is_served_first_and_too_many_are_sent_away() -> None:
    async def run() -> None:
        lane = Lane("test", 1, 3)
        hold, order = threading.Event(), []
        waiting = [asyncio.ensure_future(lane.run(lambda: hold.wait(60)))]
        waiting += [asyncio.ensure_future(lane.run(lambda n=number: order.append(n))) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ProblemError, match="too many requests wait") as refusal:
            await lane.run(lambda: order.append(99))
        assert (refusal.value.status, refusal.value.headers) == (503, {"Retry-After": "1"})
        hold.set()
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2]
        # There is room again.
        assert await lane.run(lambda: 7) == 7
        lane.close()

    asyncio.run(run())


def test_a_client_that_leaves_holds_its_place_until_its_work_is_done() -> None:
    async def run() -> None:
        lane = Lane("test", 1, 1)
        hold = threading.Event()
        first = asyncio.ensure_future(lane.run(lambda: hold.wait(60)))
        second = asyncio.ensure_future(lane.run(lambda: 1))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(ProblemError):
            await lane.run(lambda: 2)
        hold.set()
        assert await second == 1
        lane.close()

    asyncio.run(run())


def test_what_work_raises_comes_to_who_asked() -> None:
    async def run() -> None:
        lane = Lane("test", 1, 1)
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 // 0)
        lane.close()

    asyncio.run(run())
