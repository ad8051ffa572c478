"""The HTTP service under load: many clients, uploads beside the same work by hand, damaged uploads, and a new clip.

    python benchmarks/service.py --work /tmp/service                # some ten minutes on two CPU cores
    python benchmarks/service.py --work /tmp/service --quick        # a minute, to see that it runs; writes no result

A library of ``--clips`` clips is made: real metadata, pictures and encoder (histograms of optical flow), and vectors
drawn at random around 500 centres (a synthetic stand-in). ``kineme serve`` runs as a process of its own on the same
two cores as the clients. Measured are:

load        200 clients, each of whom asks for a random key as soon as it has its answer, for 60 s: errors, p50 and p99
            of the answers' times, and the memory of the service after 10 s and at the end.
upload      one upload at a time beside decode + encode + search by hand, in this process, in turn: the median ratio.
mutants     2000 uploads of small videos damaged in the ways of mutations.py: each must be answered, or refused by a 4xx
            with a reason in one line. What is still a whole video after the damage is answered.
new clip    seconds from a video file to a clip that the service finds: `add_videos` in a process that has the encoder,
            then asking until the service has it; and by `kineme add`, which starts Python and loads torch first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import httpx
import numpy as np
from mutations import mutate, write_whole_files

from kineme.pipeline.encoders import RunEncoder, load_encoder
from kineme.pipeline.encoders.motion_histogram import write_recipe
from kineme.pipeline.encoding import encoder_files
from kineme.pipeline.indexing import add_videos
from kineme.pipeline.run import environment
from kineme.retrieval.growing import build_index
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.previews import Picture
from kineme.retrieval.search import search
from kineme.retrieval.vectors import ClipVectors
from kineme.shards.browser_film import browser_film
from kineme.shards.codec import decode_clip, encode_clip
from kineme.shards.decode_video import Clip, Task, decode_video
from kineme.shards.sample import ClipRecord, Frames, make_key
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.openers import VideoFile

RESULT = Path(__file__).parent / "results" / "service-cpu.json"
KINEME = Path(sys.executable).with_name("kineme")
FRAMES, SIZE, FPS = 16, 64, 12.5
_PAUSE_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the library, made anew")
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=30, help="uploads that are compared")
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    if args.quick:
        args.clips, args.seconds, args.rounds, args.mutants = 2000, 15, 5, 50
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    index = make_library(args.work, args.clips)
    encoder = load_encoder(index.encoder_folder)
    metrics: dict[str, float] = {}
    with served(index.folder) as (url, process):
        metrics |= under_load(url, process, index.keys, args.clients, args.seconds)
        metrics |= upload_ratio(url, index, encoder, args.work, args.rounds)
        metrics |= damaged_uploads(url, args.work, args.mutants)
        metrics |= new_clips(url, index.folder, encoder, args.work, 3 if args.quick else 7)
        metrics["service_stayed_up"] = float(process.poll() is None)
    print(json.dumps(metrics, indent=1))
    if args.quick:
        return
    result = {
        "protocol": "service under load",
        "metrics": metrics,
        "device": f"{len(os.sched_getaffinity(0))} CPU cores, clients and service together",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": environment()["versions"],
        "command": " ".join(["python benchmarks/service.py", *sys.argv[1:]]),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def drawn_frames(number: int) -> Frames:
    """A square that goes its own way over a ground of its own: different bytes for every number."""
    random_ = np.random.default_rng(number)
    frames = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    frames[:] = random_.integers(0, 90, 3)
    colour, place, way = random_.integers(120, 256, 3), random_.uniform(8, 48, 2), random_.uniform(-2.5, 2.5, 2)
    for time_ in range(FRAMES):
        top, left = np.clip(place + way * time_, 0, SIZE - 10).astype(int)
        frames[time_, top : top + 10, left : left + 10] = colour
    return frames


def make_library(work: Path, count: int) -> Index:
    """An index of ``count`` clips; 200 different pictures."""
    write_recipe(work, [f"clip_frames={FRAMES}", f"frame_size={SIZE}"])
    encoder = load_encoder(work)
    records = [
        ClipRecord(
            key=make_key(f"{number:08x}".ljust(64, "0"), 0),
            source=f"made up/{number}.mp4",
            sha256=f"{number:064x}",
            dataset="made-up",
            split="test",
            labels={"group": f"g{number % 7}", "number": number},
            start_s=0.0,
            end_s=FRAMES / FPS,
            fps=FPS,
            num_frames=FRAMES,
            height=SIZE,
            width=SIZE,
            codec="libx264rgb",
        )
        for number in range(count)
    ]
    draw = np.random.default_rng(0)
    spaces = []
    for dim in (encoder.motion_dim, encoder.appearance_dim):
        centres = draw.standard_normal((500, dim))
        spaces.append((centres[draw.integers(0, 500, count)] + 0.3 * draw.standard_normal((count, dim))).astype("f4"))
    frames = [drawn_frames(number) for number in range(200)]
    films = [browser_film(each, FPS) for each in frames]
    return build_index(
        work / "index",
        ClipVectors([record.key for record in records], *spaces),
        records,
        encoder="motion-histogram",
        encoder_files=encoder_files(work),
        data="made up",
        pictures=(
            Picture(record.key, frames[number % 200], films[number % 200]) for number, record in enumerate(records)
        ),
        metrics={"motion": encoder.metric},
    )


@contextmanager
def served(index: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``kineme serve`` on a free port: its address and process."""
    with subprocess.Popen([KINEME, "serve", index, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0].rstrip("/"), process
        finally:
            process.terminate()


def under_load(
    url: str, process: subprocess.Popen[str], keys: list[str], clients: int, seconds: float
) -> dict[str, float]:
    times: list[float] = []
    errors: Counter[str] = Counter()
    memory: list[int] = []

    async def client(session: Any, until: float, random_: random.Random) -> None:
        while time.monotonic() < until:
            started = time.monotonic()
            try:
                async with session.post(f"{url}/search", json={"key": random_.choice(keys), "k": 10}) as answer:
                    content = await answer.json()
                    if answer.status != 200 or len(content["hits"]) != 10:
                        errors[str(answer.status)] += 1
            except (OSError, ValueError, KeyError, aiohttp.ClientError) as error:
                errors[type(error).__name__] += 1
            times.append(time.monotonic() - started)

    async def watch(until: float) -> None:
        await asyncio.sleep(min(10, seconds / 3))
        while time.monotonic() < until:
            memory.append(resident_bytes(process.pid))
            await asyncio.sleep(1)

    async def run() -> None:
        until = time.monotonic() + seconds
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(
                watch(until), *(client(session, until, random.Random(number)) for number in range(clients))
            )

    asyncio.run(run())
    p50, p99 = np.quantile(times, [0.5, 0.99])
    third = max(1, len(memory) // 3)
    return {
        "load/clients": clients,
        "load/requests": len(times),
        "load/errors": sum(errors.values()),
        "load/p99_over_p50": p99 / p50,
        "load/p50_ms": 1000 * p50,
        "load/p99_ms": 1000 * p99,
        "load/requests_a_second": len(times) / seconds,
        "load/memory_end_over_begin": median(memory[-third:]) / median(memory[:third]),
        "load/memory_begin_mb": median(memory[:third]) / (1 << 20),
    }


def resident_bytes(pid: int) -> int:
    """Memory of a process and of its children, which decode."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (pid, *children)]
    return sum(pages) * 4096


def upload_ratio(url: str, index: Index, encoder: RunEncoder, work: Path, rounds: int) -> dict[str, float]:
    ratios = []
    with httpx.Client(timeout=60) as client:
        for number in range(-3, rounds):
            path = work / "upload.mp4"
            path.write_bytes(encode_clip(drawn_frames(10_000 + number), FPS)[0])
            # Threads of the work by hand spin for a while after it, on the service's cores.
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            answer = client.post(f"{url}/search", files={"file": path.read_bytes()}, data={"by": "motion", "k": "10"})
            uploaded = time.perf_counter() - started
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            item = SourceItem(path.name, VideoFile(path))
            clips = [c for c in decode_video(Task(item, Sampling(FRAMES, fps=FPS), SIZE)) if isinstance(c, Clip)]
            motion, _ = encoder.encode(decode_clip(clips[0].mp4)[None])
            hits = search(index, motion[0], by="motion", k=10)
            by_hand = time.perf_counter() - started
            if [hit["key"] for hit in answer.json()["hits"]] != [hit.key for hit in hits]:
                raise SystemExit("the service and the work by hand found different clips")
            if number >= 0:
                ratios.append(uploaded / by_hand)
    return {
        "upload/times_by_hand": median(ratios),
        "upload/times_by_hand_least": min(ratios),
        "upload/times_by_hand_most": max(ratios),
    }


def damaged_uploads(url: str, work: Path, count: int) -> dict[str, float]:
    draw = np.random.default_rng(0)
    (work / "whole").mkdir()
    whole = [path.read_bytes() for path in write_whole_files(work / "whole", frames=40)]
    outcomes: Counter[str] = Counter()
    with httpx.Client(timeout=120) as client:
        for data in whole:
            client.post(f"{url}/search", files={"file": data}).raise_for_status()
        for number in range(count):
            data, names = mutate(whole[number % len(whole)], whole, draw)
            answer = client.post(f"{url}/search", files={"file": data}, data={"k": "3"})
            if answer.status_code == 200:
                outcomes["answered"] += 1
            elif 400 <= answer.status_code < 500 and len(str(answer.json().get("detail", "")).splitlines()) == 1:
                outcomes["refused"] += 1
            else:
                outcomes["failed"] += 1
                print(f"mutant {number} ({names}): {answer.status_code} {answer.text[:300]}", file=sys.stderr)
    return {f"mutants/{name}": outcomes[name] for name in ("answered", "refused", "failed")}


def new_clips(url: str, folder: Path, encoder: RunEncoder, work: Path, rounds: int) -> dict[str, float]:
    added, found, commanded = [], [], []
    with httpx.Client(timeout=60) as client:
        for number in range(rounds):
            path = work / f"new {number}.mp4"
            path.write_bytes(encode_clip(drawn_frames(50_000 + number), FPS)[0])
            started = time.perf_counter()
            if number % 2:
                subprocess.run([KINEME, "add", folder, path], check=True, capture_output=True)
                commanded.append(time.perf_counter() - started)
                continue
            add_videos(folder, [path], encoder=encoder)
            index = open_index(folder)
            key = index.keys[-1]
            assert search(index, index.vector(key, "motion"), by="motion", k=1)[0].key == key
            added.append(time.perf_counter() - started)
            while client.post(f"{url}/search", json={"key": key}).status_code != 200:
                time.sleep(0.02)
            found.append(time.perf_counter() - started)
    return {
        "new_clip/seconds": median(added),
        "new_clip/seconds_most": max(added),
        "new_clip/seconds_till_served": median(found),
        "new_clip/seconds_till_served_most": max(found),
        "new_clip/seconds_of_the_command": median(commanded),
    }


if __name__ == "__main__":
    main()
