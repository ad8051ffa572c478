"""One side of a loading benchmark, in a process of its own; prints its own times, without imports, as JSON.

    python loader_job.py decord SHARDS --workers N
    python loader_job.py epochs SHARDS --workers N --epochs K [--cache DIR]

``decord`` is the bare loop: the clips' bytes lie in memory, each is decoded to one array, and thrown away. With several
workers each process takes its share and returns a count. ``epochs`` is what training does: batches of shuffled clips.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
from multiprocessing import Pool
from pathlib import Path
from typing import Any

_clips: list[bytes] = []  # here rather than handed over: forked processes then have it already


def decord_loop(shards: Path, workers: int) -> dict[str, Any]:
    """Decode every stored clip once."""
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            files = (tar.extractfile(member) for member in tar if member.name.endswith(".mp4"))
            _clips.extend(file.read() for file in files if file is not None)
    import decord  # noqa: F401  -- before the clock starts, and before the fork

    started = time.perf_counter()
    if workers == 1:
        frames = _decode_share((0, 1))
    else:
        with Pool(workers) as pool:
            frames = sum(pool.map(_decode_share, [(first, workers) for first in range(workers)]))
    return {"seconds": time.perf_counter() - started, "clips": len(_clips), "frames": frames}


def _decode_share(share: tuple[int, int]) -> int:
    import decord

    first, step = share
    frames = 0
    for data in _clips[first::step]:
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        frames += len(reader.get_batch(range(len(reader))).asnumpy())
    return frames


def epochs(shards: Path, workers: int, count: int, cache: Path | None, clip_frames: int) -> dict[str, Any]:
    """Seconds of each epoch; the first one's include opening the loader."""
    from kineme.shards.loader import clip_loader

    seconds, clips, frames = [], 0, 0
    started = time.perf_counter()
    loader = clip_loader(
        shards,
        batch_size=32,
        clip_frames=clip_frames,
        shuffle=True,
        workers=0 if workers == 1 else workers,
        cache=cache,
    )
    for _ in range(count):
        clips = frames = 0
        for batch in loader:
            clips += len(batch)
            frames += batch.frames.shape[0] * batch.frames.shape[1]
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return {"epochs": seconds, "clips": clips, "frames": frames}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["decord", "epochs"])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--clip-frames", type=int, default=16)
    given = parser.parse_args()
    if given.side == "decord":
        result = decord_loop(given.shards, given.workers)
    else:
        result = epochs(given.shards, given.workers, given.epochs, given.cache, given.clip_frames)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
