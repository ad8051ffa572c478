"""Images of handwritten digits, for drawing: scikit-learn's bundled ones, or MNIST from its own files."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kineme.shards.errors import DataError

BUNDLED_PX = 28
"""Side to which the bundled 8x8 digits are enlarged."""
TEST_FRACTION = 0.2

_IDX_IMAGES = 0x00000803  # unsigned bytes, 3 dimensions
_IDX_LABELS = 0x00000801
_MNIST_FILES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class DigitImages:
    """Images (N, S, S) in 0 to 255, uint8 or float64, and the digit each one shows, (N,)."""

    images: NDArray[np.uint8] | NDArray[np.float64]
    classes: NDArray[np.int64]


def bundled_digits(split: str) -> DigitImages:
    """scikit-learn's 1797 digits, enlarged smoothly; a fifth of each class is for "test", the rest for "train"."""
    from sklearn.datasets import load_digits

    small, classes = load_digits(return_X_y=True)
    chosen = np.sort(np.concatenate([_part(np.flatnonzero(classes == digit), split) for digit in range(10)]))
    large = [_enlarge(image) for image in small[chosen].reshape(-1, 8, 8)]
    return DigitImages(np.stack(large), np.asarray(classes[chosen], np.int64))


def _part(indices: NDArray[np.int64], split: str) -> NDArray[np.int64]:
    # The same division for every seed: a test image is one for good.
    shuffled = np.random.default_rng(0).permutation(indices)
    tests = round(TEST_FRACTION * len(indices))
    return shuffled[:tests] if split == "test" else shuffled[tests:]


def _enlarge(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """8x8 in 0 to 16, to 0 to 255."""
    grey = Image.fromarray(np.asarray(image * (255 / 16), np.float32))
    size = (BUNDLED_PX, BUNDLED_PX)
    return np.clip(np.asarray(grey.resize(size, Image.Resampling.BICUBIC), np.float64), 0, 255)


def mnist_digits(folder: Path, split: str) -> DigitImages:
    """MNIST's own training or test digits, 28 x 28, from its idx files, gzipped or not.

    Raises:
        DataError: a file is missing or not in that format.
    """
    stem = _MNIST_FILES[split]
    images = _read_idx(folder, f"{stem}-images-idx3-ubyte", _IDX_IMAGES)
    classes = _read_idx(folder, f"{stem}-labels-idx1-ubyte", _IDX_LABELS)
    if len(images) != len(classes):
        raise DataError(
            f"{folder}: {len(images)} {split} images and {len(classes)} labels; take both from one download"
        )
    return DigitImages(images, classes.astype(np.int64))


def _read_idx(folder: Path, name: str, magic: int) -> NDArray[np.uint8]:
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise DataError(
            f"{folder}: neither {name} nor {name}.gz is there; give the folder of the MNIST files as --mnist"
        )
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); get it again") from error
    dimensions = magic & 0xFF
    header = 4 * (1 + dimensions)
    numbers = np.frombuffer(data[:header], ">u4") if len(data) >= header else np.zeros(1, ">u4")
    if numbers[0] != magic or len(data) != header + int(np.prod(numbers[1:], dtype=np.int64)):
        raise DataError(f"{path}: not an idx file of MNIST, or cut short; get it again")
    return np.frombuffer(data[header:], np.uint8).reshape(numbers[1:].astype(int))
