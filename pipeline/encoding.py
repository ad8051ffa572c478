"""From shards to what an encoder takes, and from there to vectors; the encoders are in `encoders`."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import numpy as np

from kineme.pipeline.encoders import RunEncoder
from kineme.pipeline.run import RECIPE, WEIGHTS
from kineme.retrieval.previews import Picture
from kineme.retrieval.vectors import ClipVectors, Vectors
from kineme.shards.batch import collate
from kineme.shards.browser_film import browser_film
from kineme.shards.clip_table import read_clip_table
from kineme.shards.manifest import Manifest
from kineme.shards.sample import ClipRecord, Frames
from kineme.shards.stored import StoredClips
from kineme.shards.window import Window


def encoder_files(folder: Path) -> dict[str, Path]:
    """What an index must copy to encode queries by itself: name in its encoder folder -> file.

    Args:
        folder: one that `kineme.pipeline.encoders.load_encoder` reads; without weights if the encoder has none.
    """
    return {name: folder / name for name in (RECIPE, WEIGHTS) if (folder / name).is_file()}


class ShardClips:
    """The clips of shards, or some of them, as an encoder takes them; nothing is decoded before it is asked for.

    Args:
        encoder: what will encode them.
        shards: folder of shards.
        split: only the clips of this split.
        leave_out: keys of clips that are not wanted.

    Raises:
        DataError: the shards cannot be read, hold no clip of the split, or clips that are too short.
    """

    def __init__(
        self, encoder: RunEncoder, shards: Path, *, split: str | None = None, leave_out: Container[str] = ()
    ) -> None:
        window = Window(encoder.clip_frames, encoder.frame_step)
        table = read_clip_table(shards, Manifest.load(shards), split, window)
        self._encoder = encoder
        self._clips = StoredClips(table, window)
        self.numbers = [number for number in range(len(table)) if table[number].key not in leave_out]
        """Of the clips that are wanted, in the order of the shards."""
        self.left_out = len(table) - len(self.numbers)
        """How many are not."""

    def encode(self, batch_size: int = 64) -> tuple[ClipVectors, list[ClipRecord]]:
        """Vectors and records of the clips, in order."""
        encoded, records = [], []
        for start in range(0, len(self.numbers), batch_size):
            batch = collate([self._clips[0, number] for number in self.numbers[start : start + batch_size]])
            encoded.append(self._encoder.encode_batch(batch.frames))
            records.extend(batch.records)
        return vectors_of(self._encoder, [record.key for record in records], encoded), records

    def pictures(self) -> Iterator[Picture]:
        """What an index shows of each clip, in order: all its stored frames."""
        for clip in map(self._clips.whole, self.numbers):
            yield picture_of(clip.record, clip.frames)


def vectors_of(encoder: RunEncoder, keys: list[str], encoded: Sequence[tuple[Vectors, Vectors]]) -> ClipVectors:
    """The vectors of clips from those of their batches, in order; there may be none."""
    none = (np.empty((0, dim), np.float32) for dim in (encoder.motion_dim, encoder.appearance_dim))
    motion, appearance = (
        np.concatenate([empty, *(pair[number] for pair in encoded)]) for number, empty in enumerate(none)
    )
    return ClipVectors(keys, motion, appearance)


def picture_of(record: ClipRecord, frames: Frames) -> Picture:
    """What an index shows of a clip."""
    return Picture(record.key, frames, browser_film(frames, record.fps))


def encode_shards(
    encoder: RunEncoder, shards: Path, *, split: str | None = None, batch_size: int = 64
) -> tuple[ClipVectors, list[ClipRecord]]:
    """Encode every clip of the shards, in their order."""
    return ShardClips(encoder, shards, split=split).encode(batch_size)
