"""Small real shards for the tests: written by the program's own writer from random frames."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from kineme.shards.codec import encode_clip
from kineme.shards.manifest import Manifest
from kineme.shards.sample import SCHEMA, ClipRecord, Frames, Sample, make_key
from kineme.shards.writer import ShardWriter


def make_frames(number: int, *, frames: int = 6, height: int = 16, width: int = 20) -> Frames:
    """Clip ``number``: noise, (T, H, W, 3) uint8."""
    return np.random.default_rng(number).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def make_sample(
    number: int, *, frames: int = 6, height: int = 16, width: int = 20, split: str = "train", extras: bool = True
) -> Sample:
    """Clip ``number`` as a sample; its keypoints say which frame of which clip they belong to."""
    clip = make_frames(number, frames=frames, height=height, width=width)
    mp4, codec = encode_clip(clip, 12.5)
    sha256 = hashlib.sha256(f"source {number}".encode()).hexdigest()
    record = ClipRecord(
        key=make_key(sha256, 0),
        source=f"folder/vidéo.{number} one\n.mp4",
        sha256=sha256,
        dataset="noise",
        split=split,
        labels={"number": number, "name": f"ü{number}", "half": number / 2, "even": number % 2 == 0},
        start_s=0.0,
        end_s=frames / 12.5,
        fps=12.5,
        num_frames=frames,
        height=height,
        width=width,
        codec=codec,
    )
    places = np.stack([np.full(frames, number), np.arange(frames)], axis=1).astype(np.float32)
    return Sample(record, mp4, places if extras else None, places[:, None] if extras else None)


def write_shards(folder: Path, shards: list[list[Sample]]) -> list[Sample]:
    """Write a whole shards folder, manifest and all; returns its samples in order."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, samples in enumerate(shards):
        with ShardWriter(folder, number) as writer:
            for sample in samples:
                writer.add(sample)
            entries.append(writer.finish())
    samples = [sample for shard in shards for sample in shard]
    Manifest(SCHEMA, "noise", {"size": 16}, entries, len(samples), len(samples), 0, {}).save(folder)
    return samples


def make_shards(folder: Path, counts: tuple[int, ...], *, frames: int = 6) -> list[Sample]:
    """A shards folder with so many clips in each shard."""
    numbers = iter(range(sum(counts)))
    return write_shards(folder, [[make_sample(next(numbers), frames=frames) for _ in range(count)] for count in counts])
