"""Drawing the simulated table of :mod:`kineme.shards.sources.pushing_world` from above."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from kineme.shards.sample import Frames
from kineme.shards.sources.pushing_world import PADDLE, RIM, SIDE, TOUCH_HEIGHT, Gripper, Thing, Vector, WorldState

SIZE = 64
_FINE = 4  # drawn so many times larger, then averaged
_BASE = np.array([32.0, -14.0])  # the arm's shoulder, beyond the upper border
_LINK = 38.0  # length of upper arm and forearm: reaches every corner of the workspace
_TABLES = ((176, 144, 108), (150, 152, 156), (196, 184, 160), (128, 138, 126), (160, 120, 92))
_ARM, _ARM_LIGHT = (88, 92, 100), (150, 155, 164)
_PLATE_DOWN, _PLATE_UP = (36, 38, 44), (225, 120, 50)
_SHADOW = (0, 0, 0, 70)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """What a sequence looks like beside its motion.

    Attributes:
        table: empty, 256 x 256 RGB.
        colours: of the objects.
        elbow: 1 or -1, to which side the arm bends.
    """

    table: Image.Image
    colours: tuple[Colour, ...]
    elbow: int


def draw_look(objects: int, rng: np.random.Generator) -> Look:
    """A table top with grain, and colours for so many objects, well apart."""
    fine = SIZE * _FINE
    base = np.array(_TABLES[rng.integers(len(_TABLES))]) + rng.uniform(-12, 12, size=3)
    grain = _smooth_noise(rng, (96, 6), 5.0) + _smooth_noise(rng, (8, 8), 5.0) + rng.normal(0, 1.5, (fine, fine))
    if rng.integers(2):
        grain = grain.T
    table = base + grain[..., None]
    edge = round(RIM * _FINE)
    rim = np.ones((fine, fine), bool)
    rim[edge:-edge, edge:-edge] = False
    table[rim] *= 0.62
    hues = rng.uniform() + np.arange(objects) / objects + rng.uniform(-0.07, 0.07, size=objects)
    shades = rng.uniform((0.65, 0.7), (0.95, 0.95), size=(objects, 2))
    colours = [colorsys.hsv_to_rgb(hue % 1, *shade) for hue, shade in zip(hues, shades.tolist(), strict=True)]
    return Look(
        Image.fromarray(np.clip(table, 0, 255).astype(np.uint8)),
        tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours),
        1 if rng.integers(2) else -1,
    )


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], amplitude: float) -> Vector:
    coarse = Image.fromarray(rng.normal(0, amplitude, shape).astype(np.float32))
    return np.asarray(coarse.resize((SIZE * _FINE, SIZE * _FINE), Image.Resampling.BICUBIC), np.float64)


def draw_frame(state: WorldState, things: list[Thing], look: Look) -> Frames:
    """One frame, (64, 64, 3) uint8: table, shadows, objects, and the arm over all of it."""
    image = look.table.copy()
    draw = ImageDraw.Draw(image, "RGBA")
    outlines = [
        _rotated(thing.corners, angle) + centre
        for thing, centre, angle in zip(things, state.centres, state.angles, strict=True)
    ]
    for outline in outlines:
        _polygon(draw, outline + 1.0, _SHADOW)
    for outline, centre, colour in zip(outlines, state.centres, look.colours, strict=True):
        _polygon(draw, outline, _scaled(colour, 0.62))
        _polygon(draw, centre + 0.8 * (outline - centre), colour)
        # A mark towards one corner shows how the object turns.
        _line(draw, centre, centre + 0.6 * (outline[0] - centre), 1.0, _scaled(colour, 0.62))
    _draw_arm(draw, state.gripper, look.elbow)
    return np.asarray(image.reduce(_FINE))


def _draw_arm(draw: ImageDraw.ImageDraw, gripper: Gripper, elbow: int) -> None:
    """Two links from the shoulder, and the plate; the higher it is, the larger, and the farther off its shadow."""
    hand = np.array([gripper.x, gripper.y]) * SIDE
    reach = hand - _BASE
    distance = float(np.hypot(*reach))
    across = np.array([-reach[1], reach[0]]) / distance
    joint = _BASE + reach / 2 + elbow * across * np.sqrt(max(0.0, _LINK**2 - (distance / 2) ** 2))
    size = 1 + 0.3 * gripper.height
    plate = _rotated(np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * PADDLE / 2, gripper.rotation)
    colour = _PLATE_DOWN if gripper.height < TOUCH_HEIGHT else _PLATE_UP
    drop = 1 + 3.5 * gripper.height
    _polygon(draw, hand + plate * size + drop, _SHADOW)
    _line(draw, joint + drop + 1, hand + drop, 3.0, _SHADOW)
    _polygon(draw, hand + plate * size, colour)
    for start, end, width in ((_BASE, joint, 5.5), (joint, hand, 4.0)):
        _line(draw, start, end, width, _ARM)
        _line(draw, start, end, 0.35 * width, _ARM_LIGHT)
    _disc(draw, joint, 3.4, _ARM)
    _disc(draw, hand, 2.2 * size, _ARM)
    _disc(draw, hand, 1.1 * size, colour)


def _rotated(points: Vector, angle: float) -> Vector:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([(cos, sin), (-sin, cos)]))


def _fine(points: Vector) -> list[tuple[float, float]]:
    """From pixels, counted from the border, to numbers of fine pixels, whose centres are whole."""
    return [(x, y) for x, y in (points * _FINE - 0.5).tolist()]


def _polygon(draw: ImageDraw.ImageDraw, points: Vector, colour: tuple[int, ...]) -> None:
    draw.polygon(_fine(points), fill=colour)


def _line(draw: ImageDraw.ImageDraw, start: Vector, end: Vector, width: float, colour: tuple[int, ...]) -> None:
    draw.line(_fine(np.stack([start, end])), fill=colour, width=round(width * _FINE))


def _disc(draw: ImageDraw.ImageDraw, centre: Vector, radius: float, colour: tuple[int, ...]) -> None:
    draw.ellipse([*_fine(np.stack([centre - radius]))[0], *_fine(np.stack([centre + radius]))[0]], fill=colour)


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (round(factor * value) for value in colour)
    return red, green, blue
