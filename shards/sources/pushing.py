"""Simulated pushing: an arm with a gripper pushes four objects about on a table, seen from above. Made on the spot.

A stand-in for the BAIR robot pushing set with its shape of data (30 frames of 64 x 64, actions of 4 + 3 numbers), where
that set cannot be had, and where one wants to know exactly what moved. It is simulated: nothing measured on it says
anything about the real robot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.shards.sample import Label
from kineme.shards.sources.base import Defaults, FetchOptions, SourceItem
from kineme.shards.sources.drawn import DrawnSet, DrawnVideo, count_clips, drawn_items, was_drawn
from kineme.shards.sources.pushing_picture import SIZE, draw_frame, draw_look
from kineme.shards.sources.pushing_policy import PushingPolicy, draw_start
from kineme.shards.sources.pushing_world import SIDE, STEP_S, PushingWorld, WorldState

FPS = 1 / STEP_S
MOVED_PX = 4.0
"""An object has been moved if its centre was ever so many pixels from where it started."""
DIRECTIONS = ("e", "ne", "n", "nw", "w", "sw", "s", "se")
"""Compass, by eighths of a turn from east; north is up."""


def draw_sequence(frames: int, rng: np.random.Generator) -> DrawnVideo:
    """Simulate and draw one sequence.

    Args:
        frames: T, >= 1.
        rng: decides everything.

    Returns:
        Frames (T, 64, 64, 3); keypoints (T, 4, 2), the objects' centres; actions (T, 7): dx, dy (sides of the frame),
        rotation (radians) and lift that lead from frame t to t + 1, then the gripper's x, y (sides) and height (0 down,
        1 up) at frame t. The last action is what would have come next. Labels as :func:`describe`.
    """
    things, gripper = draw_start(rng)
    look = draw_look(len(things), rng)
    world = PushingWorld(things, gripper)
    policy = PushingPolicy(rng)
    states: list[WorldState] = []
    actions: list[NDArray[np.float32]] = []
    for t in range(frames):
        if t:
            world.step(actions[-1])
        states.append(world.state)
        actions.append(policy.act(states[-1]))
    centres = np.stack([state.centres for state in states])
    grippers = [(state.gripper.x, state.gripper.y, state.gripper.height) for state in states]
    return DrawnVideo(
        frames=np.stack([draw_frame(state, things, look) for state in states]),
        labels=describe(centres),
        # Whole numbers are centres of pixels.
        keypoints=np.asarray(centres * (SIZE / SIDE) - 0.5, np.float32),
        actions=np.concatenate([np.stack(actions), np.array(grippers, np.float32)], axis=1),
    )


def describe(centres: NDArray[np.float64]) -> dict[str, Label]:
    """The labels of a sequence, from its objects' centres (T, K, 2) in pixels.

    ``moved``: how many objects were moved; ``pushed``: whether any was; ``direction``: where the one went that ended
    farthest from its start, one of :data:`DIRECTIONS`, or "none" if none was moved.
    """
    paths = centres - centres[0]
    moved = int((np.hypot(paths[..., 0], paths[..., 1]).max(axis=0) >= MOVED_PX).sum())
    ends = paths[-1]
    x, y = ends[np.hypot(ends[:, 0], ends[:, 1]).argmax()]
    eighth = round(float(np.arctan2(-y, x)) / (np.pi / 4)) % len(DIRECTIONS)
    return {"moved": moved, "pushed": moved > 0, "direction": DIRECTIONS[eighth] if moved else "none"}


@dataclass(frozen=True)
class PushingSource:
    """Sequences of 30 frames of 64 x 64, simulated by pymunk: see :func:`draw_sequence` for what they hold.

    Sequence i of a split is drawn from (seed, split, i) alone: more clips keep the earlier ones. On one machine equal
    options give equal bytes; on another the last bits of the physics may differ, and with them what is drawn.
    """

    name: str = "pushing"
    description: str = (
        "a simulated arm pushing four objects on a table, 30 frames of 64x64 with actions and object centres; made on "
        "the spot"
    )
    licence: str = "Apache-2.0 (drawn by kineme)"
    origin: str = "built in, simulated: kineme fetch pushing --to DIR"
    defaults: Defaults = Defaults(clip_frames=30, size=SIZE)
    repeats: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def present(self, root: Path) -> bool:
        """Whether the clips were written there."""
        return was_drawn(self.name, root)

    def items(self, root: Path) -> list[SourceItem]:
        """The video files, found as in any folder. Raises DataError if ``root`` holds no simulated pushing."""
        return drawn_items(self.name, root)

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Simulate the sequences and write them as video files with labels, keypoints and actions; all or nothing.

        Raises:
            DataError: an option out of range, or ``to`` holds anything else.
        """
        counts = count_clips(options)
        frames = self.defaults.clip_frames if options.frames is None else options.frames
        facts: dict[str, Label] = {
            "simulated": True,
            "clips": options.clips,
            "seed": options.seed,
            "frames": frames,
            "train_fraction": options.train_fraction,
        }

        def draw(split: int, index: int) -> DrawnVideo:
            return draw_sequence(frames, np.random.default_rng((options.seed, split, index)))

        return DrawnSet(self.name, facts, FPS, counts, draw).write(to)
