"""Actions that a user names: one row of numbers a frame, in a NumPy file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.pipeline.errors import RunError


def read_actions(path: Path, frames: int, dim: int) -> NDArray[np.float32]:
    """The first ``frames`` rows of a NumPy file of numbers, (frames, dim); what follows them is not read.

    Raises:
        RunError: there is no such file, it holds no such numbers, has too few rows, or one that is not finite.
    """
    if not path.is_file():
        raise RunError(f"{path}: there is no such file of actions")
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError):
        raise RunError(f"{path}: not a NumPy array of numbers; write it with numpy.save") from None
    if rows.dtype.kind not in "iuf":
        raise RunError(f"{path}: an array of {rows.dtype}, not of numbers; write it with numpy.save")
    if rows.ndim != 2 or rows.shape[1] != dim or len(rows) < frames:
        raise RunError(
            f"{path}: actions of shape {rows.shape}, but {frames} frames need ({frames}, {dim}): a row for each frame "
            "that is given or drawn"
        )
    # What is too large for 32 bits is caught below, in one line.
    with np.errstate(over="ignore"):
        actions = np.array(rows[:frames], np.float32)
    broken = np.flatnonzero(~np.isfinite(actions).all(axis=1))
    if len(broken):
        raise RunError(
            f"{path}: row {broken[0]} is {rows[broken[0]].tolist()}, but actions are finite 32-bit numbers; mend or "
            "remove what has such rows"
        )
    return actions
