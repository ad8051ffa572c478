"""previews.parquet: a small film strip of every clip, so that an index can be looked at without its shards."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.vectors import Frames

MAX_FRAMES = 8
MAX_SIDE = 64
# Drawn frames fit in this as exact PNG; filmed ones do not, and are stored as JPEG.
_EXACT_BYTES = 24_000
_ROWS_A_GROUP = 256
_SCHEMA = pa.schema([("key", pa.string()), ("frames", pa.int32()), ("image", pa.binary())])


def write_previews(path: Path, clips: Iterable[tuple[str, Frames]]) -> list[str]:
    """Write one strip a clip: at most 8 frames, evenly spaced, longer side at most 64 px, side by side.

    Args:
        path: the parquet file: key, frames (how many stand side by side), image (PNG or JPEG bytes).
        clips: (key, frames (T, H, W, 3) uint8) one at a time; only a few hundred strips are held in memory.

    Returns:
        The keys written, in order.
    """
    keys: list[str] = []
    rows: list[dict[str, object]] = []
    with pq.ParquetWriter(path, _SCHEMA, compression="none") as writer:
        for key, frames in clips:
            strip = small_strip(frames)
            rows.append({"key": key, "frames": len(strip), "image": _to_bytes(strip)})
            keys.append(key)
            if len(rows) == _ROWS_A_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
    return keys


def read_previews(path: Path, keys: Sequence[str]) -> dict[str, Frames]:
    """The strips of ``keys`` as (T, H, W, 3) uint8, T <= 8.

    Raises:
        RetrievalError: the file is unreadable or lacks one of them.
    """
    try:
        table = pq.read_table(path, filters=[("key", "in", list(keys))]) if keys else _SCHEMA.empty_table()
    except (pa.ArrowException, FileNotFoundError) as error:
        raise RetrievalError(f"{path}: previews unreadable ({error}); build the index again") from None
    strips = {row["key"]: _from_bytes(row["image"], row["frames"]) for row in table.to_pylist()}
    missing = [key for key in keys if key not in strips]
    if missing:
        raise RetrievalError(f"{path}: no preview of clip {missing[0]}; build the index again")
    return strips


def small_strip(frames: Frames) -> Frames:
    """At most 8 evenly spaced frames, first and last among them, scaled down to at most 64 px on the longer side."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0 or frames.dtype != np.uint8:
        raise RetrievalError(f"frames are {frames.dtype} of shape {frames.shape}: uint8 (T, H, W, 3) expected")
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int)]
    height, width = frames.shape[1:3]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(chosen)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in chosen])


def _to_bytes(strip: Frames) -> bytes:
    image = Image.fromarray(np.concatenate(list(strip), axis=1))
    exact = io.BytesIO()
    image.save(exact, format="PNG")
    if exact.tell() <= _EXACT_BYTES:
        return exact.getvalue()
    close = io.BytesIO()
    image.save(close, format="JPEG", quality=90, subsampling=0)
    return close.getvalue()


def _from_bytes(image: bytes, count: int) -> Frames:
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    return np.stack(np.split(pixels, count, axis=1))
