"""The simulated pushing set: its physics, its pictures, and what is written."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_runs import run, samples

from kineme.shards.codec import decode_clip
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import FetchOptions
from kineme.shards.sources.drawn import DrawnSet, DrawnVideo
from kineme.shards.sources.pushing import FPS, MOVED_PX, PushingSource, describe, draw_sequence
from kineme.shards.sources.pushing_picture import Look, draw_frame, draw_look
from kineme.shards.sources.pushing_policy import draw_start
from kineme.shards.sources.pushing_world import (
    ACTION_LIMITS,
    PADDLE,
    RIM,
    SIDE,
    TOUCH_HEIGHT,
    WORKSPACE,
    Gripper,
    PushingWorld,
    Thing,
)

SETTINGS = IngestSettings(size=64, sampling=Sampling(clip_frames=30))
STILL = (0.0, 0.0, 0.0, 0.0)


def disc(centre: tuple[float, float], radius: float = 5.0, density: float = 1.0) -> Thing:
    around = np.arange(24) * (2 * np.pi / 24)
    return Thing(radius * np.stack([np.cos(around), np.sin(around)], axis=1), centre, density=density)


def outline(thing: Thing, centre: np.ndarray, angle: float) -> np.ndarray:
    """An object's corners, turned by the angle: x' = x cos - y sin, y' = x sin + y cos."""
    x, y = thing.corners.T
    return centre + np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=1)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """How deep two convex outlines lie in one another, by the separating axis theorem; negative if they are apart."""
    depth = np.inf
    for corners in (one, other):
        edges = np.roll(corners, -1, axis=0) - corners
        for x, y in edges:
            axis = np.array([-y, x]) / np.hypot(x, y)
            a, b = one @ axis, other @ axis
            depth = min(depth, min(a.max(), b.max()) - max(a.min(), b.min()))
    return float(depth)


@pytest.fixture(scope="module")
def drawn() -> list[DrawnVideo]:
    return [draw_sequence(30, np.random.default_rng((7, 0, index))) for index in range(60)]


def test_the_seed_decides_everything() -> None:
    def digest(seed: int) -> str:
        video = draw_sequence(12, np.random.default_rng((seed, 0, 5)))
        parts = (video.frames, video.keypoints, video.actions)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts if part is not None)).hexdigest()

    first = digest(3)
    assert digest(4) != first
    assert digest(3) == first
    program = (
        "import hashlib, numpy as np; from kineme.shards.sources.pushing import draw_sequence as d;"
        "v = d(12, np.random.default_rng((3, 0, 5)));"
        "print(hashlib.sha256(v.frames.tobytes() + v.keypoints.tobytes() + v.actions.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == first


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_nothing_moves_untouched(seed: int) -> None:
    """The gripper is up, and goes about over everything."""
    rng = np.random.default_rng(seed)
    things, gripper = draw_start(rng)
    world = PushingWorld(things, Gripper(gripper.x, gripper.y, 1.0))
    before = world.state
    for _ in range(12):
        dx, dy, turn, _ = rng.uniform(-1, 1, 4) * ACTION_LIMITS
        world.step((dx, dy, turn, 0.0))
    after = world.state
    assert (after.gripper.x, after.gripper.y) != (before.gripper.x, before.gripper.y)
    np.testing.assert_allclose(after.centres, before.centres, atol=1e-9)
    np.testing.assert_allclose(after.angles, before.angles, atol=1e-9)


@pytest.mark.parametrize("height", [1.0, TOUCH_HEIGHT])
def test_a_lifted_gripper_passes_over_and_a_lowered_one_pushes(height: float) -> None:
    things = [disc((32, 32))]
    for start, moves in ((height, False), (0.0, True)):
        world = PushingWorld(things, Gripper(0.25, 0.5, start, np.pi / 2))
        for _ in range(5):
            world.step((0.1, 0.0, 0.0, 0.0))
        assert world.state.gripper.x == pytest.approx(0.75, abs=1e-3)
        assert (np.hypot(*(world.state.centres[0] - 32)) > 1) == moves


def test_lowered_onto_an_object_it_rests_on_it() -> None:
    world = PushingWorld([disc((32, 32))], Gripper(0.5, 0.5, 1.0))
    for _ in range(4):
        world.step((0.0, 0.0, 0.0, -0.5))
    assert world.state.gripper.height == TOUCH_HEIGHT
    np.testing.assert_allclose(world.state.centres[0], (32, 32), atol=1e-9)
    for _ in range(2):
        world.step((0.0, -0.1, 0.0, 0.0))
    world.step((0.0, 0.0, 0.0, -0.5))
    assert world.state.gripper.height == 0.0


@settings(max_examples=40)
@given(
    st.floats(0, 2 * np.pi),
    st.floats(3.5, 6.5),
    st.floats(0.5, 2),
    st.floats(0.03, 0.08),
    st.integers(2, 4),
)
def test_what_is_pushed_goes_where_the_arm_goes(
    direction: float, radius: float, density: float, speed: float, frames: int
) -> None:
    """A disc, met by the middle of the plate: it goes straight ahead, ends in front of the plate, and comes to rest."""
    way = np.array([np.cos(direction), np.sin(direction)])
    start = np.array([0.5, 0.5]) - way * ((radius + PADDLE[1] / 2 + 0.5) / SIDE)
    world = PushingWorld([disc((32, 32), radius, density)], Gripper(*start, 0.0, direction + np.pi / 2))
    for _ in range(frames):
        world.step((*(speed * way), 0.0, 0.0))
    gripper = np.array([world.state.gripper.x, world.state.gripper.y])
    np.testing.assert_allclose(gripper, start + frames * speed * way, atol=1e-3)
    for _ in range(3):
        world.step(STILL)
    rest = world.state.centres[0]
    ahead, aside = (rest - gripper * SIDE) @ way, (rest - gripper * SIDE) @ (-way[1], way[0])
    # It left the plate at the gripper's speed, and slid at most v^2 / 2a on.
    slide = (speed * SIDE * FPS) ** 2 / (2 * 250)
    assert radius + PADDLE[1] / 2 - 0.3 < ahead < radius + PADDLE[1] / 2 + slide + 0.3
    assert abs(aside) < 0.3
    world.step(STILL)
    np.testing.assert_allclose(world.state.centres[0], rest, atol=1e-6)


def test_an_object_pushed_off_its_middle_turns() -> None:
    for side in (1, -1):
        bar = Thing(np.array([(-6.0, -2.0), (6, -2), (6, 2), (-6, 2)]), (32, 32))
        world = PushingWorld([bar], Gripper(0.5 + side * 7 / SIDE, 0.62, 0.0))
        for _ in range(3):
            world.step((0.0, -0.07, 0.0, 0.0))
        # Pushed up (towards smaller y) at its right end, it turns against the clock; y points down.
        assert side * world.state.angles[0] < -0.2


def test_a_jammed_object_stops_the_gripper() -> None:
    world = PushingWorld([disc((SIDE - RIM - 5, 32))], Gripper(0.8, 0.5, 0.0, np.pi / 2))
    for _ in range(3):
        world.step((0.1, 0.0, 0.0, 0.0))
    assert world.state.gripper.x * SIDE < SIDE - RIM - 10 - PADDLE[1] / 2 + 1
    assert world.state.centres[0, 0] < SIDE - RIM - 5 + 0.5


def test_objects_stay_on_the_table_and_out_of_one_another() -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        things, gripper = draw_start(rng)
        world = PushingWorld(things, gripper)
        for _ in range(30):
            outlines = [
                outline(thing, centre, angle)
                for thing, centre, angle in zip(things, world.state.centres, world.state.angles, strict=True)
            ]
            assert all(corners.min() > RIM - 1 and corners.max() < SIDE - RIM + 1 for corners in outlines)
            assert max(overlap(one, other) for one, other in itertools.combinations(outlines, 2)) < 0.8
            world.step(rng.uniform(-1, 1, 4) * ACTION_LIMITS)


def test_actions_lead_from_frame_to_frame(drawn: list[DrawnVideo]) -> None:
    blocked = 0
    for video in drawn:
        actions = video.actions
        assert actions is not None
        assert actions.shape == (30, 7)
        assert actions.dtype == np.float32
        assert (np.abs(actions[:, :4]) <= np.float32(ACTION_LIMITS)).all()
        positions = actions[:, 4:]
        off = np.abs(np.diff(positions[:, :2], axis=0) - actions[:-1, :2]).max(axis=1)
        blocked += int((off > 2e-3).sum())
        heights = np.clip(positions[:-1, 2] + actions[:-1, 3], 0, 1)
        held = positions[1:, 2] == TOUCH_HEIGHT
        np.testing.assert_allclose(positions[1:, 2][~held], heights[~held], atol=1e-6)
        assert (positions[:, :2] > WORKSPACE[0] - 0.02).all()
        assert (positions[:, :2] < WORKSPACE[1] + 0.02).all()
    assert blocked < 0.1 * 60 * 29


def test_most_sequences_hold_pushes(drawn: list[DrawnVideo]) -> None:
    assert np.mean([video.labels["pushed"] for video in drawn]) >= 0.6
    heights = np.stack([video.actions[:, 6] for video in drawn if video.actions is not None])
    assert (heights < TOUCH_HEIGHT).mean() >= 0.5
    assert (heights > TOUCH_HEIGHT).mean() >= 0.05
    assert len({video.labels["direction"] for video in drawn}) == 9


def test_objects_move_only_with_the_gripper_close(drawn: list[DrawnVideo]) -> None:
    """One object may push another on; and what was pushed before slides on a little."""
    for video in drawn:
        assert video.keypoints is not None
        assert video.actions is not None
        steps = np.hypot(*np.diff(video.keypoints, axis=0).transpose(2, 0, 1))
        off = np.hypot(*(video.keypoints[:-1] + 0.5 - SIDE * video.actions[:-1, None, 4:6]).transpose(2, 0, 1))
        nearest = off.min(axis=1) - 7 - PADDLE[0]
        assert (steps.max(axis=1)[nearest > 0.1 * SIDE] < 2.5).all()
        assert steps.max() < 9


def test_labels_say_what_happened() -> None:
    centres = np.full((5, 4, 2), 30.0)
    assert describe(centres) == {"moved": 0, "pushed": False, "direction": "none"}
    centres[2, 1, 0] += MOVED_PX  # there and back again
    centres[4, 3] += (5, -5)
    assert describe(centres) == {"moved": 2, "pushed": True, "direction": "ne"}
    centres[4, 0] += (-1, 9)
    assert describe(centres) == {"moved": 3, "pushed": True, "direction": "s"}


def test_keypoints_are_the_centres_of_what_is_seen() -> None:
    """An object's pixels are those that change with its colour."""
    rows, columns = np.mgrid[:64, :64]
    checked = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        things, _ = draw_start(rng)
        look = draw_look(len(things), rng)
        state = PushingWorld(things, Gripper(0.5, 0.15, 0.0)).state
        for number, centre in enumerate(state.centres):
            if centre[1] < 26:  # where the arm is
                continue
            colours = [(255, 255, 255) if other == number else colour for other, colour in enumerate(look.colours)]
            changed = draw_frame(state, things, Look(look.table, tuple(colours), look.elbow)).astype(int)
            mask = np.abs(changed - draw_frame(state, things, look)).sum(axis=-1) > 20
            assert mask.sum() > 20
            seen = np.array([columns[mask].mean(), rows[mask].mean()])
            np.testing.assert_allclose(seen, centre - 0.5, atol=0.6)
            checked += 1
    assert checked > 60


def test_the_gripper_is_seen_where_it_is_and_whether_it_is_up() -> None:
    rng = np.random.default_rng(0)
    look = draw_look(1, rng)
    things = [disc((10, 56))]
    empty = np.asarray(look.table.reduce(4)).astype(int)
    pictures = []
    for height in (0.0, 1.0):
        state = PushingWorld(things, Gripper(0.6, 0.7, height, 0.4)).state
        pictures.append(draw_frame(state, things, look))
        changed = np.abs(pictures[-1] - empty).sum(axis=-1)[:, 20:] > 60
        assert changed[round(0.7 * 64), round(0.6 * 64) - 20]
        assert np.flatnonzero(changed.any(axis=1)).max() == pytest.approx(0.7 * 64, abs=6 + 4 * height)
    around = np.s_[round(0.7 * 64) - 5 : round(0.7 * 64) + 5, round(0.6 * 64) - 5 : round(0.6 * 64) + 5]
    assert np.abs(pictures[0][around].astype(int) - pictures[1][around]).max() > 60


def test_end_to_end(tmp_path: Path) -> None:
    source = PushingSource()
    assert "wrote 5 clips" in source.fetch(tmp_path / "p", FetchOptions(clips=5, seed=2))
    assert source.present(tmp_path / "p")
    assert json.loads((tmp_path / "p" / "pushing.json").read_bytes()) == {
        "simulated": True, "clips": 5, "seed": 2, "frames": 30, "train_fraction": 0.8,
    }  # fmt: skip
    report = run(tmp_path / "p", tmp_path / "out", SETTINGS, source)
    assert report.rejects == []
    assert report.rates == {FPS: 5}
    found = {sample.record.source: sample for sample in samples(tmp_path / "out")}
    assert found.keys() == {"test/000000.mp4", *(f"train/00000{index}.mp4" for index in range(4))}
    for name, sample in found.items():
        split, _, rest = name.partition("/")
        expected = draw_sequence(30, np.random.default_rng((2, int(split == "test"), int(rest[:6]))))
        assert sample.record.split == split
        assert sample.record.dataset == "pushing"
        assert dict(sample.record.labels) == expected.labels
        np.testing.assert_array_equal(decode_clip(sample.mp4), expected.frames)
        np.testing.assert_array_equal(sample.actions, expected.actions)
        assert sample.keypoints is not None
        assert sample.keypoints.shape == (30, 4, 2)
        np.testing.assert_allclose(sample.keypoints, expected.keypoints, atol=1e-4)


def test_more_clips_keep_the_first_and_frames_may_be_fewer(tmp_path: Path) -> None:
    source = PushingSource()
    source.fetch(tmp_path / "few", FetchOptions(clips=2, frames=4, train_fraction=1))
    source.fetch(tmp_path / "many", FetchOptions(clips=3, frames=4, train_fraction=1))
    names = [f"train/00000{index}{end}" for index in (0, 1) for end in (".mp4", ".keypoints.npy", ".actions.npy")]
    assert all((tmp_path / "few" / name).read_bytes() == (tmp_path / "many" / name).read_bytes() for name in names)
    assert decode_clip((tmp_path / "few" / names[0]).read_bytes()).shape == (4, 64, 64, 3)
    assert "already" in source.fetch(tmp_path / "few", FetchOptions(clips=2, frames=4, train_fraction=1))
    with pytest.raises(DataError, match="other options"):
        source.fetch(tmp_path / "few", FetchOptions(clips=2, train_fraction=1))
    with pytest.raises(DataError, match="--frames 0"):
        source.fetch(tmp_path / "new", FetchOptions(frames=0))
    with pytest.raises(DataError, match="holds no pushing"):
        source.items(tmp_path)


def test_a_set_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def draw(split: int, index: int) -> DrawnVideo:
        if index == 2:
            raise KeyboardInterrupt
        return draw_sequence(2, np.random.default_rng((split, index)))

    with pytest.raises(KeyboardInterrupt):
        DrawnSet("pushing", {}, FPS, {"train": 3, "test": 0}, draw).write(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_it_is_called_simulated_and_never_bair() -> None:
    source = PushingSource()
    assert "simulated" in source.description
    assert "simulated" in source.origin
    assert "bair" not in f"{source.name} {source.description} {source.origin}".lower()
