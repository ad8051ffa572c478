"""Moving MNIST: drawing as its authors do, its items, and what is stored of them."""

from __future__ import annotations

import gzip
import io
import itertools
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_runs import run, samples

from kineme.shards.codec import decode_clip
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.moving_digits import DIRECTIONS
from kineme.shards.sources.moving_mnist import (
    Digits,
    DrawnSequence,
    MovingMnistSource,
    PublishedSequence,
    draw_sequence,
    walk,
)
from kineme.shards.sources.registry import find_source

SETTINGS = IngestSettings(size=64, sampling=Sampling(clip_frames=20))
BRIGHTEST = {"train": 100, "test": 200}


def write_mnist(root: Path, *, alike: bool = False) -> Path:
    """Ten digits of each split in MNIST's four files, gzipped for training; every image is all bright, or all alike."""
    root.mkdir(parents=True, exist_ok=True)
    for stem, split in (("train", "train"), ("t10k", "test")):
        images = np.full((10, 28, 28), BRIGHTEST[split], np.uint8)
        if not alike:
            images -= np.random.default_rng(0).integers(0, 50, images.shape).astype(np.uint8)
            images[:, 0, 0] = BRIGHTEST[split]
        for name, array, magic in (
            (f"{stem}-images-idx3-ubyte", images, 0x803),
            (f"{stem}-labels-idx1-ubyte", np.arange(10, dtype=np.uint8), 0x801),
        ):
            data = np.array([magic, *array.shape], ">u4").tobytes() + array.tobytes()
            if split == "train":
                (root / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (root / name).write_bytes(data)
    return root


def write_published(root: Path, count: int = 3) -> np.ndarray:
    root.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(1).integers(0, 256, (20, count, 64, 64)).astype(np.uint8)
    np.save(root / "mnist_test_seq.npy", array)
    return array


def drawn(item: SourceItem) -> DrawnSequence:
    assert isinstance(item.opener, DrawnSequence)
    return item.opener


@given(st.floats(0, 1), st.floats(0, 2 * np.pi), st.integers(1, 60))
def test_a_walk_is_the_one_of_the_original_generator(start: float, angle: float, frames: int) -> None:
    """The reference: take a step, then a place <= 0 or >= 1 is put at the wall and the speed turns round."""
    x, v, places = start, np.cos(angle), []
    for _ in range(frames):
        x += v * 0.1
        if x <= 0:
            x, v = 0.0, -v
        if x >= 1.0:
            x, v = 1.0, -v
        places.append(x)
    np.testing.assert_allclose(walk(start, 0.1 * np.cos(angle), frames), places, atol=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_every_pixel_is_the_brighter_of_two_whole_digits(seed: int, frames: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28)).astype(np.uint8)
    clip = draw_sequence(Digits(images, np.array([3, 7], np.uint8)), frames, np.random.default_rng(seed))
    first, second = (0 if name == "3" else 1 for name in str(clip.labels["digits"]).split("-"))
    corners = clip.centres - 13.5
    assert clip.frames.shape == (frames, 64, 64, 3)
    assert clip.centres.shape == (frames, 2, 2)
    assert (corners == np.rint(corners)).all()
    assert corners.min() >= 0
    assert corners.max() <= 36
    candidates = []
    for pair in ((first, second), (second, first)):
        reference = np.zeros((frames, 64, 64), int)
        for t in range(frames):
            for digit, image in enumerate(pair):
                x, y = (int(value) for value in corners[t, digit])
                layer = np.zeros((64, 64), int)
                layer[y : y + 28, x : x + 28] = images[image]
                reference[t] = np.maximum(reference[t], layer)
        candidates.append(reference)
    grey = clip.frames[..., 0]
    assert any((grey == reference).all() for reference in candidates)
    assert (clip.frames == grey[..., None]).all()


def test_starts_are_uniform_and_so_are_directions_and_digits_go_alone() -> None:
    digits = Digits(np.full((10, 28, 28), 9, np.uint8), np.arange(10, dtype=np.uint8))
    first, moved, pairs, named = [], [], set(), set()
    for seed in range(1500):
        clip = draw_sequence(digits, 20, np.random.default_rng(seed))
        corners = clip.centres - 13.5
        first.append(corners[0])
        pairs.add(clip.labels["digits"])
        # Not at a wall on the first 7 steps of 3.6 px: straight on.
        inside = ((corners[:8] > 0) & (corners[:8] < 35)).all((0, 2))
        way = corners[7] - corners[0]
        np.testing.assert_allclose(np.hypot(*way[inside].T) / 7, 3.6, atol=2 / 7)
        eighths = -np.arctan2(way[:, 1], way[:, 0]) / (np.pi / 4)
        # Whole pixels leave the angle open by a twentieth of a radian.
        if inside.all() and (abs(eighths - np.floor(eighths) - 0.5) > 0.08).all():
            assert clip.labels["directions"] == "-".join(sorted(DIRECTIONS[int(e) % 8] for e in np.rint(eighths)))
            named.add(clip.labels["directions"])
        moved.append(corners[1] - corners[0])
    assert len(pairs) == 55
    assert len(named) > 10
    starts, moves = np.array(first), np.array(moved)
    quartiles = np.quantile(starts.reshape(-1, 4), [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(quartiles, np.repeat([[9], [18], [27]], 4, axis=1), atol=2)
    slanted = moves[(moves != 0).all(-1)]
    quadrants = [((slanted > 0) == signs).all(-1).sum() for signs in itertools.product((True, False), repeat=2)]
    assert min(quadrants) > 0.85 * np.mean(quadrants)
    for other in (starts, moves):
        assert abs(np.corrcoef(other.reshape(-1, 4), rowvar=False)[:2, 2:]).max() < 0.1


def test_a_sequence_depends_on_its_split_and_number_alone(tmp_path: Path) -> None:
    root = write_mnist(tmp_path, alike=True)
    few = find_source("moving-mnist", {"train_clips": "3", "test_clips": "2"}).items(root)
    many = find_source("moving-mnist", {"train_clips": "6", "test_clips": "4"}).items(root)
    names = ["train/000000", "train/000001", "train/000002", "test/000000", "test/000001"]
    assert [(item.source, item.split) for item in few] == [(name, name.split("/")[0]) for name in names]
    hashes = {item.source: item.opener.sha256() for item in many}
    assert {item.source: item.opener.sha256() for item in few}.items() <= hashes.items()
    assert len(set(hashes.values())) == 10
    assert len(MovingMnistSource().items(root)) == 20_000
    for item in many:
        clip = drawn(item).draw()
        assert item.labels == clip.labels
        assert clip.frames.max() == BRIGHTEST[item.split]
        again = pickle.dumps(item.opener)
        assert len(again) < 500
        np.testing.assert_array_equal(pickle.loads(again).draw().frames, clip.frames)


def test_published_sequences_are_taken_as_they_are(tmp_path: Path) -> None:
    array = write_published(tmp_path / "alone")
    items = MovingMnistSource().items(tmp_path / "alone")
    assert [(item.source, item.split) for item in items] == [(f"published/00000{n}", "published") for n in range(3)]
    assert MovingMnistSource().present(tmp_path / "alone")
    assert MovingMnistSource().attachments(tmp_path / "alone") == {}
    for number, item in enumerate(items):
        assert item.opener.tracks().keypoints is None
        frames = np.stack([frame.image for frame in item.opener.readers()[0]().frames])
        np.testing.assert_array_equal(frames, np.repeat(array[:, number, :, :, None], 3, axis=-1))
    write_published(write_mnist(tmp_path / "both"))
    both = find_source("moving-mnist", {"train_clips": "1", "test_clips": "1"}).items(tmp_path / "both")
    assert [item.split for item in both] == ["train", "test", *["published"] * 3]


def test_a_published_file_that_is_none(tmp_path: Path) -> None:
    write_published(tmp_path / "cut")
    path = tmp_path / "cut" / "mnist_test_seq.npy"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match="cut short"):
        MovingMnistSource().items(tmp_path / "cut")
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "mnist_test_seq.npy", np.zeros((3, 20, 64, 64), np.uint8))
    with pytest.raises(DataError, match=r"\(20, N, 64, 64\)"):
        MovingMnistSource().items(tmp_path / "other")
    write_published(tmp_path / "fewer")
    with pytest.raises(ValueError, match="out of bounds"):
        PublishedSequence(tmp_path / "fewer" / "mnist_test_seq.npy", 3).sha256()


def test_what_is_missing_or_impossible_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is missing \(4 of 4"):
        MovingMnistSource().items(tmp_path)
    root = write_mnist(tmp_path / "mnist")
    (root / "t10k-labels-idx1-ubyte").unlink()
    write_published(root)
    assert not MovingMnistSource().present(tmp_path)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is missing \(1 of 4"):
        MovingMnistSource().items(root)
    for name, value in (("train_clips", "many"), ("test_clips", "-1"), ("published", "maybe")):
        with pytest.raises(DataError, match=f"--option {name}={value}"):
            find_source("moving-mnist", {name: value})


def test_shards_hold_what_was_drawn(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "mnist")
    published = write_published(root, 2)
    source = find_source("moving-mnist", {"train_clips": "5", "test_clips": "3"})
    run(root, tmp_path / "shards", SETTINGS, source)
    stored = {sample.record.source: sample for sample in samples(tmp_path / "shards")}
    assert len(stored) == 10
    for item in source.items(root):
        sample = stored[item.source]
        assert (sample.record.split, dict(sample.record.labels)) == (item.split, dict(item.labels))
        if item.split == "published":
            frames = np.repeat(published[:, item.opener.index, :, :, None], 3, axis=-1)  # type: ignore[attr-defined]
            assert sample.keypoints is None
        else:
            clip = drawn(item).draw()
            frames = clip.frames
            np.testing.assert_array_equal(sample.keypoints, clip.centres)
        np.testing.assert_array_equal(decode_clip(sample.mp4), frames)
    assert (tmp_path / "shards" / "endless.npz").read_bytes() == source.attachments(root)["endless.npz"]


def test_the_attachment_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    first = MovingMnistSource().attachments(write_mnist(tmp_path / "a"))["endless.npz"]
    assert first == MovingMnistSource().attachments(write_mnist(tmp_path / "b"))["endless.npz"]
    with zipfile.ZipFile(io.BytesIO(first)) as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    arrays = np.load(io.BytesIO(first))
    assert arrays["images"].shape == (10, 28, 28)
    assert arrays["images"].max() == BRIGHTEST["train"]


def test_on_the_real_digits(data_dir: Path) -> None:
    source = find_source("moving-mnist", {"train_clips": "200"})
    items = source.items(data_dir / "mnist")
    assert [item.split for item in items].count("test") == 10_000
    pairs = {str(item.labels["digits"]) for item in items if item.split == "test"}
    assert len(pairs) == 55
    for item in (*items[:5], *items[-5:]):
        frames = drawn(item).draw().frames
        assert frames.shape == (20, 64, 64, 3)
        assert (frames.max((1, 2, 3)) > 200).all()  # both digits are in every frame
        assert 0.02 < (frames > 0).mean() < 0.2
