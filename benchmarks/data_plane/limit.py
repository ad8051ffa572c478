"""The bare loop that an ingest is measured against: decode, resize, cut, encode, and keep no books.

    python limit.py FOLDER --workers N --size 64 --clip-frames 16

The same number of processes decode with decord, resize with the same Pillow call, and encode with the same x264
settings (``kineme.shards.codec.encode_clip``). It asks nothing of a file, hashes nothing, checks nothing, writes
nothing: the clips are counted and thrown away.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import decord
import numpy as np

from kineme.shards.codec import encode_clip
from kineme.shards.geometry import square_frame


def clips_of(size: int, clip_frames: int, path: str) -> tuple[int, int]:
    """Number and bytes of the clips of one video."""
    reader = decord.VideoReader(path, num_threads=1)
    rate = reader.get_avg_fps()
    clips = total = 0
    window = []
    for _ in range(len(reader)):
        window.append(square_frame(reader.next().asnumpy(), size))
        if len(window) == clip_frames:
            mp4, _ = encode_clip(np.stack(window), rate)
            clips, total = clips + 1, total + len(mp4)
            window.clear()
    return clips, total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--clip-frames", type=int, default=16)
    given = parser.parse_args()
    paths = sorted(map(str, given.folder.rglob("*.mp4")))
    with Pool(given.workers) as pool:
        done = pool.imap_unordered(partial(clips_of, given.size, given.clip_frames), paths)
        clips, total = map(sum, zip(*done, strict=True))
    print(json.dumps({"clips": clips, "bytes": total}))


if __name__ == "__main__":
    main()
