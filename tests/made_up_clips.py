"""Small made-up clips and indexes for the tests of retrieval: real files, drawn at random from a fixed seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kineme.retrieval.evaluation import Metric
from kineme.retrieval.growing import build_index
from kineme.retrieval.index import Index
from kineme.retrieval.metadata import Label
from kineme.retrieval.previews import Picture
from kineme.retrieval.vectors import ClipVectors, Frames, Space
from kineme.shards.sample import ClipRecord, make_key


def make_records(labels: Sequence[Mapping[str, Label]]) -> list[ClipRecord]:
    return [
        ClipRecord(
            key=make_key(f"{number:064x}"[::-1], number),
            source=f"videos/{number}.mp4",
            sha256=f"{number:064x}",
            dataset="made-up",
            split="test",
            labels=dict(named),
            start_s=0.0,
            end_s=0.8,
            fps=10.0,
            num_frames=8,
            height=64,
            width=64,
            codec="h264",
        )
        for number, named in enumerate(labels)
    ]


def make_frames(number: int, *, count: int = 8, size: int = 16) -> Frames:
    """A bright square that crosses a dark frame; ``number`` sets its colour and row."""
    frames = np.zeros((count, size, size, 3), dtype=np.uint8)
    colour = np.random.default_rng(number).integers(80, 256, 3)
    top = number % (size - 4)
    for time in range(count):
        left = time * (size - 4) // max(count - 1, 1)
        frames[time, top : top + 4, left : left + 4] = colour
    return frames


def make_vectors(keys: list[str], *, seed: int = 0, motion: np.ndarray | None = None) -> ClipVectors:
    draw = np.random.default_rng(seed)
    appearance = draw.standard_normal((len(keys), 5)).astype(np.float32)
    drawn = draw.standard_normal((len(keys), 6)).astype(np.float32)
    return ClipVectors(keys, drawn if motion is None else motion, appearance)


def make_index(
    folder: Path,
    labels: Sequence[Mapping[str, Label]],
    *,
    motion: np.ndarray | None = None,
    metrics: Mapping[Space, Metric] | None = None,
    overwrite: bool = False,
) -> Index:
    records = make_records(labels)
    recipe = folder.parent / "recipe.yaml"
    recipe.write_text("model: made-up\n", encoding="utf-8")
    return build_index(
        folder,
        make_vectors([record.key for record in records], motion=motion),
        records,
        encoder="made-up",
        encoder_files={"recipe.yaml": recipe, "checkpoints/last.ckpt": recipe},
        data="made-up shards",
        pictures=[Picture(record.key, make_frames(number)) for number, record in enumerate(records)],
        metrics=metrics,
        overwrite=overwrite,
    )
