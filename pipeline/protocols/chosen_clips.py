"""The clips that a protocol measures on: all of a split, or as many of it as can be borne, chosen by a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kineme.pipeline.encoders import RunEncoder
from kineme.pipeline.errors import RunError
from kineme.retrieval.vectors import ClipVectors, Vectors
from kineme.shards.batch import ClipBatch, collate
from kineme.shards.clip_table import read_clip_table
from kineme.shards.manifest import Manifest
from kineme.shards.sample import ClipRecord
from kineme.shards.sources.base import NOT_SPLIT as TRAIN_SPLIT
from kineme.shards.split import SplitSelector
from kineme.shards.stored import StoredClips
from kineme.shards.window import Window

BATCH = 64


def database_split(split: str) -> str:
    """What a split's clips are held against: the training split, or a label's other values.

    Raises:
        RunError: it would be the split itself.
    """
    selector = SplitSelector.parse(split)
    if selector.label is not None:
        return f"{selector.label}{'=' if selector.other else '!='}{selector.value}"
    if split == TRAIN_SPLIT:
        raise RunError(f"--split {split}: is what is searched or learned from; measure on another, such as test")
    return TRAIN_SPLIT


def chosen_batches(
    shards: Path, encoder: RunEncoder, split: str | None, most: int | None = None, seed: int = 0
) -> Iterator[ClipBatch]:
    """Batches of at most ``most`` clips of a split, in the order of the shards; only those are decoded.

    A clip is the first frames of a stored one, as many and at the step that the encoder takes: what
    :func:`~kineme.shards.loader.clip_loader` gives without ``shuffle``.

    Args:
        shards: ingested data.
        encoder: what will read them.
        split: a stored split, or what a label picks out; None is all.
        most: clips to choose at random; None takes every clip.
        seed: decides the choice.

    Raises:
        DataError: no clips of the split, clips too short, or damaged shards.
    """
    window = Window(encoder.clip_frames, encoder.frame_step)
    table = read_clip_table(shards, Manifest.load(shards), split, window)
    clips = StoredClips(table, window)
    numbers = np.arange(len(table))
    if most is not None and most < len(numbers):
        numbers = np.sort(np.random.default_rng(seed).choice(numbers, most, replace=False))
    for start in range(0, len(numbers), BATCH):
        yield collate([clips[0, number] for number in numbers[start : start + BATCH].tolist()])


@dataclass(frozen=True)
class EncodedClips:
    """N clips: their vectors, their records, and all their pixels as they are stored, (N, T * C * H * W) 0 to 255."""

    vectors: ClipVectors
    records: list[ClipRecord]
    pixels: Vectors


def encode_chosen(encoder: RunEncoder, shards: Path, split: str | None, most: int | None = None) -> EncodedClips:
    """Encode clips of a split, and keep their pixels beside the vectors.

    Raises:
        DataError: as :func:`chosen_batches`.
    """
    motion, appearance, pixels, records = [], [], [], []
    for batch in chosen_batches(shards, encoder, split, most):
        m, a = encoder.encode_batch(batch.frames)
        motion.append(m)
        appearance.append(a)
        pixels.append(batch.frames.flatten(1).numpy())
        records.extend(batch.records)
    vectors = ClipVectors([record.key for record in records], np.concatenate(motion), np.concatenate(appearance))
    return EncodedClips(vectors, records, np.concatenate(pixels).astype(np.float32))
