"""Where predicted frames of simulated pushing show the objects that were pushed.

The centres of the objects are stored with the clips, and each has a colour of its own, which the last context frame
shows around its centre. In another frame of the clip an object is the heaviest connected piece of pixels of its colour,
and its centre their centroid. Shade does not count: colours are compared without their grey part, so that an object's
darker edge and the arm's shadow on it belong to it. With b the table's colour and c_k that of object k, a pixel p is

    on its way to k by       a_k = (p - b) . (c_k - b) / |c_k - b|^2, cut to [0, 1]
    in the direction of k by cos((p - b), (c_k - b))

It belongs to the object in whose direction it is most, if that is within `DIRECTION` and the pixel at least half-way
there, and weighs a_k. So an object that is blurred, mixed with the table, is found as well, unless it is so faint that
most of what is seen is table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from kineme.shards.sources.pushing import MOVED_PX, PushingSource

SEEN_PX = 1.5
"""An object is hidden where the true frame itself shows its centre farther than so many pixels from where it is."""
DIRECTION = 0.9
"""Cosine of the widest angle, 26 degrees, between an object's colour and that of its pixels, seen from the table's."""
_AROUND = 2  # pixels about a centre that are looked at for the colour: 5 x 5
_VIVID = 9  # of these so many, the most vivid, give it: the arm may cover the others
_NO_COLOUR = 1e-9  # keeps what is as grey as the table from dividing by zero

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Palette:
    """Colours without their grey part: of the table, (3,), and of the objects, (K, 3)."""

    table: Array
    objects: Array


def has_objects(dataset: str) -> bool:
    """Whether the keypoints of a data set are the centres of objects that their colours tell apart."""
    return dataset == PushingSource.name


def object_errors(
    seen: Tensor, truth: Tensor, drawn: Mapping[str, Tensor], keypoints: Tensor, stored: tuple[int, int]
) -> dict[str, Tensor]:
    """How far objects are from their true centres in drawn frames, in pixels of the stored frame.

    Only objects count that moved by `MOVED_PX` or more between the two frames, and that the true frame shows within
    `SEEN_PX` of where they are; others are hidden by the arm, then or in the last context frame. An object that is not
    found in a drawn frame has stayed where it was.

    Args:
        seen: the last context frame of each clip, (B, 3, S, S) in [0, 1].
        truth: the frame to find the objects in, likewise.
        drawn: predictions of it, by suffix.
        keypoints: (B, 2, K, 2), the true centres in the two frames, pixels of the stored frame, x before y.
        stored: height and width of the stored frame.

    Returns:
        (M,) each, one number an object that counts: ``object_error_px_truth``, that of the finder on the true frame;
        ``object_error_px_still``, how far it moved; and ``object_error_pxSUFFIX`` and ``objects_foundSUFFIX`` (0 or 1)
        for each of ``drawn``.
    """
    rows: dict[str, list[Array]] = {f"object_error_px_{name}": [] for name in ("truth", "still")}
    rows |= {f"{name}{suffix}": [] for suffix in drawn for name in ("object_error_px", "objects_found")}
    height, width = stored
    # Stored pixels to one of the model's; whole numbers are centres of pixels in both.
    scale = np.array([width, height]) / np.array([seen.shape[-1], seen.shape[-2]])
    for clip in range(len(seen)):
        before, after = keypoints[clip].double().cpu().numpy()
        moved = np.hypot(*(after - before).T)
        palette = read_palette(_pixels(seen[clip]), (before + 0.5) / scale - 0.5)
        own = _distances(truth[clip], palette, after, scale)
        # An object that is not found is at no distance (NaN), which is not near.
        counts = (moved >= MOVED_PX) & (own <= SEEN_PX)
        rows["object_error_px_truth"].append(own[counts])
        rows["object_error_px_still"].append(moved[counts])
        for suffix, frames in drawn.items():
            off = _distances(frames[clip], palette, after, scale)
            found = ~np.isnan(off)
            rows[f"object_error_px{suffix}"].append(np.where(found, off, moved)[counts])
            rows[f"objects_found{suffix}"].append(found[counts].astype(np.float64))
    return {name: seen.new_tensor(np.concatenate(values)) for name, values in rows.items()}


def read_palette(frame: Array, centres: Array) -> Palette:
    """The colours of a frame (H, W, 3), with the objects' centres (K, 2) in its own pixels, x before y."""
    return Palette(
        _chroma(np.median(frame.reshape(-1, 3), axis=0)), _chroma(np.stack([_at(frame, c) for c in centres]))
    )


def find_objects(frame: Array, palette: Palette) -> Array:
    """The centres (K, 2) of the objects in a frame (H, W, 3) in [0, 1], its own pixels; NaN for what is not found."""
    ways = palette.objects - palette.table
    off = _chroma(frame) - palette.table
    along, lengths = off @ ways.T, np.maximum(np.linalg.norm(ways, axis=1), _NO_COLOUR)
    direction = along / (lengths * np.maximum(np.linalg.norm(off, axis=-1, keepdims=True), _NO_COLOUR))
    share = np.clip(along / lengths**2, 0, 1)
    share[(share < 0.5) | (direction < DIRECTION)] = 0
    nearest = direction.argmax(axis=-1)
    return np.stack([_centroid(np.where(nearest == k, share[..., k], 0)) for k in range(len(ways))])


def _distances(frame: Tensor, palette: Palette, centres: Array, scale: Array) -> Array:
    """Of the objects in a frame (3, S, S) from their true centres (K, 2), in stored pixels: (K,), NaN if not found."""
    found = (find_objects(_pixels(frame), palette) + 0.5) * scale - 0.5
    return np.asarray(np.hypot(*(found - centres).T))


def _centroid(weights: Array) -> Array:
    """x and y of the heaviest connected piece of a map (H, W)."""
    labels, pieces = ndimage.label(weights)
    if not pieces:
        return np.full(2, np.nan)
    masses = ndimage.sum_labels(weights, labels, np.arange(1, pieces + 1))
    y, x = ndimage.center_of_mass(weights, labels, 1 + int(np.argmax(masses)))
    return np.array([x, y])


def _at(frame: Array, centre: Array) -> Array:
    """The colour at a centre: the median of the most vivid pixels around it."""
    height, width = frame.shape[:2]
    x, y = np.clip(np.round(centre).astype(int), 0, (width - 1, height - 1))
    around = frame[max(0, y - _AROUND) : y + _AROUND + 1, max(0, x - _AROUND) : x + _AROUND + 1].reshape(-1, 3)
    vivid = np.argsort(-np.ptp(around, axis=1))[:_VIVID]
    return np.asarray(np.median(around[vivid], axis=0))


def _chroma(colours: Array) -> Array:
    """(..., 3) without the grey part."""
    return np.asarray(colours - colours.mean(axis=-1, keepdims=True))


def _pixels(frame: Tensor) -> Array:
    """(3, H, W) -> (H, W, 3)."""
    return frame.movedim(0, -1).double().cpu().numpy()
