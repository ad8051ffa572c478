"""Files from strangers: bounded in every way, read by a process that can be killed, and kept nowhere."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from service_parts import BOUNDS, LIMITS, Client, problem_of, send, serving, video_bytes

from kineme.pipeline.serving import RunStudio
from kineme.pipeline.warm_decoders import WarmDecoders
from kineme.shards import decode_pool
from kineme.shards.decode_pool import Limits
from kineme.shards.decode_video import Done, Task
from kineme.shards.sampling import Sampling, Windows
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.openers import VideoFile

MUTATED = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return video_bytes(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def small(digits_index: Path, studio: RunStudio) -> Iterator[Client]:
    """A service that takes 100 kB in two seconds, one upload at a time."""
    with serving(digits_index, studio, upload_bytes=100_000, upload_s=2.0, uploads=1) as opened:
        yield opened


def refused(client: Client, reason: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f'kineme_uploads_refused_total{{reason="{reason}"}}'):
            return float(line.split()[-1])
    return 0.0


def test_nothing_is_kept(digits_index: Path, studio: RunStudio, whole: bytes) -> None:
    with serving(digits_index, studio) as client:
        folder = client.scratch
        assert folder.stat().st_mode & 0o777 == 0o700
        assert send(client, whole).status_code == 200
        assert send(client, whole[:1000]).status_code == 422
        assert list(folder.iterdir()) == []
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../../../tmp/escaped.mp4", "/etc/passwd", "a\0b", "x" * 4000, "clip.m3u8", "käse"])
def test_what_a_client_calls_its_file_does_not_matter(client: Client, whole: bytes, name: str) -> None:
    before = sorted(Path("/tmp").glob("escaped*"))
    assert send(client, whole, name=name).status_code == 200
    assert sorted(Path("/tmp").glob("escaped*")) == before


def test_files_that_are_no_videos(client: Client, tmp_path: Path) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    concat = b"ffconcat version 1.0\nfile /etc/passwd\n"
    for content in (b"", b"\0", b"hello", playlist, concat, bytes(1 << 16), np.random.default_rng(0).bytes(1 << 16)):
        detail = problem_of(send(client, content), 422)
        assert "cannot be read as a video" in detail
        assert str(client.scratch) not in detail


def test_mutated_files_are_answered_or_refused_for_a_reason(
    client: Client, tmp_path: Path, benchmarks_on_the_path: None
) -> None:
    """Some mutations leave a video that plays; all others are 4xx, and the service goes on."""
    from mutations import mutate, write_whole_files

    wholes = [path.read_bytes() for path in write_whole_files(tmp_path)]
    random = np.random.default_rng(7)
    seen = set()
    for number in range(MUTATED):
        damaged, _ = mutate(wholes[number % len(wholes)], wholes, random)
        response = send(client, damaged)
        seen.add(response.status_code)
        if response.status_code != 200:
            assert problem_of(response, response.status_code)
    assert seen <= {200, 413, 422}
    assert 422 in seen
    assert client.get("/healthz").json()["status"] == "ok"
    assert send(client, wholes[0]).status_code == 200


def test_too_many_bytes_are_not_read(small: Client) -> None:
    before = refused(small, "bytes")
    assert "at most 100000 are allowed" in problem_of(send(small, bytes(200_000)), 413)

    def endless() -> Iterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while True:
            yield bytes(10_000)

    # Without a length.
    response = small.post("/search", content=endless(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert "more than the 100000 bytes" in problem_of(response, 413)
    assert response.headers["connection"] == "close"
    assert list(small.scratch.iterdir()) == []
    assert refused(small, "bytes") == before + 2


def test_a_length_that_is_a_lie_does_not_help(small: Client) -> None:
    """More than was announced is not of this request; less is a body that does not come, for which it does not wait."""
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    part = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for length, status in ((10, b"400 Bad Request"), (90_000, b"408 Request Timeout")):
        with socket.create_connection(("127.0.0.1", small.base_url.port or 0), 60) as line:
            line.sendall(head + b"Content-Length: %d\r\n\r\n" % length + part)
            assert status in line.recv(1000).splitlines()[0]
    assert list(small.scratch.iterdir()) == []


def test_more_than_one_file_is_refused(client: Client, whole: bytes) -> None:
    before = refused(client, "count")
    response = client.post("/search", files=[("file", ("a", whole)), ("file", ("b", whole))])
    assert "more than one file" in problem_of(response, 400)
    assert refused(client, "count") == before + 1
    assert "belongs in 'file'" in problem_of(client.post("/search", files={"video": ("a", whole)}), 422)


def test_a_file_and_a_key_exclude_one_another(client: Client, whole: bytes) -> None:
    key = client.keys[0]
    assert "a file and keys are given" in problem_of(send(client, whole, key=key), 422)


def test_a_form_has_not_any_number_of_fields(client: Client, whole: bytes) -> None:
    problem_of(client.post("/search", files={"file": ("a", whole)}, data={f"f{n}": "x" for n in range(200)}), 413)
    problem_of(client.post("/search", files={"file": ("a", whole)}, data={"where": "x" * (9 << 20)}), 413)
    unchosen = b'--x\r\ncontent-disposition: form-data; name="file"; filename=""\r\n\r\n\r\n' * 200
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert "more than 100" in problem_of(client.post("/search", content=unchosen, headers=headers), 413)


@pytest.mark.parametrize("cut", [1, 20, 60, 200, 3000])
def test_a_form_that_is_cut_short_is_refused(client: Client, whole: bytes, cut: int) -> None:
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = (head + whole + b"\r\n--x--\r\n")[:cut]
    response = client.post("/search", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert problem_of(response, 400)
    assert list(client.scratch.iterdir()) == []


def test_a_field_of_a_file_that_was_not_chosen_is_none(client: Client) -> None:
    """As browsers send it."""
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    response = client.post("/search", content=head, headers={"content-type": "multipart/form-data; boundary=x"})
    assert "nothing to search by" in problem_of(response, 422)


def test_frames_and_films_have_bounds(client: Client, tmp_path: Path) -> None:
    before = refused(client, "pixels"), refused(client, "seconds")
    large = video_bytes(tmp_path, 10, (600, 800))
    assert f"at most {BOUNDS.pixels} are allowed" in problem_of(send(client, large), 413)
    long = video_bytes(tmp_path, 25, fps=1)
    assert "at most 20 are allowed" in problem_of(send(client, long), 413)
    assert (refused(client, "pixels"), refused(client, "seconds")) == (before[0] + 1, before[1] + 1)
    assert "too short: 3 frames" in problem_of(send(client, video_bytes(tmp_path, 3)), 422)


def test_a_decoder_that_takes_too_long_is_killed_and_replaced(
    digits_index: Path, encoder_run: Path, whole: bytes, tmp_path: Path
) -> None:
    slow = video_bytes(tmp_path, 400, (480, 640))
    limits = Limits(silence_s=10.0, memory_bytes=1 << 30, total_s=0.4)
    with RunStudio(limits, BOUNDS, decoders=1) as studio, serving(digits_index, studio) as client:
        until_it_has_started(client, whole)
        assert "takes too long to decode" in problem_of(send(client, slow), 422)
        assert refused(client, "slow") >= 1
        until_it_has_started(client, whole)


def until_it_has_started(client: Client, whole: bytes) -> None:
    """A decoder that has just been started may need longer than this deadline for that alone: it is given the time."""
    for tries in range(20):
        if (response := send(client, whole)).status_code == 200:
            return
        assert "takes too long" in problem_of(response, 422)
        time.sleep(0.5 * tries)
    pytest.fail("no decoder was ready in twenty tries")


def test_more_uploads_than_are_allowed_are_sent_away(digits_index: Path, studio: RunStudio, whole: bytes) -> None:
    """One is held up in the middle of its body, while another one comes."""
    begun, go_on = threading.Event(), threading.Event()
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}

    def body() -> Iterator[bytes]:
        yield head
        begun.set()
        assert go_on.wait(60)
        yield whole + b"\r\n--x--\r\n"

    with serving(digits_index, studio, uploads=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: client.post("/search", content=body(), headers=headers))
        assert begun.wait(60)
        second = send(client, whole)
        while second.status_code == 200:  # the first one's head was still on its way
            second = send(client, whole)
        assert "1 uploads are in work" in problem_of(second, 429)
        assert second.headers["retry-after"] == "1"
        assert client.post("/search", json={"key": client.keys[0]}).status_code == 200
        go_on.set()
        assert first.result().status_code == 200
        assert send(client, whole).status_code == 200
        assert refused(client, "busy") == 1


def test_a_decoder_that_died_between_two_uploads_costs_none(client: Client, whole: bytes) -> None:
    """Such as one that the system killed to free memory. Some of its threads may outlive the first of them."""
    decoders = [folder for folder in Path("/proc").glob("[0-9]*") if b"kineme.shards.decode_worker" in _words(folder)]
    own = [folder for folder in decoders if _status(folder)[1] == str(os.getpid())]
    assert own
    for folder in own:
        os.kill(int(folder.name), signal.SIGKILL)
        while _status(folder)[0] not in ("Z", ""):
            time.sleep(0.01)
    assert send(client, whole).status_code == 200


def _words(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""  # it has ended


def _status(folder: Path) -> list[str]:
    """State and parent of a process, and more."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["", ""]


def test_a_decoder_that_dies_as_it_is_given_a_video_costs_none(tmp_path: Path, whole: bytes) -> None:
    """It looked alive a moment ago, and the video was not what killed it."""
    (tmp_path / "clip.mp4").write_bytes(whole)
    task = Task(SourceItem("clip", VideoFile(tmp_path / "clip.mp4")), Sampling(8), 32)
    with decode_pool.DecodePool(1, LIMITS, tmp_path) as pool:

        def given_too_late() -> Iterator[Task]:
            (worker,) = pool._workers
            worker.process.kill()
            worker.process.wait()
            yield task

        for tasks in ([task], given_too_late(), [task]):
            (video,) = pool.decode(tasks)
            assert isinstance(video.end, Done)
            assert len(list(video.clips())) == 4


def test_a_decoder_whose_clips_found_no_room_reads_the_next_video(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on a disk that is full; here its folder is missing."""
    monkeypatch.setattr(decode_pool, "_SPOOL_BYTES", 1)
    (tmp_path / "clip.mp4").write_bytes(whole)
    task = Task(SourceItem("clip", VideoFile(tmp_path / "clip.mp4")), Sampling(8), 32)
    scratch = tmp_path / "scratch"
    with decode_pool.DecodePool(1, LIMITS, scratch) as pool:
        with pytest.raises(FileNotFoundError):
            list(pool.decode([task]))
        scratch.mkdir()
        for _ in range(2):
            (video,) = pool.decode([task])
            assert isinstance(video.end, Done)
            assert len(list(video.clips())) == 4


def test_a_part_has_not_any_number_of_clips_whatever_the_rate(tmp_path: Path) -> None:
    (tmp_path / "fast.mp4").write_bytes(video_bytes(tmp_path, 60, fps=240))
    windows = Windows(4, 0.05, None, 3)
    with WarmDecoders(1, LIMITS, BOUNDS) as decoders:
        read = decoders.read(tmp_path / "fast.mp4", clip_frames=8, frame_size=32, fps=None, windows=windows)
    np.testing.assert_allclose(read.starts_s, [number / 240 for number in (12, 16, 20)], atol=1e-4)
