"""Moving MNIST (Srivastava et al. 2015): two MNIST digits bouncing in 64 x 64 pixels, drawn while they are ingested."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.sample import Frames, Label
from kineme.shards.sampling import TimedFrame
from kineme.shards.sources.base import Defaults, FetchOptions, SourceItem, Stamp, Tracks, require_folder
from kineme.shards.sources.digit_images import mnist_digits
from kineme.shards.sources.fetching import fetch_files
from kineme.shards.sources.moving_digits import DIRECTIONS, FPS, SIZE, DrawnClip, finished, unordered
from kineme.shards.sources.openers import stamp_of
from kineme.shards.sources.origins import ORIGINS

FRAMES = 20
STEP = 0.1
"""Distance a digit goes in a frame, where 1 is how far it can go from wall to wall: 3.6 pixels."""
ENDLESS = "endless.npz"
"""Attachment of the shards: what :class:`kineme.shards.endless.DrawnClips` draws from."""
PUBLISHED = "mnist_test_seq.npy"

_SEED = 0
_SPLITS = ("train", "test")
_STEMS = {"train": "train", "test": "t10k"}
_TEST_CLIPS = 10_000


@dataclass(frozen=True)
class Digits:
    """Images (N, 28, 28) and the digit that each one shows, (N,), both uint8."""

    images: NDArray[np.uint8]
    classes: NDArray[np.uint8]


def draw_sequence(digits: Digits, frames: int, rng: np.random.Generator) -> DrawnClip:
    """Two digits on their way; where they overlap, the brighter pixel is seen.

    As the authors' generator does it: the start is uniform, the direction uniform on the circle, a step is
    :data:`STEP`; a digit that gets to a wall or past it is put at the wall, and its speed across the wall turns round;
    the first frame shows the digits after one step; places are whole pixels, rounded down. Unlike there, both images
    are drawn anew for each sequence (there the whole set is shuffled and gone through), so that a sequence depends on
    ``rng`` alone. The "stochastic" Moving MNIST of Denton and Fergus (2018) is another set: digits of 32 pixels, speeds
    of whole pixels, a random new direction at every bounce, and pixels that add up.

    Args:
        digits: the images to choose from.
        frames: T, >= 1.
        rng: decides everything.
    """
    chosen, starts, angles = _begin(digits, rng)
    steps = STEP * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    room = SIZE - digits.images.shape[-1]
    paths = [walk(start, step, frames) for start, step in zip(starts.flat, steps.flat, strict=True)]
    corners = np.floor(room * np.array(paths).T).reshape(frames, 2, 2)
    canvas = np.zeros((frames, SIZE, SIZE), np.uint8)
    for digit, image in enumerate(digits.images[chosen]):
        for frame, (left, top) in zip(canvas, corners[:, digit].astype(int).tolist(), strict=True):
            spot = frame[top : top + len(image), left : left + len(image)]
            np.maximum(spot, image, out=spot)
    return finished(canvas, corners, room, _labels(digits.classes[chosen], angles))


def walk(place: float, step: float, frames: int) -> list[float]:
    """Places in [0, 1] after 1, 2, ... ``frames`` steps; one that gets to an end or past it stays there and turns."""
    places = []
    for _ in range(frames):
        place += step
        if not 0 < place < 1:
            place, step = min(max(place, 0.0), 1.0), -step
        places.append(place)
    return places


def _begin(
    digits: Digits, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """All that is random: the images of both digits (2,), their starts (2, 2) and directions (2,), radians."""
    chosen = rng.integers(len(digits.classes), size=2)
    return chosen, rng.random((2, 2)), rng.uniform(0, 2 * np.pi, size=2)


def _labels(classes: NDArray[np.uint8], angles: NDArray[np.float64]) -> dict[str, Label]:
    # Counter-clockwise from east, where y points down.
    nearest = np.rint(-angles / (2 * np.pi / len(DIRECTIONS))).astype(int) % len(DIRECTIONS)
    return {
        "digits": unordered(classes.tolist()),
        "directions": unordered([DIRECTIONS[direction] for direction in nearest.tolist()]),
    }


@dataclass(frozen=True, slots=True)
class DrawnSequence:
    """Sequence ``index`` of a split, drawn from (split, index) and the MNIST files in ``root`` alone."""

    root: Path
    split: str
    index: int

    @property
    def name(self) -> str:
        """Such as ``train/000012``."""
        return f"{self.split}/{self.index:06d}"

    def stamp(self) -> Stamp:
        """Its own pixels, and the time of the MNIST files."""
        return Stamp(FRAMES * SIZE * SIZE, stamp_of(_files(self.root, self.split)).modified_ns)

    def sha256(self) -> str:
        """Of the name and the frames: sequences that look alike stay two."""
        return hashlib.sha256(self.name.encode() + self.draw().frames[..., 0].tobytes()).hexdigest()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Drawing."""
        return (lambda: Footage(FPS, _timed(self.draw().frames)),)

    def tracks(self) -> Tracks:
        """The digits' centres, (20, 2, 2)."""
        return Tracks(keypoints=self.draw().centres)

    def draw(self) -> DrawnClip:
        """Frames, centres and label. Raises DataError if a file of MNIST is missing or damaged."""
        return _drawn(self)


@lru_cache(maxsize=1)  # hash, keypoints and frames are asked for one after the other
def _drawn(sequence: DrawnSequence) -> DrawnClip:
    return draw_sequence(_digits(sequence.root, sequence.split), FRAMES, _rng(sequence.split, sequence.index))


def _rng(split: str, index: int) -> np.random.Generator:
    return np.random.default_rng((_SEED, _SPLITS.index(split), index))


@lru_cache(maxsize=len(_SPLITS))
def _digits(root: Path, split: str) -> Digits:
    found = mnist_digits(root, split)
    return Digits(np.asarray(found.images, np.uint8), found.classes.astype(np.uint8))


@dataclass(frozen=True, slots=True)
class PublishedSequence:
    """Sequence ``index`` of the file of test sequences that the authors published, (20, N, 64, 64) uint8."""

    path: Path
    index: int

    @property
    def name(self) -> str:
        """Such as ``published/000012``."""
        return f"published/{self.index:06d}"

    def stamp(self) -> Stamp:
        """Its own pixels, and the time of the file."""
        return Stamp(FRAMES * SIZE * SIZE, stamp_of([self.path]).modified_ns)

    def sha256(self) -> str:
        """Of the name and the frames: sequences that look alike stay two."""
        return hashlib.sha256(self.name.encode() + self.load().tobytes()).hexdigest()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """From the file."""
        return (lambda: Footage(FPS, _timed(np.repeat(self.load()[..., None], 3, axis=-1))),)

    def tracks(self) -> Tracks:
        """None."""
        return Tracks()

    def load(self) -> NDArray[np.uint8]:
        """The frames, (20, 64, 64). Raises UnreadableError, also if the file has become shorter since it was listed."""
        try:
            return np.array(_published(self.path)[:, self.index])
        except (DataError, IndexError) as error:
            raise UnreadableError(str(error)) from error


@lru_cache(maxsize=1)
def _published(path: Path) -> NDArray[np.uint8]:
    """The file's array, mapped into memory. Raises DataError if it is none of that shape."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy array file, or cut short ({error}); get it again") from error
    if array.ndim != 4 or (array.shape[0], *array.shape[2:]) != (FRAMES, SIZE, SIZE) or array.dtype != np.uint8:
        raise DataError(f"{path}: is {array.shape} {array.dtype}; (20, N, 64, 64) uint8 is needed; get it again")
    return np.asarray(array)


def _timed(frames: Frames) -> Iterator[TimedFrame]:
    for number, image in enumerate(frames):
        yield TimedFrame(number / FPS, image)


@dataclass(frozen=True)
class MovingMnistSource:
    """Two digits of 28 x 28 on independent bouncing paths, 20 frames of 64 x 64; drawn in the decoder processes.

    Splits "train" (training digits) and "test" (test digits) are drawn here; a sequence depends on its split and
    number alone, so that more of them keep the earlier ones. Their labels are unordered pairs: ``digits`` such as 3-7,
    ``directions`` such as e-nw, the nearest of eight at the start; the keypoints are the digits' centres. Where the
    authors' own test sequences lie in the root (``mnist_test_seq.npy``), these are split "published", without labels
    and keypoints; that file alone will do, too.
    """

    name: str = "moving-mnist"
    description: str = "two MNIST digits bouncing, 20 frames of 64x64 (Srivastava et al. 2015), drawn on the spot"
    licence: str = ORIGINS["moving-mnist"].licence
    origin: str = (
        "the four idx files of MNIST, such as train-images-idx3-ubyte.gz, gzipped or not; mnist_test_seq.npy of "
        "www.cs.toronto.edu/~nitish/unsupervised_video if you want the published test sequences"
    )
    defaults: Defaults = Defaults(clip_frames=FRAMES, size=SIZE)
    repeats: bool = False
    options: Mapping[str, str] = field(
        default_factory=lambda: {
            "train_clips": "training sequences to draw, 10000 unless given",
            "test_clips": "test sequences to draw, 10000 unless given: always the same ones",
            "published": "yes: kineme fetch gets mnist_test_seq.npy, too (819 MB); where it lies it is ingested",
        }
    )
    train_clips: int | str = 10_000
    test_clips: int | str = _TEST_CLIPS
    published: str = "no"

    def __post_init__(self) -> None:
        for name in ("train_clips", "test_clips"):
            object.__setattr__(self, name, _count(name, getattr(self, name)))
        if self.published not in ("yes", "no"):
            raise DataError(f"--option published={self.published}: yes or no is needed")

    def present(self, root: Path) -> bool:
        """Whether the four idx files are there, or the published sequences."""
        return not _missing(root) or (root / PUBLISHED).is_file()

    def items(self, root: Path) -> list[SourceItem]:
        """The sequences of "train", "test" and "published". Raises DataError if files are missing or damaged."""
        require_folder(root)
        missing, published = _missing(root), root / PUBLISHED
        if missing and (len(missing) < len(_names()) or not published.is_file()):
            raise DataError(f"{root}: {missing[0]}.gz is missing ({len(missing)} of 4 are); needed are {self.origin}")
        items: list[SourceItem] = []
        for split, clips in zip(_SPLITS, (self.train_clips, self.test_clips), strict=True):
            if clips and not missing:
                items += _drawn_items(root.absolute(), split, int(clips))
        if published.is_file():
            count = _published(published.absolute()).shape[1]
            sequences = [PublishedSequence(published.absolute(), index) for index in range(count)]
            items += [SourceItem(sequence.name, sequence, split="published") for sequence in sequences]
        return items

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """``endless.npz``, for endless training data: the training digits."""
        if _missing(root):
            return {}
        digits = _digits(root.absolute(), "train")
        buffer = io.BytesIO()
        # Not compressed: what zlib writes differs between its versions.
        np.savez(buffer, dataset=np.array(self.name), images=digits.images, classes=digits.classes)
        return {ENDLESS: buffer.getvalue()}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Download the MNIST files and, if asked for, the published sequences. Raises DataError where that fails."""
        extras = (PUBLISHED,) if self.published == "yes" else ()
        return fetch_files(self.name, to, options.watcher, extras)


def _count(name: str, value: int | str) -> int:
    try:
        count = int(value)
    except ValueError:
        count = -1
    if count < 0:
        raise DataError(f"--option {name}={value}: a whole number of 0 or more is needed")
    return count


def _drawn_items(root: Path, split: str, clips: int) -> Iterator[SourceItem]:
    digits = _digits(root, split)
    for index in range(clips):
        sequence = DrawnSequence(root, split, index)
        chosen, _, angles = _begin(digits, _rng(split, index))
        yield SourceItem(sequence.name, sequence, _labels(digits.classes[chosen], angles), split)


def _names(split: str | None = None) -> list[str]:
    stems = [_STEMS[name] for name in _SPLITS if split in (None, name)]
    return [f"{stem}-{kind}-ubyte" for stem in stems for kind in ("images-idx3", "labels-idx1")]


def _files(root: Path, split: str) -> list[Path]:
    paths = [root / name for name in _names(split)]
    return [path if path.is_file() else path.with_name(f"{path.name}.gz") for path in paths]


def _missing(root: Path) -> list[str]:
    return [name for name in _names() if not ((root / name).is_file() or (root / f"{name}.gz").is_file())]
