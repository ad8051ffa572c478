"""The real ``kineme serve``: started, asked, told to stop; and what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from command_line import call
from service_parts import problem_of, send, video_bytes

from kineme.pipeline.server import Bind

KINEME = Path(sys.executable).with_name("kineme")


@contextmanager
def started(*arguments: object, tmp: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command with a free port, once it listens, and its address; its temporary files go to ``tmp``."""
    words = [str(word) for word in (KINEME, "serve", *arguments, "--port", 0)]
    given: Mapping[str, str] = {**os.environ, "TMPDIR": str(tmp), **environment}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(r"(http://\S+)/ serves 40 clips of ", line)
            assert found, f"{line}{process.stderr.read() if process.stderr and process.poll() is not None else ''}"
            yield process, found[1]
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(
    digits_index: Path, predictor_run: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    video = video_bytes(tmp_path)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    with started(digits_index, "--predictor", predictor_run, tmp=scratch) as (process, address):
        with httpx.Client(base_url=address, timeout=120) as client:
            assert client.get("/stats").json()["can"] == {"predict": True, "swap": False, "traverse": False}
            answer = send(client, video, by="both").json()
            assert len(answer["hits"]) == 10
            hit = answer["hits"][0]["key"]
            assert client.post("/predict", json={"key": hit}).status_code == 200
            problem_of(send(client, video[:500]), 422)
            assert any(scratch.iterdir())
        process.send_signal(stop)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    assert list(scratch.iterdir()) == []


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with Bind("127.0.0.1", 0).open() as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_token_of_the_environment_is_asked_for(digits_index: Path, tmp_path: Path) -> None:
    with started(digits_index, "--host", "0.0.0.0", tmp=tmp_path, KINEME_TOKEN="s3cret") as (_, address):
        port = address.rpartition(":")[2]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            problem_of(client.get("/stats"), 401)
            bearer = {"authorization": "Bearer s3cret", "host": "any.name.at.all"}
            assert client.get("/stats", headers=bearer).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0: other machines reach this address, so a token is needed"),
        (("--host", "0.0.0.0", "--token", ""), "--token: printable ASCII"),
        (("--host", "no.such.host.invalid", "--token", "x"), "--host no.such.host.invalid"),
        (("--memory-gb", "0.1"), "--memory-gb 0.1: at least 0.5 is needed"),
        (("--predictor", "nowhere"), "nowhere"),
        (("--run", "nowhere"), "nowhere"),
    ],
)
def test_what_it_refuses_is_one_line(
    digits_index: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.delenv("KINEME_TOKEN", raising=False)
    assert call(monkeypatch, "serve", digits_index, "--port", 0, *arguments) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--max-upload-mb", "--memory-gb"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_bound_is_a_number(
    digits_index: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert call(monkeypatch, "serve", digits_index, "--port", 0, option, value) == 2
    assert f"Invalid value for '{option}'" in capfd.readouterr().err


def test_no_index_or_a_port_that_is_taken(
    digits_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "serve", tmp_path, "--port", 0) == 2
    assert "is not an index" in capfd.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert call(monkeypatch, "serve", digits_index, "--port", port) == 2
    assert f"--port {port}: Address already in use; choose another port" in capfd.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    digits_index: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert call(monkeypatch, "serve", digits_index, "--port", 0) == 2
    assert "pip install 'kineme[service]'" in capfd.readouterr().err


def test_the_command_line_knows_nothing_of_it_until_it_serves() -> None:
    code = (
        "import sys; from kineme.pipeline import cli; "
        "print([name for name in ('fastapi', 'uvicorn', 'torch', 'faiss') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
