"""Drawing moving digits and writing them as video files."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kineme.shards.codec import decode_clip
from kineme.shards.errors import DataError
from kineme.shards.sources.base import FetchOptions
from kineme.shards.sources.digit_images import DigitImages, bundled_digits, mnist_digits
from kineme.shards.sources.moving_digits import DIRECTIONS, SPEEDS, MovingDigitsSource, bounce, draw_clip

COMPASS = {
    "e": (1, 0),
    "ne": (1, -1),
    "n": (0, -1),
    "nw": (-1, -1),
    "w": (-1, 0),
    "sw": (-1, 1),
    "s": (0, 1),
    "se": (1, 1),
}


def _folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(st.floats(0, 42), st.floats(-3, 3), st.integers(1, 100))
def test_a_bounce_reflects_exactly_at_the_borders(start: float, speed: float, steps: int) -> None:
    position, velocity = start, speed
    for _ in range(steps):
        position += velocity
        if position < 0:
            position, velocity = -position, -velocity
        elif position > 42:
            position, velocity = 84 - position, -velocity
    assert bounce(np.array([start + steps * speed]), 42)[0] == pytest.approx(position, abs=1e-9)


def test_labels_say_what_was_drawn() -> None:
    digits = bundled_digits("train")
    seen = {"hit": 0, "free": 0}
    for seed in range(240):
        clip = draw_clip(digits, 16, np.random.default_rng(seed))
        room = 64 - digits.images.shape[-1]
        corners = clip.centres - (digits.images.shape[-1] - 1) / 2
        assert clip.frames.shape == (16, 64, 64, 3)
        assert corners.min() >= -1e-4
        assert corners.max() <= room + 1e-4
        steps = np.diff(clip.centres.astype(float), axis=0)
        straight = bool(np.allclose(steps, steps[0], atol=1e-4))
        assert clip.labels["wall_hit"] is not straight
        seen["free" if straight else "hit"] += 1
        if straight:
            speeds = sorted(str(round(float(np.hypot(*step)))) for step in steps[0])
            assert clip.labels["speeds"] == "-".join(speeds)
            unit = [tuple(np.rint(1.2 * step / np.hypot(*step)).astype(int)) for step in steps[0]]
            assert clip.labels["directions"] == "-".join(sorted(k for u in unit for k, v in COMPASS.items() if v == u))
    assert min(seen.values()) > 5


def test_a_digit_is_where_its_keypoint_is() -> None:
    """One bright symmetric square for a digit: its centre of mass is the keypoint, at every sub-pixel place."""
    square = np.zeros((1, 9, 9))
    square[0, 2:7, 2:7] = 200
    digits = DigitImages(square, np.array([4]))
    rows, columns = np.mgrid[:64, :64]
    checked = 0
    for seed in range(20):
        clip = draw_clip(digits, 16, np.random.default_rng(seed))
        assert clip.labels["digits"] == "4-4"
        for frame, centres in zip(clip.frames[..., 0].astype(float), clip.centres, strict=True):
            if np.abs(centres[0] - centres[1]).max() < 12:
                continue
            mass = np.array([(frame * columns).sum(), (frame * rows).sum()]) / frame.sum()
            np.testing.assert_allclose(mass, centres.mean(0), atol=0.05)
            checked += 1
    assert checked > 100


def test_test_digits_are_never_training_digits() -> None:
    train, test = bundled_digits("train"), bundled_digits("test")
    assert len(train.images) + len(test.images) == 1797
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert set(train.classes) == set(test.classes) == set(range(10))


def test_writes_real_files_and_more_clips_keep_the_first(tmp_path: Path) -> None:
    source = MovingDigitsSource()
    source.fetch(tmp_path / "few", FetchOptions(clips=5, seed=3))
    source.fetch(tmp_path / "many", FetchOptions(clips=10, seed=3))
    source.fetch(tmp_path / "other", FetchOptions(clips=5, seed=4))
    few, many = _folder_bytes(tmp_path / "few"), _folder_bytes(tmp_path / "many")
    videos = [name for name in few if name.endswith((".mp4", ".npy"))]
    assert len(videos) == 10
    assert all(many[name] == few[name] for name in videos)
    assert all(_folder_bytes(tmp_path / "other")[name] != few[name] for name in videos if name.endswith(".mp4"))
    assert decode_clip(few["train/000000.mp4"]).shape == (16, 64, 64, 3)
    items = source.items(tmp_path / "few")
    assert [(item.source, item.split) for item in items] == [
        ("test/000000.mp4", "test"), *((f"train/00000{number}.mp4", "train") for number in range(4)),
    ]  # fmt: skip
    pairs = {f"{a}-{b}" for a, b in itertools.product(sorted(DIRECTIONS), repeat=2) if a <= b}
    for item in items:
        assert set(item.labels) == {"digits", "directions", "speeds", "wall_hit"}
        assert item.labels["directions"] in pairs
        assert isinstance(item.labels["wall_hit"], bool)
        assert {int(speed) for speed in str(item.labels["speeds"]).split("-")} <= set(SPEEDS)
        keypoints = item.opener.tracks().keypoints
        assert keypoints is not None
        assert keypoints.shape == (16, 2, 2)
    with (tmp_path / "few" / "labels.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 5


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    source = MovingDigitsSource()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        source.fetch(tmp_path, FetchOptions(clips=2))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match="holds no moving-digits"):
        source.items(tmp_path)
    source.fetch(tmp_path / "new", FetchOptions(clips=2))
    assert "already" in source.fetch(tmp_path / "new", FetchOptions(clips=2))
    with pytest.raises(DataError, match="other options"):
        source.fetch(tmp_path / "new", FetchOptions(clips=3))


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"frames": 0}, {"seed": -1}, {"train_fraction": 1.5}])
def test_impossible_options_are_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(DataError, match="--"):
        MovingDigitsSource().fetch(tmp_path / "new", FetchOptions(**wrong))
    assert not list(tmp_path.iterdir())


def test_mnist_digits_from_their_files(data_dir: Path, tmp_path: Path) -> None:
    digits = mnist_digits(data_dir / "mnist", "test")
    assert digits.images.shape == (10_000, 28, 28)
    assert digits.classes[:5].tolist() == [7, 2, 1, 0, 4]
    MovingDigitsSource().fetch(tmp_path / "m", FetchOptions(clips=2, mnist=data_dir / "mnist", train_fraction=0))
    assert len(MovingDigitsSource().items(tmp_path / "m")) == 2


def test_mnist_files_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="t10k-images"):
        mnist_digits(tmp_path, "test")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + bytes(12) + b"x")
    with pytest.raises(DataError, match="not an idx file"):
        mnist_digits(tmp_path, "test")
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError):
        MovingDigitsSource().fetch(tmp_path / "new", FetchOptions(clips=2, mnist=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t10k-images-idx3-ubyte"]
