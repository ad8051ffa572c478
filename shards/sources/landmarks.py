"""Where the eyes, the nose and the corners of the mouth are in a video: from a file, a detector, or a fixed framing.

All three give rows of five points in the order of :data:`kineme.shards.sources.alignment.POINTS`, pixels of the
picture, whole numbers at the centres of pixels; NaN where a frame shows no face.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.sample import Frames

DETECTOR = "facenet_pytorch"
"""The package that ``kineme[faces]`` installs: MTCNN (Zhang et al. 2016), its weights in the wheel."""

DETECT_EVERY = 15
"""The detector looks at every so many-th frame: twice a second of RAVDESS."""

Framing = tuple[tuple[float, float], ...]
"""Five points as fractions of a picture's width and height, (0, 0) its corner, (1, 1) the opposite one."""

_CONFIDENT = 0.9  # probability below which what the detector found is not called a face
_SMALLEST = 6  # faces lower than a sixth of the picture are not looked for, which saves most of the time


class LandmarkFinder(Protocol):
    """One way to find the landmarks of a video. Picklable and hashable."""

    def files(self) -> tuple[Path, ...]:
        """Files it reads beside the video."""
        ...

    def find(self, reader: Callable[[], Footage], every: int) -> NDArray[np.float64]:
        """Landmarks (N, 5, 2): N = 1 for the whole video, or one row for each frame, or for every ``every``-th.

        Raises:
            UnreadableError: there is no face, or the video cannot be read.
            DataError: what a file holds are no landmarks.
            OSError: a file cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FramedLandmarks:
    """Always the same place in the picture: for a set that was filmed with the face held in one place."""

    framing: Framing

    def files(self) -> tuple[Path, ...]:
        """None."""
        return ()

    def find(self, reader: Callable[[], Footage], every: int) -> NDArray[np.float64]:
        """One row. The first frame is read for its size."""
        first = next(reader().frames, None)
        if first is None:
            raise UnreadableError("it has no frames")
        height, width = first.image.shape[:2]
        return np.array([self.framing]) * (width, height) - 0.5


@dataclass(frozen=True, slots=True)
class FileLandmarks:
    """A file with one row a frame, or one for all.

    ``.npy``: (F, K, 2), or (K, 2) for all frames. ``.csv``: columns ``x_0`` to ``x_K-1`` and ``y_0`` to ``y_K-1``, a
    row a frame; further columns are passed over, but for ``success``: 0 marks a frame without a face. K is 5, or the
    68 points of OpenFace, whose output ("RAVDESS Facial Landmark Tracking", Zenodo 3255102) this is: each eye is the
    mean of its six points, the nose its tip.
    """

    path: Path

    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.path,)

    def find(self, reader: Callable[[], Footage], every: int) -> NDArray[np.float64]:
        """Every row there is; the video is not read."""
        points = _read_csv(self.path) if self.path.suffix.lower() == ".csv" else _read_array(self.path)
        if not np.isfinite(points).all(axis=(1, 2)).any():
            raise UnreadableError(f"{self.path.name} knows no frame with a face")
        return points


@dataclass(frozen=True, slots=True)
class DetectedLandmarks:
    """MTCNN, the detector that the thesis uses (Zhang et al. 2016b there), on the largest face of a frame."""

    def files(self) -> tuple[Path, ...]:
        """None."""
        return ()

    def find(self, reader: Callable[[], Footage], every: int) -> NDArray[np.float64]:
        """A row for every ``every``-th frame."""
        rows = [detect_face(frame.image) for number, frame in enumerate(reader().frames) if number % every == 0]
        found = np.array([np.full((5, 2), np.nan) if row is None else row for row in rows])
        if all(row is None for row in rows):
            raise UnreadableError(f"the detector finds no face in any of {len(rows)} frames")
        return found


def detector_installed() -> bool:
    """Whether ``kineme[faces]`` is there."""
    return importlib.util.find_spec(DETECTOR) is not None


def detect_face(image: Frames) -> NDArray[np.float64] | None:
    """Landmarks (5, 2) of the largest face in (H, W, 3) uint8; None without one. Needs ``kineme[faces]``."""
    boxes, chances, points = _detector(max(20, image.shape[0] // _SMALLEST)).detect(image, landmarks=True)
    if boxes is None or chances[0] < _CONFIDENT:
        return None
    return np.asarray(points[0], np.float64)


@lru_cache(maxsize=4)
def _detector(smallest: int) -> Any:
    import torch

    torch.set_num_threads(1)  # decoder processes share the processors already
    package = importlib.import_module(DETECTOR)
    return package.MTCNN(min_face_size=smallest, keep_all=True, device="cpu")


def fill_gaps(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (F, K, 2) that are NaN by linear interpolation in time, at the ends by the nearest row; one is finite."""
    known = np.isfinite(points).all(axis=(1, 2))
    flat = points.reshape(len(points), -1)
    frames = np.arange(len(points))
    filled = [np.interp(frames, frames[known], column[known]) for column in flat.T]
    return np.stack(filled, axis=1).reshape(points.shape)


def five_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The five of the 68 points (..., 68, 2) of the iBUG scheme, which OpenFace follows; (..., 5, 2)."""
    left, right = points[..., 36:42, :].mean(axis=-2), points[..., 42:48, :].mean(axis=-2)
    return np.stack([left, right, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)


def _five(points: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """From 5 or 68 points, (F, K, 2) or (K, 2), to (F, 5, 2)."""
    rows = points[None] if points.ndim == 2 else points
    if rows.ndim != 3 or rows.shape[1:] not in ((5, 2), (68, 2)) or not len(rows):
        raise DataError(
            f"{path.name} is of shape {points.shape}; landmarks (F, 5, 2), (5, 2) or of 68 points are needed"
        )
    return rows if rows.shape[1] == 5 else five_points(rows)


def _read_array(path: Path) -> NDArray[np.float64]:
    try:
        array = np.load(path, allow_pickle=False)
        return _five(np.asarray(array, np.float64), path)
    except (ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name} is not a NumPy array file of numbers ({error})") from error


def _read_csv(path: Path) -> NDArray[np.float64]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        columns = {name: number for number, name in enumerate(header)}
        count = 68 if "x_67" in columns else 5
        places = [columns[f"{axis}_{number}"] for number in range(count) for axis in "xy"]
        points = np.array([[float(row[place]) for place in places] for row in rows], np.float64)
        seen = [float(row[columns["success"]]) > 0 for row in rows] if "success" in columns else [True] * len(rows)
    except KeyError as error:
        raise DataError(
            f"{path.name} has no column {error.args[0]}; x_0, y_0 to x_4, y_4 or x_67, y_67 are needed"
        ) from None
    except (ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{path.name} is not a CSV file of landmarks ({error})") from error
    points = points.reshape(len(rows), count, 2)
    points[~np.array(seen, bool)] = np.nan
    return _five(points, path)
