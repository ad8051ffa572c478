"""Endless training clips: drawn afresh every epoch, the same in every worker."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from test_moving_mnist import write_mnist
from torch.utils.data import DataLoader

from kineme.shards.batch import Clip, collate
from kineme.shards.endless import ENDLESS, DrawnClips
from kineme.shards.errors import DataError
from kineme.shards.sources.moving_mnist import MovingMnistSource
from kineme.shards.window import Window


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_mnist(tmp_path_factory.mktemp("mnist"))
    path = tmp_path_factory.mktemp("shards") / ENDLESS
    path.write_bytes(MovingMnistSource().attachments(root)[ENDLESS])
    return path


def one(batch: list[Clip]) -> Clip:
    return batch[0]


def test_a_clip_depends_on_seed_epoch_and_number_alone(file: Path) -> None:
    clips = DrawnClips(file, 4, Window(20), seed=5)
    assert len(clips) == 4
    again, other = DrawnClips(file, 99, Window(20), seed=5), DrawnClips(file, 4, Window(20), seed=6)
    seen: set[bytes] = set()
    keys: set[str] = set()
    for epoch in range(3):
        for number in range(4):
            clip = clips[epoch, number]
            same = again[epoch, number]
            np.testing.assert_array_equal(clip.frames, same.frames)
            assert clip.record == same.record
            seen |= {clip.frames.tobytes(), other[epoch, number].frames.tobytes()}
            keys |= {clip.record.key, other[epoch, number].record.key}
    assert len(seen) == len(keys) == 24


def test_a_clip_says_what_it_is(file: Path) -> None:
    clip = DrawnClips(file, 4, Window(5, 3), seed=0)[2, 1]
    assert clip.frames.shape == (5, 64, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.actions is None
    assert clip.keypoints is not None
    assert clip.keypoints.shape == (5, 2, 2)
    assert clip.keypoints.dtype == np.float32
    record = clip.record
    assert re.fullmatch(r"[0-9a-f]{16}-000000", record.key)
    assert record.sha256.startswith(record.key[:16])
    assert (record.dataset, record.split, record.num_frames) == ("moving-mnist", "train", 13)
    assert (record.height, record.width) == (64, 64)
    assert re.fullmatch(r"\d-\d", str(record.labels["digits"]))
    whole = DrawnClips(file, 4, Window(13), seed=0)[2, 1]
    np.testing.assert_array_equal(clip.frames, whole.frames[::3])
    np.testing.assert_array_equal(clip.keypoints, whole.keypoints[::3])  # type: ignore[index]
    batch = collate([clip, DrawnClips(file, 4, Window(5, 3), seed=0)[2, 2]])
    assert batch.frames.shape == (2, 5, 3, 64, 64)


def test_only_training_digits_are_drawn(file: Path, tmp_path: Path) -> None:
    assert max(int(DrawnClips(file, 9, Window(2), seed=0)[0, number].frames.max()) for number in range(9)) == 100


def test_spawned_workers_draw_the_same_and_read_the_file_themselves(file: Path) -> None:
    clips = DrawnClips(file, 6, Window(4), seed=1)
    assert len(pickle.dumps(clips)) < 1000
    positions = [(epoch, number) for epoch in range(2) for number in range(6)]
    loader = DataLoader(
        clips,
        batch_size=1,
        sampler=positions,
        num_workers=2,
        collate_fn=one,
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )
    for position, clip in zip(positions, loader, strict=True):
        np.testing.assert_array_equal(clip.frames, clips[position].frames)
        assert clip.record == clips[position].record


def test_what_cannot_be_drawn_from_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        DrawnClips(tmp_path / "endless.npz", 4, Window(4), seed=0)
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:-50])
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("cut.npz", "text.npz", "array.npy"):
        with pytest.raises(DataError, match="damaged"):
            DrawnClips(tmp_path / name, 4, Window(4), seed=0)
    np.savez(tmp_path / "other.npz", dataset=np.array("sprites"))
    with pytest.raises(DataError, match="known are moving-mnist"):
        DrawnClips(tmp_path / "other.npz", 4, Window(4), seed=0)
    with pytest.raises(DataError, match="clips_per_epoch 0"):
        DrawnClips(file, 0, Window(4), seed=0)
    with pytest.raises(DataError, match="seed -1"):
        DrawnClips(file, 4, Window(4), seed=-1)
