"""Histograms of optical flow: an encoder that needs no training.

motion: for each step from a frame to the next, a histogram of the directions of flow (HOF; Dalal, Triggs & Schmid 2006;
Laptev et al. 2008), as Wang et al. (2011, dense trajectories) bin it: every pixel votes with its magnitude for the two
directions beside its own, linearly; pixels slower than a threshold vote with weight 1 for a bin of their own. Unlike
theirs, which describe small volumes, the histogram is of the whole frame unless ``cells`` says otherwise, so it does
not say where something moves. A cell's votes are divided by its pixels, and their square roots are kept (Hellinger
kernel; Arandjelović & Zisserman 2012). Neither steps nor clips are brought to length 1: how much moves in each step is
information, and beside the bin of still pixels it survives the cosine that the index compares by.

appearance: the mean frame, 8 x 8, and a histogram of 4 x 4 x 4 colours, each of length 1. Plain, and not free of
motion: the mean frame shows where things have been.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from kineme.pipeline.encoders import RunEncoder
from kineme.pipeline.frames import to_model, to_uint8
from kineme.pipeline.recipe import change_settings, dump_recipe, read_yaml, validated
from kineme.pipeline.run import RECIPE
from kineme.retrieval.vectors import Vectors
from kineme.shards.sample import Frames

KIND: Final = "motion-histogram"
THUMBNAIL = 8
COLOUR_LEVELS = 4


class MotionHistogramRecipe(BaseModel):
    """Settings of the encoder, flat: there is nothing to train.

    Attributes:
        clip_frames: frames T of a clip.
        frame_step: distance of two of them, in stored frames.
        frame_size: frames are resized to this, pixels; speeds are in its pixels.
        directions: bins of direction; the first is centred on "to the right", the next ones follow clockwise.
        cells: the frame is divided into cells x cells histograms; with 1 they do not say where something moves.
        still_below: slower pixels are still, pixels a frame (0.4 as in Wang et al.'s program).
        window: see `flow`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["motion-histogram"] = KIND
    clip_frames: Annotated[int, Field(ge=2)] = 16
    frame_step: Annotated[int, Field(ge=1)] = 1
    frame_size: Annotated[int, Field(ge=16)] = 64
    directions: Annotated[int, Field(ge=2)] = 8
    cells: Annotated[int, Field(ge=1, le=16)] = 1
    still_below: Annotated[float, Field(gt=0)] = 0.4
    window: Annotated[int, Field(ge=3)] = 11


class MotionHistogramEncoder(RunEncoder):
    """Motion and appearance as the head of this file says; computes on the CPU, in the threads that OpenCV is given."""

    def __init__(self, recipe: MotionHistogramRecipe) -> None:
        self.clip_frames = recipe.clip_frames
        self.frame_step = recipe.frame_step
        self.frame_size = recipe.frame_size
        self.motion_dim = (recipe.clip_frames - 1) * recipe.cells**2 * (recipe.directions + 1)
        self.appearance_dim = 3 * THUMBNAIL**2 + COLOUR_LEVELS**3
        self._recipe = recipe

    def encode_batch(self, frames: Tensor) -> tuple[Vectors, Vectors]:
        """See `RunEncoder`."""
        clips = to_uint8(to_model(frames, self.frame_size)).numpy()
        return motion_histograms(clips, self._recipe), _appearance(clips)


def flow(frames: Frames, window: int = 11) -> NDArray[np.float32]:
    """Optical flow from each frame to the next (Farnebäck 2003), of the grey pictures.

    The parameters agree best with the true displacements of digits of 28 pixels that move by 2 to 4.5 pixels a frame
    (Moving MNIST, 200 training clips): mean error 0.04 pixels on the digits. A flat background beside a moving thing
    moves with it, as far as the window reaches.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        window: size of the Gaussian window that flow is averaged over, pixels: larger ones bear faster motion and more
            noise, and blur more.

    Returns:
        (T-1, H, W, 2) float32: x to the right, y downwards, pixels a frame.
    """
    greys = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    out = np.empty((len(frames) - 1, *frames.shape[1:3], 2), np.float32)
    for step in range(len(out)):
        # pyramid scale 0.5, 3 levels, the window, 3 iterations, neighbourhood of 5 pixels, its sigma 1.1
        cv2.calcOpticalFlowFarneback(greys[step], greys[step + 1], out[step], 0.5, 3, window, 3, 5, 1.1, flags)
    return out


def histograms_of_flow(field: NDArray[np.float32], recipe: MotionHistogramRecipe) -> NDArray[np.float64]:
    """Histograms of the directions of flow, one for each step and cell.

    Args:
        field: (T-1, H, W, 2) as `flow` gives it; of any size.
        recipe: ``directions``, ``cells`` and ``still_below`` are used.

    Returns:
        (T-1, cells * cells, directions + 1): mean magnitude, in pixels a frame, that falls to each direction, and last
        the share of still pixels. Cells go row by row.
    """
    steps, height, width, _ = field.shape
    bins, cells = recipe.directions, recipe.cells
    x, y = field[..., 0].astype(np.float64), field[..., 1].astype(np.float64)
    magnitude = np.hypot(x, y)
    still = magnitude < recipe.still_below
    moving = np.where(still, 0, magnitude)
    place = np.arctan2(y, x) * (bins / (2 * np.pi))
    before = np.floor(place)
    share = place - before

    rows, columns = (np.arange(size) * cells // size for size in (height, width))
    box = np.arange(steps)[:, None, None] * cells**2 + rows[:, None] * cells + columns
    count = steps * cells**2

    def vote(bin_number: NDArray[np.int64] | int, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        where = box * (bins + 1) + bin_number
        return np.bincount(where.ravel(), weight.ravel(), count * (bins + 1)).astype(np.float64)

    first = before.astype(np.int64) % bins
    votes = vote(first, moving * (1 - share)) + vote((first + 1) % bins, moving * share)
    votes += vote(bins, still.astype(np.float64))
    pixels = np.bincount(box.ravel(), minlength=count)
    return (votes.reshape(count, -1) / np.maximum(pixels, 1)[:, None]).reshape(steps, cells**2, bins + 1)


def motion_histograms(frames: Frames, recipe: MotionHistogramRecipe) -> Vectors:
    """The motion vectors of clips at the size they have: roots of the histograms of flow, step by step.

    Args:
        frames: (B, T, H, W, 3) uint8 RGB.
        recipe: how to bin; ``clip_frames``, ``frame_step`` and ``frame_size`` are the caller's to apply.

    Returns:
        (B, (T-1) * cells * cells * (directions + 1)) float32.
    """
    histograms = [histograms_of_flow(flow(clip, recipe.window), recipe).ravel() for clip in frames]
    return np.sqrt(np.stack(histograms)).astype(np.float32)


def write_recipe(folder: Path, overrides: list[str]) -> None:
    """Write the encoder's recipe into ``folder``: with it alone `load` makes the encoder.

    Args:
        folder: an existing folder.
        overrides: ``key=value`` for settings other than the defaults.

    Raises:
        RunError: an unknown key or a value out of its range.
    """
    settings: dict[str, object] = {"kind": KIND}
    change_settings(settings, overrides)
    recipe = validated(MotionHistogramRecipe, settings, KIND)
    (folder / RECIPE).write_text(dump_recipe(recipe), encoding="utf-8")


def load(folder: Path, device: torch.device | None) -> MotionHistogramEncoder:
    """The encoder of a folder with a motion-histogram recipe. Raises a RunError if its settings are none."""
    recipe = folder / RECIPE
    return MotionHistogramEncoder(validated(MotionHistogramRecipe, read_yaml(recipe), recipe))


def _appearance(clips: Frames) -> Vectors:
    """(B, T, H, W, 3) uint8 -> (B, 256): the mean frame, rows x columns x RGB, then the roots of colours' shares."""
    mean = torch.from_numpy(clips.mean(axis=1, dtype=np.float32)).movedim(-1, 1)
    thumbnail = F.adaptive_avg_pool2d(mean, THUMBNAIL).movedim(1, -1).flatten(1)
    levels = clips // (256 // COLOUR_LEVELS)
    codes = levels @ np.array([COLOUR_LEVELS**2, COLOUR_LEVELS, 1], np.uint8)
    colours = [np.bincount(clip.ravel(), minlength=COLOUR_LEVELS**3) / clip.size for clip in codes]
    return np.concatenate([F.normalize(thumbnail).numpy(), np.sqrt(colours)], axis=1).astype(np.float32)
