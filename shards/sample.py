"""The shard contract (schema 1): what one sample holds and how it is named.

A sample is one clip. In the tar it is ``KEY.mp4`` and ``KEY.json``, and where the source has them ``KEY.actions.npy``
(T, A) float32 and ``KEY.keypoints.npy`` (T, K, 2) float32, in pixels of the stored frame, x before y.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

SCHEMA = 1

Label = str | int | float | bool
Frames = NDArray[np.uint8]
"""Decoded RGB frames, (T, H, W, 3) uint8."""


def make_key(sha256: str, clip_number: int) -> str:
    """First 16 hex digits of the source's sha256, a dash, the clip number in six digits."""
    return f"{sha256[:16]}-{clip_number:06d}"


@dataclass(frozen=True)
class ClipRecord:
    """The metadata of one clip: ``KEY.json`` in the tar and one row of the shard's parquet.

    ``source`` is the path relative to the ingested root, ``sha256`` that of the source bytes. ``start_s`` and ``end_s``
    are a half-open span in seconds of the source, ``fps`` the rate of the stored frames (after sampling).
    """

    key: str
    source: str
    sha256: str
    dataset: str
    split: str
    labels: Mapping[str, Label]
    start_s: float
    end_s: float
    fps: float
    num_frames: int
    height: int
    width: int
    codec: str
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        """UTF-8 JSON with sorted keys, so that equal records are equal bytes."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> ClipRecord:
        """The inverse of :meth:`to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Sample:
    """One clip as it is stored: its record, the encoded video, and what the source knew beside the pixels."""

    record: ClipRecord
    mp4: bytes
    actions: NDArray[np.float32] | None = None
    keypoints: NDArray[np.float32] | None = None
