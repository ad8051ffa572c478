"""A real service in a process of its own, a real browser, and a page that is watched: no error, no foreign request."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from watched_page import TOKEN, Opener, Watched


@dataclass
class Service:
    """A running ``kineme serve``."""

    url: str
    process: subprocess.Popen[str]

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        with self.process:
            self.process.send_signal(signal.SIGINT)
        assert self.process.returncode == 0


def start_service(index: Path, *options: str, token: str | None = None) -> Service:
    """``kineme serve`` on a free port, as soon as it takes connections."""
    environment = {name: value for name, value in os.environ.items() if name != "KINEME_TOKEN"}
    if token is not None:
        environment["KINEME_TOKEN"] = token
    command = [sys.executable, "-c", "from kineme.pipeline.cli import main; main()", "serve", str(index)]
    process = subprocess.Popen(
        [*command, "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.match(r"(http://\S+?)/ serves", said)
    assert found, f"{said!r}, exit code {process.wait()}"
    return Service(found[1], process)


@pytest.fixture(scope="session")
def service(digits_index: Path, encoder_run: Path, predictor_run: Path) -> Iterator[str]:
    """The address of a service that can do everything."""
    started = start_service(digits_index, "--run", str(encoder_run), "--predictor", str(predictor_run))
    yield started.url
    started.stop()


@pytest.fixture(scope="session")
def bare_service(digits_index: Path) -> Iterator[str]:
    """One that has an index, a token, and nothing else."""
    started = start_service(digits_index, token=TOKEN)
    yield started.url
    started.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: make test-browser installs it"
    # Root cannot use Chromium's sandbox.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Opener]:
    """Opens watched pages of a service, each in a browser context of its own; at the end nothing may be wrong."""
    opened: list[tuple[BrowserContext, Watched]] = []

    def open_page(origin: str, **options: object) -> Watched:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)  # type: ignore[arg-type]
        context.set_default_timeout(20_000)
        watched = Watched(context.new_page(), origin)
        opened.append((context, watched))
        return watched

    yield open_page
    for context, watched in opened:
        context.close()
        assert watched.wrong == []


@pytest.fixture
def watched(visit: Opener, service: str) -> Watched:
    """A page of the service that can do everything."""
    return visit(service)
