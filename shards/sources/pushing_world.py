"""A simulated table seen from above: four convex objects and a gripper that pushes them. Rigid bodies by pymunk.

Units: pixels of the 64 x 64 frame, x to the right and y down from its upper left corner. The gripper is reported and
commanded in sides of the frame (64 px), its height as 0 (down) to 1 (up). Angles are radians.

Friction with the table is Coulomb's: every object is held to the table by joints that yield above a force and a torque
proportional to its mass, so that nothing moves untouched and what was pushed comes to rest. The gripper follows its
commands unless objects that are jammed against the rim resist: it is driven with a limited force. The same commands
give the same motion on one machine; on another, the last bits of the arithmetic may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pymunk

SIDE = 64.0
"""Pixels of a side of the table; the frame shows all of it."""
RIM = 2.0
"""The table ends so many pixels inside the frame."""
STEP_S = 0.25
"""Seconds between two frames."""
ACTION_LIMITS = (0.1, 0.1, 0.5, 0.5)
"""Largest absolute dx, dy (sides), rotation (radians) and lift of one action."""
WORKSPACE = (0.15, 0.85)
"""Range of the gripper's x and y, in sides."""
TOUCH_HEIGHT = 0.5
"""The gripper touches objects below this height, and passes over them or rests on them from it upwards."""
PADDLE = (9.0, 3.5)
"""Length and thickness of the gripper's plate, pixels."""

_SUBSTEPS = 20
_ITERATIONS = 20
_SLIDE = 250.0  # deceleration of a sliding object, px / s^2
_SPIN_SHARE = 0.25
_FRICTION = 0.4  # between objects, gripper and rim
_GRIPPER_MASS = 150.0
_DRIVE_FORCE = 2e5  # enough to push several objects at once
_DRIVE_TORQUE = 4e6

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Thing:
    """An object on the table.

    Attributes:
        corners: of the convex outline about its centroid, (V, 2) pixels.
        centre: where the centroid starts, pixels.
        angle: radians.
        density: mass by area.
    """

    corners: Vector
    centre: tuple[float, float]
    angle: float = 0.0
    density: float = 1.0


@dataclass(frozen=True)
class Gripper:
    """Pose of the gripper: x, y in sides, height 0 to 1, rotation in radians (0: its plate lies along x)."""

    x: float
    y: float
    height: float
    rotation: float = 0.0


@dataclass(frozen=True)
class WorldState:
    """What a frame shows: the gripper, and the objects' centres (K, 2) in pixels and angles (K,)."""

    gripper: Gripper
    centres: Vector
    angles: Vector


class PushingWorld:
    """The table, moved on by one action a frame."""

    def __init__(self, things: Sequence[Thing], gripper: Gripper) -> None:
        import pymunk

        self._space = pymunk.Space()
        self._space.iterations = _ITERATIONS
        self._space.collision_slop = 0.05
        self._add_rim()
        self._bodies = [self._add_thing(thing) for thing in things]
        self._height = gripper.height
        self._touches = pymunk.ShapeFilter()
        self._passes = pymunk.ShapeFilter(mask=0)
        self._add_gripper(gripper)

    @property
    def state(self) -> WorldState:
        """As it is now."""
        x, y = self._gripper.position / SIDE
        return WorldState(
            Gripper(x, y, self._height, self._gripper.angle),
            np.array([body.position for body in self._bodies], np.float64).reshape(-1, 2),
            np.array([body.angle for body in self._bodies], np.float64),
        )

    def step(self, action: Sequence[float] | NDArray[np.float32]) -> None:
        """Move on to the next frame.

        Args:
            action: dx, dy, rotation, lift, cut to :data:`ACTION_LIMITS`; the gripper stays in :data:`WORKSPACE` and at
                heights of 0 to 1, and does not sink into an object below it.
        """
        now = self.state.gripper
        dx, dy, turn, lift = (float(np.clip(a, -m, m)) for a, m in zip(action, ACTION_LIMITS, strict=True))
        target = [float(np.clip(value, *WORKSPACE)) for value in (now.x + dx, now.y + dy)]
        height = float(np.clip(self._height + lift, 0, 1))
        velocity = ((target[0] - now.x) * SIDE / STEP_S, (target[1] - now.y) * SIDE / STEP_S)
        self._carriage.position, self._carriage.angle = self._gripper.position, self._gripper.angle
        for body in (self._carriage, self._gripper):
            body.velocity, body.angular_velocity = velocity, turn / STEP_S
        start = self._height
        for substep in range(1, _SUBSTEPS + 1):
            self._set_height(start + (height - start) * substep / _SUBSTEPS)
            self._space.step(STEP_S / _SUBSTEPS)

    def _set_height(self, wanted: float) -> None:
        if wanted < TOUCH_HEIGHT <= self._height and self._is_above_an_object():
            wanted = TOUCH_HEIGHT
        self._height = wanted
        self._paddle.filter = self._touches if wanted < TOUCH_HEIGHT else self._passes

    def _is_above_an_object(self) -> bool:
        self._paddle.filter = self._touches
        return bool(self._space.shape_query(self._paddle))

    def _add_rim(self) -> None:
        import pymunk

        thick = 20.0
        low, high = RIM - thick, SIDE - RIM + thick
        corners = [(low, low), (high, low), (high, high), (low, high)]
        for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
            wall = pymunk.Segment(self._space.static_body, start, end, thick)
            wall.friction = _FRICTION
            self._space.add(wall)

    def _add_thing(self, thing: Thing) -> pymunk.Body:
        import pymunk

        body = pymunk.Body()
        body.position, body.angle = thing.centre, thing.angle
        shape = pymunk.Poly(body, [(float(x), float(y)) for x, y in thing.corners])
        shape.density, shape.friction = thing.density, _FRICTION
        self._space.add(body, shape)
        slide = pymunk.PivotJoint(self._space.static_body, body, (0.0, 0.0), (0.0, 0.0))
        spin = pymunk.GearJoint(self._space.static_body, body, 0.0, 1.0)
        # Without position correction a joint resists motion alone: that is friction.
        slide.max_bias = spin.max_bias = 0.0
        slide.max_force = body.mass * _SLIDE
        # The radius of a disc of this moment, times the force, times a share: 2/3 where a disc turns on the spot, less
        # while it slides, for then friction acts against the sliding.
        spin.max_force = slide.max_force * _SPIN_SHARE * float(np.sqrt(2 * body.moment / body.mass))
        self._space.add(slide, spin)
        return body

    def _add_gripper(self, gripper: Gripper) -> None:
        """A plate coupled to a carriage that moves as commanded."""
        import pymunk

        self._carriage = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self._gripper = pymunk.Body(_GRIPPER_MASS, pymunk.moment_for_box(_GRIPPER_MASS, PADDLE))
        for body in (self._carriage, self._gripper):
            body.position, body.angle = (gripper.x * SIDE, gripper.y * SIDE), gripper.rotation
        self._paddle = pymunk.Poly.create_box(self._gripper, PADDLE)
        self._paddle.friction = _FRICTION
        drive = pymunk.PivotJoint(self._carriage, self._gripper, (0.0, 0.0), (0.0, 0.0))
        turn = pymunk.GearJoint(self._carriage, self._gripper, 0.0, 1.0)
        drive.max_force, turn.max_force = _DRIVE_FORCE, _DRIVE_TORQUE
        drive.error_bias = turn.error_bias = 1e-12
        self._space.add(self._carriage, self._gripper, self._paddle, drive, turn)
        self._set_height(gripper.height)
