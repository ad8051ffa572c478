"""Shard work on a Ray cluster: one task a shard, one processor a task. Needs ``kineme[ray]`` on every node.

A shard is planned before anything is decoded and written under a name of its own until it is whole, so a task that was
lost with its node is simply done again elsewhere, and the bytes are those that one machine would have written.
"""

from __future__ import annotations

import platform
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from kineme.shards.decode_pool import DecodePool, Limits, default_workers
from kineme.shards.errors import DataError
from kineme.shards.shard_work import OnVideo, ShardResult, ShardWork, write_shard

RETRIES = 5
"""How often the shard of a lost node is done again before the ingest gives up."""
_ANSWER_S = 10.0
_WAITING = 2  # shards in hand per processor of the cluster: work does not run dry, and its description stays small


@dataclass(frozen=True)
class RayEngine:
    """Decodes wherever the cluster has a free processor. All nodes must see the source and the output at the same path.

    Attributes:
        address: of the cluster, as Ray names it (``HOST:6379``, ``auto``); None starts one on this machine.
        limits: what a video may take before it is given up.
        workers: processors of a cluster on this machine, and threads that look for duplicates, >= 1.

    Raises:
        DataError: nothing answers at the address.
    """

    address: str | None = None
    limits: Limits = field(default_factory=Limits)
    workers: int = field(default_factory=default_workers)

    def __post_init__(self) -> None:
        # Before anything is planned, so that a wrong address leaves nothing behind.
        _check_answers(self.address)

    def run(self, works: Sequence[ShardWork], on_video: OnVideo) -> Generator[ShardResult, None, None]:
        """Results in the order in which the shards are finished.

        Raises:
            DataError: Ray is not installed, the cluster does not answer, a node does not see the folders, or lost nodes
                took the same shard with them too often.
            OSError: the disk is full or cannot be written.
        """
        if not works:
            return
        with _cluster(self.address, self.workers) as ray:
            task = ray.remote(num_cpus=1, max_retries=RETRIES)(_do)
            room = _WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
            waiting = iter(works)
            running: dict[Any, ShardWork] = {}
            while True:
                for work in islice(waiting, room - len(running)):
                    running[task.remote(work, self.limits)] = work
                if not running:
                    return
                (done,), _ = ray.wait(list(running), num_returns=1)
                work = running.pop(done)
                try:
                    result: ShardResult | OSError | DataError = ray.get(done)
                except ray.exceptions.RayError as error:
                    raise DataError(
                        f"shard {work.number}: its node was lost {RETRIES + 1} times ({type(error).__name__}); look "
                        "at the nodes' memory and logs, then run the same command again: it goes on from here"
                    ) from error
                if not isinstance(result, ShardResult):
                    raise result
                for outcome in result.outcomes:
                    on_video(outcome.clips)
                yield result


def _do(work: ShardWork, limits: Limits) -> ShardResult | OSError | DataError:
    """On a node. What the user can mend is returned: raised, Ray would wrap it in the node's traceback."""
    for folder in (work.root, work.out):
        if not folder.exists():
            return DataError(
                f"{folder}: is not on node {platform.node()}; --engine ray needs the source and --out at the same path "
                "of a file system that all nodes share"
            )
    try:
        with DecodePool(1, limits, work.out) as pool:
            return write_shard(work, pool.decode(work.tasks()), lambda _: None)
    except (OSError, DataError) as error:
        return error


@contextmanager
def _cluster(address: str | None, workers: int) -> Generator[Any, None, None]:
    """The ray module, connected; left connected if it was."""
    try:
        import ray
    except ImportError as error:
        raise DataError("--engine ray: Ray is not installed; pip install 'kineme[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    here: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Ray itself tries for minutes, and then ends the process."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> DataError:
    return DataError(
        f"--address {address}: no Ray cluster answers there ({str(error).splitlines()[0]}); start one with ray start, "
        "or leave the address out"
    )
