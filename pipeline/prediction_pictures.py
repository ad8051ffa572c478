"""Predictions as files: film strips, films side by side, and how far the futures of a clip lie apart."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kineme.pipeline.clips import check_suffix, write_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_uint8
from kineme.pipeline.pictures import film_strips, given_frames, save_picture
from kineme.pipeline.prediction import Prediction
from kineme.shards.sample import Frames

COLOURS = "inferno"
"""From black over red to pale yellow, evenly brighter: also read in grey."""
_GAP = 2
_GAP_GREY = 128


def check_files(out: Path, *, clip: Path, samples: int, spread: Path | None, stream: bool) -> None:
    """Refuse files that `write_prediction` cannot write, before the work for them is done, by RunError."""
    check_suffix(out)
    for name, path in (("out", out), ("spread", spread)):
        if path is not None and path.resolve() == clip.resolve():
            raise RunError(f"--{name} {path}: is the clip itself, which would be lost; give another name")
        if path is not None and clip.is_dir() and path.resolve().parent == clip.resolve():
            raise RunError(f"--{name} {path}: lies among the images of the clip, {clip}; give another folder")
    suffix = out.suffix.lower()
    if stream and suffix != ".mp4":
        raise RunError(
            f"{out}: --stream writes .mp4 alone, for a {suffix} is made of all its frames at once; name it .mp4, or "
            "leave --stream out"
        )
    if spread is None:
        return
    if stream:
        raise RunError(f"--spread {spread}: shows all frames at once, and --stream keeps none; leave one of them out")
    if spread.suffix.lower() != ".png":
        raise RunError(f"--spread {spread}: the spread is drawn as a picture; name it .png")
    if spread.absolute() == out.absolute():
        raise RunError(f"--spread {spread}: is the file of --out, too; give it another name")
    if samples < 2:
        raise RunError(
            f"--spread {spread}: of one future there is no spread; add --samples 10, where the run can draw several"
        )


def write_prediction(prediction: Prediction, out: Path, spread: Path | None = None) -> None:
    """Draw a prediction into files, each whole or not at all.

    Args:
        prediction: not read yet.
        out: .mp4 or .gif of the futures side by side, or a .png of `prediction_strips`. An .mp4 without ``spread`` is
            written while the frames come.
        spread: the .png of `spread_strips`.

    Raises:
        RunError: a suffix that is none of these.
    """
    suffix, fps = out.suffix.lower(), prediction.fps
    if suffix == ".mp4" and spread is None:
        write_clip((side_by_side(as_films(frames)) for frames in prediction.frames), fps, out)
        return
    films, means, spreads = [], [], []
    for number, frames in enumerate(prediction.frames):
        films.append(as_films(frames))
        if spread is not None and number >= prediction.context:
            means.append(as_films(frames.mean(dim=0, keepdim=True))[0])
            spreads.append(spread_of(frames).cpu().numpy())
    if suffix == ".png":
        save_picture(prediction_strips(prediction, np.stack(films, axis=1)), out)
    else:
        write_clip(map(side_by_side, films), fps, out)
    if spread is not None:
        save_picture(spread_strips(np.stack(means), np.stack(spreads), prediction), spread)


def as_films(frames: Tensor) -> Frames:
    """One frame of each future, (N, 3, S, S) in [0, 1] -> (N, S, S, 3) uint8."""
    shown: Frames = to_uint8(frames[None])[0].numpy()
    return shown


def spread_of(frames: Tensor) -> Tensor:
    """How far one frame of N >= 2 futures, (N, 3, S, S) in [0, 1], lies apart: (S, S), a share of the full range.

    The standard deviation over the futures (with N - 1) of each pixel, as the root of the mean square of its colours.
    """
    return frames.var(dim=0).mean(dim=0).sqrt()


def side_by_side(frames: Frames) -> Frames:
    """Frames (N, S, S, 3) as one, row by row in a square grid with grey gaps; a single one is left as it is."""
    count, size = frames.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    step = size + _GAP
    grid = np.full((rows * step - _GAP, columns * step - _GAP, 3), _GAP_GREY, np.uint8)
    for number, frame in enumerate(frames):
        top, left = number // columns * step, number % columns * step
        grid[top : top + size, left : left + size] = frame
    return grid


def prediction_strips(prediction: Prediction, films: Frames) -> Image.Image:
    """A row for each future, below the truth as far as the clip goes.

    Args:
        prediction: what was read and drawn.
        films: all its frames, (N, T, S, S, 3).
    """
    given = given_frames(prediction.context)
    if len(films) == 1:
        captions = [f"prediction\n{given}"]
    else:
        captions = [
            f"prediction {number} of {len(films)}\nseed {seed}, {given}"
            for number, seed in enumerate(prediction.seeds, 1)
        ]
    if prediction.truth is None:
        return film_strips(list(films), captions, frames_per_clip=None)
    ends = "" if len(prediction.truth) == films.shape[1] else f"\nthe clip ends after {len(prediction.truth)} frames"
    return film_strips([prediction.truth, *films], [f"truth{ends}", *captions], frames_per_clip=None)


def spread_strips(means: Frames, spreads: NDArray[np.float32], prediction: Prediction) -> Image.Image:
    """The mean picture of the futures, and below it their spread as a heat map; of the drawn frames alone.

    Args:
        means: (horizon, S, S, 3) uint8.
        spreads: `spread_of` each frame, (horizon, S, S).
        prediction: what they are of.
    """
    most = float(spreads.max())
    # Where all futures are the same, all is dark.
    heat = matplotlib.colormaps[COLOURS](spreads / (most or 1), bytes=True)[..., :3]
    first, last = prediction.context + 1, prediction.context + prediction.horizon
    captions = [
        f"mean of {len(prediction.seeds)} predictions\nframes {first} to {last}, all drawn",
        f"spread\nstandard deviation over the predictions: 0 (black) to {most:.2g} of full range (yellow)",
    ]
    return film_strips([means, np.ascontiguousarray(heat)], captions, frames_per_clip=None)
