"""The vectors of clips: what makes them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_clips import make_frames

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.vectors import ClipEncoder, ClipVectors

KEYS = [f"{number:016x}-000000" for number in range(7)]


class MeanColour:
    """A complete encoder: appearance is the mean colour, motion how the brightest column moves."""

    motion_dim = 3
    appearance_dim = 3
    clip_frames = 4
    frame_size = 16

    def encode(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = frames.sum((2, 4)).argmax(2)
        return np.diff(columns, axis=1).astype(np.float32), frames.mean((1, 2, 3)).astype(np.float32)


def test_an_encoder_is_anything_with_the_protocol() -> None:
    encoder: ClipEncoder = MeanColour()
    motion, appearance = encoder.encode(np.stack([make_frames(n, count=encoder.clip_frames) for n in range(3)]))
    vectors = ClipVectors(KEYS[:3], motion, appearance)
    assert vectors.motion.shape == (3, encoder.motion_dim)
    np.testing.assert_array_equal(vectors.motion, np.full((3, 3), 4))
    assert len(np.unique(vectors.appearance, axis=0)) == 3


def good() -> dict[str, object]:
    return {"keys": KEYS, "motion": np.ones((7, 3), np.float32), "appearance": np.ones((7, 2), np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": KEYS[:6]}, "7 motion vectors for 6 keys"),
        ({"keys": [*KEYS[:6], KEYS[0]]}, f"{KEYS[0]}.* comes twice"),
        ({"appearance": np.ones((6, 2), np.float32)}, "6 appearance vectors for 7 keys"),
        ({"motion": np.full((7, 3), np.nan, np.float32)}, "7 of 7 motion vectors hold NaN"),
        ({"motion": np.ones((7, 3))}, "motion vectors are float64"),
        ({"motion": np.ones(7, np.float32)}, r"shape \(7,\)"),
        ({"motion": np.ones((7, 0), np.float32)}, r"shape \(7, 0\)"),
    ],
)
def test_what_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        ClipVectors(**(good() | change))


def test_one_infinite_value_is_counted() -> None:
    motion = np.ones((7, 3), np.float32)
    motion[2, 1] = np.inf
    with pytest.raises(RetrievalError, match="1 of 7 motion vectors"):
        ClipVectors(KEYS, motion, np.ones((7, 2), np.float32))
