"""The vectors of clips: what is refused, and what comes back from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_clips import make_frames, make_vectors

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.vectors import SPACES, ClipEncoder, ClipVectors

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


def test_saved_and_loaded_vectors_are_equal(tmp_path: Path) -> None:
    vectors = make_vectors(KEYS)
    vectors.save(tmp_path / "deep" / "folder")
    loaded = ClipVectors.load(tmp_path / "deep" / "folder")
    assert loaded.keys == KEYS
    for space in SPACES:
        np.testing.assert_array_equal(loaded.space(space), vectors.space(space))
    assert loaded.rows[KEYS[4]] == 4
    assert sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir()) == [
        "appearance.npy",
        "keys.json",
        "motion.npy",
    ]


def test_a_save_that_fails_leaves_nothing_that_loads(tmp_path: Path) -> None:
    make_vectors(KEYS).save(tmp_path)
    (tmp_path / "appearance.npy").unlink()
    (tmp_path / "appearance.npy").mkdir()
    with pytest.raises(OSError, match="appearance"):
        make_vectors(KEYS, seed=1).save(tmp_path)
    with pytest.raises(RetrievalError, match=r"keys.json is missing"):
        ClipVectors.load(tmp_path)
    assert not list(tmp_path.glob("*.partial"))


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


@pytest.mark.parametrize("name", ["keys.json", "motion.npy", "appearance.npy"])
def test_a_missing_or_cut_file_is_named(tmp_path: Path, name: str) -> None:
    make_vectors(KEYS).save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RetrievalError, match="encode the clips again"):
        ClipVectors.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RetrievalError, match=f"{name} is missing"):
        ClipVectors.load(tmp_path)
