"""How things are measured: whole programs, run in turn, and what their processes took."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

_POLL_S = 0.1


class MeasurementError(RuntimeError):
    """A program that was to be measured failed, or did something else than it should."""


@dataclass(frozen=True)
class Run:
    """One run of a program.

    Attributes:
        seconds: by the clock on the wall, from start to end of the program.
        cpu_seconds: user and system time of it and all its children.
        peak_mb: most memory that the program itself held, in 10^6 bytes.
        child_mb: most memory that any one of its children held.
        anonymous_mb: likewise of it and its children together, without files mapped into memory, which the system
            takes back when it needs to.
        result: what it printed as JSON on its last line; empty if it printed none.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    child_mb: float
    anonymous_mb: float
    result: dict[str, Any] = field(default_factory=dict)


def run_program(command: Sequence[str | Path], may_exit: Iterable[int] = (0,)) -> Run:
    """Run a program to its end.

    Raises:
        MeasurementError: it ended with another exit code than ``may_exit``.
    """
    words = [str(word) for word in command]
    started = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        memory = _MemoryWatch(process.pid)
        collected: list[str] = []
        # Two pipes: one that fills up while the other is read would stop the program.
        reader = threading.Thread(target=lambda: collected.append(process.stderr.read() if process.stderr else ""))
        reader.start()
        output = process.stdout.read() if process.stdout else ""
        reader.join()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        memory.stop()
    if process.returncode not in may_exit:
        raise MeasurementError(f"{shlex.join(words)} ended with {process.returncode}:\n{collected[0][-2000:]}")
    return Run(
        round(seconds, 4),
        round(usage.ru_utime + usage.ru_stime, 4),
        memory.peak_mb,
        memory.child_mb,
        memory.anonymous_mb,
        _last_json(output),
    )


def _last_json(output: str) -> dict[str, Any]:
    last = output.rstrip().rpartition("\n")[2]
    return dict(json.loads(last)) if last.startswith("{") else {}


class _MemoryWatch:
    """Looks at the memory of a process and its descendants ten times a second.

    The kernel itself keeps the most that each process ever held (VmHWM), so a peak between two looks is seen.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb = self.child_mb = self.anonymous_mb = 0.0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_S):
            processes = [_memory(pid) for pid in descendants(self._pid)]
            own = _memory(self._pid)
            self.peak_mb = max(self.peak_mb, own.get("VmHWM", 0.0))
            self.child_mb = max([self.child_mb, *(process.get("VmHWM", 0.0) for process in processes)])
            held = sum(process.get("RssAnon", 0.0) + process.get("RssShmem", 0.0) for process in [own, *processes])
            self.anonymous_mb = max(self.anonymous_mb, held)


def descendants(pid: int) -> list[int]:
    """The processes that ``pid`` started, and those that they started."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # it has ended
        return []
    return children + [grandchild for child in children for grandchild in descendants(child)]


def _memory(pid: int) -> dict[str, float]:
    """Lines of /proc/PID/status that are sizes, in 10^6 bytes; empty if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 / 1e6 for name, size, _ in words}


def alternate(sides: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Run all sides in turn, ``rounds`` times; every second round backwards, so that no side always follows another."""
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            run = sides[name]()
            runs[name].append(run)
            print(f"  round {number + 1} of {rounds}  {name}: {run.seconds:.2f} s", flush=True)
    return runs


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest, as figures."""
    return {name: median(values), f"{name}/lowest": min(values), f"{name}/highest": max(values)}


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round, so that what slows the machine for a while slows both sides."""
    return [a / b for a, b in zip(over, under, strict=True)]


def times(runs: Sequence[Run]) -> list[float]:
    """Seconds by the clock on the wall."""
    return [run.seconds for run in runs]


def as_json(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[dict[str, Any]]]:
    """Every single run, to be kept beside the figures."""
    return {name: [asdict(run) for run in side] for name, side in runs.items()}


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_name() -> str:
    """The processor's product name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
