"""From shards and videos to what an encoder takes, and from there to vectors; the encoders are in `encoders`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from kineme.pipeline.clips import read_clip
from kineme.pipeline.encoders import RunEncoder
from kineme.pipeline.run import RECIPE, WEIGHTS
from kineme.retrieval.vectors import ClipEncoder, ClipVectors
from kineme.shards.loader import clip_loader
from kineme.shards.sample import ClipRecord, Frames


def encoder_files(folder: Path) -> dict[str, Path]:
    """What an index must copy to encode queries by itself: name in its encoder folder -> file.

    Args:
        folder: one that `kineme.pipeline.encoders.load_encoder` reads; without weights if the encoder has none.
    """
    return {name: folder / name for name in (RECIPE, WEIGHTS) if (folder / name).is_file()}


def encode_shards(
    encoder: RunEncoder, shards: Path, *, split: str | None = None, batch_size: int = 64, workers: int = 0
) -> tuple[ClipVectors, list[ClipRecord]]:
    """Encode every clip of the shards, in their order."""
    loader = clip_loader(
        shards,
        batch_size=batch_size,
        clip_frames=encoder.clip_frames,
        frame_step=encoder.frame_step,
        split=split,
        workers=workers,
    )
    motion, appearance, records = [], [], []
    for batch in loader:
        m, a = encoder.encode_batch(batch.frames)
        motion.append(m)
        appearance.append(a)
        records.extend(batch.records)
    vectors = ClipVectors([record.key for record in records], np.concatenate(motion), np.concatenate(appearance))
    return vectors, records


def read_query_clip(
    path: Path, encoder: ClipEncoder, *, fps: float | None = None, stored_size: int | None = None
) -> Frames:
    """A query's frames, sampled and sized as the indexed clips were; says on stderr what it took.

    Args:
        path: a video.
        encoder: what will encode it; it resizes to its own frame size itself.
        fps: rate of the indexed clips; the video's own if not given.
        stored_size: size of the indexed clips' frames, pixels; the encoder's if not given.
    """
    size = stored_size or encoder.frame_size
    clip = read_clip(path, clip_frames=encoder.clip_frames, frame_size=size, fps=fps)
    taken = f"{len(clip.frames)} frames, resized to {size}x{size} px, at {clip.fps:g} frames a second"
    more = f"; the video holds {clip.clips} such clips, this is the first" if clip.clips > 1 else ""
    print(f"{path}: the query is {taken}{more}", file=sys.stderr)
    return clip.frames
