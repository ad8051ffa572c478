"""The child process of :mod:`kineme.shards.decode_pool`: ``python -m kineme.shards.decode_worker FD BYTES``.

It takes one video at a time from the socket FD and answers with messages, the last of them Done or Unusable. What it
cannot survive (a segmentation fault, a decoder that never returns, more memory than BYTES) costs that one video.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from kineme.shards.decode_video import Beat, Message, Task, decode_video

_BEAT_S = 0.5


def _serve(connection: Connection[Message, Any]) -> None:
    last = 0.0

    def beat() -> None:
        nonlocal last
        if (now := time.monotonic()) - last > _BEAT_S:
            last = now
            connection.send(Beat())

    connection.send(Beat())
    while True:
        try:
            task: Task = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        for message in decode_video(task, beat):
            connection.send(message)


def _die_with_parent() -> None:
    """A hung decoder does not notice that its parent is gone; Linux tells it with a signal it cannot ignore."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _limit_memory(limit: int) -> None:
    """Refuse allocations beyond ``limit`` bytes: an error here, where the system's own answer may kill any process."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group; the parent ends its children itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    _limit_memory(int(sys.argv[2]))
    _serve(Connection(int(sys.argv[1])))
