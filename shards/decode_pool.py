"""Killable decoder processes: one video each at a time, results in the order of the videos.

The workers are programs of their own rather than multiprocessing children: nothing of the parent is imported again (no
``if __name__ == "__main__"`` is asked of the caller), and a killed one leaves no shared lock behind.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kineme.shards.decode_video import Clip, Done, Message, Restart, Task, Unusable
from kineme.shards.errors import DataError

_LOOK_AHEAD = 4  # videos in hand per worker: bounds the memory when one video takes long
_LEAST_MEMORY = 1 << 29  # the libraries alone take a third of it
_SPOOL_BYTES = 8 << 20  # clips of a video beyond this wait on disk


def default_workers() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Limits:
    """What a video may take before it is given up.

    Attributes:
        silence_s: seconds without a decoded frame, above 0.
        memory_bytes: private memory of its decoder process.
        total_s: seconds it may take in all, with what it waits for a decoder to start; None: any.
    """

    silence_s: float = 120.0
    memory_bytes: int = 4 << 30
    total_s: float | None = None

    def __post_init__(self) -> None:
        if not self.silence_s > 0:
            raise DataError(f"--deadline {self.silence_s:g}: more than 0 seconds are needed")
        if self.memory_bytes < _LEAST_MEMORY:
            raise DataError(
                f"--memory-gb {self.memory_bytes / (1 << 30):g}: at least {_LEAST_MEMORY / (1 << 30):g} is needed"
            )


@dataclass
class DecodedVideo:
    """A finished video: how it ended, and its clips, which can be read once."""

    end: Done | Unusable
    _spool: tempfile.SpooledTemporaryFile[bytes]
    _count: int

    def clips(self) -> Iterator[Clip]:
        """The clips in order; none if it was unusable."""
        with self._spool:
            self._spool.seek(0)
            for _ in range(self._count):
                yield pickle.load(self._spool)

    def drop(self) -> None:
        """Free the clips unread."""
        self._spool.close()


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Message]
    number: int | None = None
    unread: Task | None = None  # what it was given first, until it begins to read
    started: bool = False
    given: float = 0.0
    heard: float = 0.0
    clips: int = 0
    spool: tempfile.SpooledTemporaryFile[bytes] | None = field(default=None)


class DecodePool:
    """``workers`` decoder processes; a context manager, which ends them.

    Args:
        workers: number of processes, >= 1.
        limits: a worker that goes beyond them is killed or its allocation refused, and its video reported as unusable.
        scratch: folder for clips that wait on disk.
        quiet: drop what the libraries say of a damaged video on stderr.
    """

    def __init__(self, workers: int, limits: Limits, scratch: Path, *, quiet: bool = False) -> None:
        self._limits = limits
        self._scratch = scratch
        self._stderr = subprocess.DEVNULL if quiet else None
        self._workers: list[_Worker] = []
        self._finished: dict[int, DecodedVideo] = {}
        self._count = workers

    def __enter__(self) -> Self:
        self._workers = [self._start() for _ in range(self._count)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget()
        for worker in self._workers:
            self._end(worker)

    def decode(self, tasks: Iterable[Task]) -> Iterator[DecodedVideo]:
        """One result a task, in the order of the tasks, which are taken a few ahead.

        However it ends, the pool can be used again.
        """
        try:
            yield from self._decode(tasks)
        finally:
            self._forget()

    def _decode(self, tasks: Iterable[Task]) -> Iterator[DecodedVideo]:
        waiting = iter(tasks)
        given = wanted = 0
        while True:
            for worker in self._workers:
                if worker.number is None and given < wanted + _LOOK_AHEAD * self._count:
                    if worker.process.poll() is not None:
                        worker = self._renew(worker)
                    if (task := next(waiting, None)) is None:
                        break
                    self._give(worker, given, task)
                    given += 1
            if wanted == given:
                return
            if wanted in self._finished:
                yield self._finished.pop(wanted)
                wanted += 1
            else:
                self._listen()

    def _forget(self) -> None:
        """End what is still in work: its results would be taken for those of the next tasks."""
        for worker in self._workers:
            if worker.number is not None:
                self._end(worker)
                worker.number = worker.spool = None
        for video in self._finished.values():
            video.drop()
        self._finished.clear()

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        with theirs:
            descriptor = theirs.fileno()
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kineme.shards.decode_worker"),
                    *(str(descriptor), str(self._limits.memory_bytes)),
                ],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stderr=self._stderr,
            )
        return _Worker(process, ours)

    def _end(self, worker: _Worker) -> None:
        worker.connection.close()
        if worker.spool is not None:
            worker.spool.close()
        worker.process.kill()
        worker.process.wait()

    def _give(self, worker: _Worker, number: int, task: Task) -> None:
        worker.number, worker.clips, worker.unread = number, 0, task
        worker.given = worker.heard = time.monotonic()
        worker.spool = tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=str(self._scratch))  # noqa: SIM115
        with suppress(BrokenPipeError):  # it died while idle: _listen will find its end closed
            worker.connection.send(task)

    def _listen(self) -> None:
        """Take what the workers said, then look for those that fell silent."""
        busy = {worker.connection: worker for worker in self._workers if worker.number is not None}
        for ready in wait(list(busy), timeout=min(1.0, self._limits.silence_s / 4, (self._limits.total_s or 4) / 4)):
            worker = busy[ready]  # type: ignore[index]
            try:
                self._hear(worker, worker.connection.recv())
            except (EOFError, ConnectionResetError, pickle.UnpicklingError):
                self._bury(worker)
        now = time.monotonic()
        for worker in busy.values():
            silent = worker.started and now - worker.heard > self._limits.silence_s
            if worker.number is None:
                continue
            if silent and not worker.connection.poll():
                reason = f"no frame was decoded for {self._limits.silence_s:g} s; see --deadline"
                self._replace(worker, Unusable(reason, "slow"))
            elif self._limits.total_s is not None and now - worker.given > self._limits.total_s:
                self._replace(worker, Unusable(f"not decoded after {self._limits.total_s:g} s", "slow"))

    def _hear(self, worker: _Worker, message: Message) -> None:
        worker.started, worker.heard = True, time.monotonic()
        match message:
            case Clip():
                assert worker.spool is not None
                pickle.dump(message, worker.spool)
                worker.clips += 1
            case Restart():
                assert worker.spool is not None
                worker.spool.seek(0)
                worker.spool.truncate()
                worker.clips, worker.unread = 0, None
            case Done() | Unusable():
                self._close(worker, message)
            case _:
                pass

    def _close(self, worker: _Worker, end: Done | Unusable) -> None:
        assert worker.spool is not None
        assert worker.number is not None
        self._finished[worker.number] = DecodedVideo(end, worker.spool, worker.clips if isinstance(end, Done) else 0)
        worker.number, worker.spool = None, None

    def _death(self, worker: _Worker) -> Unusable:
        code = worker.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Unusable(f"the decoder process died ({how})", "died")

    def _replace(self, worker: _Worker, end: Unusable) -> None:
        """End a worker that hangs or died, report its video, and put a new one in its place."""
        self._close(worker, end)
        self._renew(worker)

    def _bury(self, worker: _Worker) -> None:
        """What kills a worker that had not begun to read is not its video: this goes to a new one, once."""
        task, number, given = worker.unread, worker.number, worker.given
        if task is None:
            self._replace(worker, self._death(worker))
        else:
            assert number is not None
            worker.number = None
            fresh = self._renew(worker)
            self._give(fresh, number, task)
            fresh.unread, fresh.given = None, given

    def _renew(self, worker: _Worker) -> _Worker:
        self._end(worker)
        fresh = self._workers[self._workers.index(worker)] = self._start()
        return fresh
