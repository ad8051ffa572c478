"""What happens on the simulated table: how a sequence starts, and where the gripper goes. Random, with purpose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kineme.shards.sources.pushing_world import (
    ACTION_LIMITS,
    PADDLE,
    SIDE,
    WORKSPACE,
    Gripper,
    Thing,
    Vector,
    WorldState,
)

OBJECTS = 4

_CORNERS = (3, 4, 4, 5, 6, 12)
_PUSHES = 0.75  # share of plans that are pushes; the rest wander
_HOPS = 0.25  # share of pushes that are approached with the gripper up
_WANDERS_UP = 0.3
_CLOSE = 0.02  # a way point has been reached, sides


def draw_start(rng: np.random.Generator) -> tuple[list[Thing], Gripper]:
    """Objects of random convex shape and density that do not touch, and a gripper that touches none."""
    shapes = [_draw_shape(rng) for _ in range(OBJECTS)]
    radii = np.array([np.hypot(*shape.T).max() for shape in shapes])
    while True:
        centres = rng.uniform(0.2 * SIDE, 0.8 * SIDE, size=(OBJECTS, 2))
        place = rng.uniform(*WORKSPACE, size=2)
        gaps = np.hypot(*(centres[:, None] - centres).transpose(2, 0, 1)) - radii[:, None] - radii
        off = np.hypot(*(centres - place * SIDE).T) - radii
        if (gaps[~np.eye(OBJECTS, dtype=bool)] > 1).all() and (off > PADDLE[0] / 2 + 1).all():
            break
    angles, densities = rng.uniform(0, 2 * np.pi, OBJECTS), rng.uniform(0.5, 2, OBJECTS)
    things = [
        Thing(shape, (float(x), float(y)), float(angle), float(density))
        for shape, (x, y), angle, density in zip(shapes, centres, angles, densities, strict=True)
    ]
    return things, Gripper(float(place[0]), float(place[1]), float(rng.uniform() < 0.3), float(rng.uniform(0, np.pi)))


def _draw_shape(rng: np.random.Generator) -> Vector:
    """Corners on an ellipse, so convex, about their centroid."""
    count = int(rng.choice(_CORNERS))
    around = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * (2 * np.pi / count)
    corners = rng.uniform(4.5, 6.5) * np.stack([np.cos(around), rng.uniform(0.65, 1) * np.sin(around)], axis=1)
    following = np.roll(corners, -1, axis=0)
    areas = corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]
    return np.asarray(corners - ((corners + following) * areas[:, None]).sum(axis=0) / (3 * areas.sum()))


class PushingPolicy:
    """Goes from way point to way point: to an object and through it with the gripper down, or just about."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._speed = rng.uniform(0.05, 0.09)
        self._route: list[Gripper] = []
        self._patience = 0

    def act(self, state: WorldState) -> NDArray[np.float32]:
        """The next action, (4,): dx, dy, rotation, lift, within ``ACTION_LIMITS`` and the workspace."""
        now = state.gripper
        while self._route and (self._patience <= 0 or _reached(now, self._route[0])):
            self._route.pop(0)
            self._set_patience(now)
        if not self._route:
            self._route = self._plan(state)
            self._set_patience(now)
        self._patience -= 1
        goal = self._route[0]
        way = np.array([goal.x - now.x, goal.y - now.y])
        way *= min(1.0, self._speed / max(1e-9, float(np.hypot(*way))))
        way += self._rng.normal(0, 0.006, size=2)
        turn = (goal.rotation - now.rotation + np.pi / 2) % np.pi - np.pi / 2  # half a turn leaves the plate as it is
        wanted = np.array([*way, turn + self._rng.normal(0, 0.05), goal.height - now.height])
        limits = np.array(ACTION_LIMITS)
        wanted = np.clip(wanted, -limits, limits)
        place = np.array([now.x, now.y])
        wanted[:2] = np.clip(place + wanted[:2], *WORKSPACE) - place
        return np.asarray(wanted, np.float32)

    def _set_patience(self, now: Gripper) -> None:
        """As many frames as the way takes, and two more: an object that is jammed must not hold the gripper up."""
        if self._route:
            goal = self._route[0]
            self._patience = int(np.hypot(goal.x - now.x, goal.y - now.y) / self._speed) + 3

    def _plan(self, state: WorldState) -> list[Gripper]:
        rng = self._rng
        if rng.uniform() > _PUSHES:
            x, y = rng.uniform(*WORKSPACE, size=2)
            return [Gripper(x, y, float(rng.uniform() < _WANDERS_UP), rng.uniform(0, np.pi))]
        thing = state.centres[rng.integers(len(state.centres))] / SIDE
        way = rng.uniform(0.3, 0.7, size=2) - thing
        way /= max(1e-9, float(np.hypot(*way)))
        across = float(np.arctan2(way[1], way[0])) + np.pi / 2 + rng.normal(0, 0.25)
        start = np.clip(thing - way * rng.uniform(0.15, 0.2), *WORKSPACE)
        end = np.clip(thing + way * rng.uniform(0.1, 0.35), *WORKSPACE)
        heights = (1.0, 0.0) if rng.uniform() < _HOPS else (0.0,)
        return [
            *(Gripper(start[0], start[1], height, across) for height in heights),
            Gripper(end[0], end[1], 0.0, across),
        ]


def _reached(now: Gripper, goal: Gripper) -> bool:
    return bool(np.hypot(goal.x - now.x, goal.y - now.y) < _CLOSE and abs(goal.height - now.height) < 0.05)
