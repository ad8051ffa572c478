"""Runs ``kineme ingest`` and listens: how it ended, when it said how far it was, whether it hung or left processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRESS = re.compile(r"(?:(\w+): )?(\d+) of (\d+) videos")


@dataclass
class Listened:
    """What was heard.

    Attributes:
        code: exit code; None if it fell silent and was killed.
        output: all of stdout.
        errors: lines of stderr that are not about progress.
        left: number of its processes that outlived it.
        gaps: for each line of progress the seconds since the one before, and the number of videos it stands for.
    """

    code: int | None = None
    output: str = ""
    errors: list[str] = field(default_factory=list)
    left: int = 0
    gaps: list[tuple[float, int]] = field(default_factory=list)


def listen(command: Sequence[str], patience_s: float) -> Listened:
    """Run a command in a session of its own, and kill it when it says nothing for ``patience_s`` seconds."""
    heard = Listened()
    last, done = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )

        def read() -> None:
            nonlocal last, done
            assert process.stderr is not None
            for line in process.stderr:
                found = PROGRESS.search(line)
                if found is None:
                    heard.errors.append(line.rstrip("\n"))
                elif found[1] != "comparing":
                    now, before = time.monotonic(), done
                    done = int(found[2])
                    heard.gaps.append((now - last, done - before))
                    last = now

        reader = threading.Thread(target=read)
        reader.start()
        hung = False
        while process.poll() is None and not hung:
            time.sleep(0.1)
            hung = time.monotonic() - last > patience_s
        if not hung and _others(process.pid):
            time.sleep(1)  # for children that are just ending
        heard.left = 0 if hung else len(_others(process.pid))
        if hung or heard.left:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        output.seek(0)
        heard.output = output.read()
    heard.code = None if hung else process.returncode
    return heard


def _others(leader: int) -> set[int]:
    """The living processes of a session, without its first."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has ended meanwhile
            continue
        if int(session) == leader and state != "Z":
            found.add(int(path.parent.name))
    return found - {leader}
