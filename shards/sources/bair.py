"""The BAIR robot pushing set (Ebert et al. 2017, arXiv 1710.05268): its TFRecords, or images made from them."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.sampling import TimedFrame
from kineme.shards.sources.base import Defaults, FetchOptions, SourceItem, Stamp, Tracks, require_folder
from kineme.shards.sources.fetching import fetch_files, was_begun
from kineme.shards.sources.folder import FolderSource
from kineme.shards.sources.listing import natural_order
from kineme.shards.sources.openers import ImageFolder, Missing, stamp_of
from kineme.shards.sources.tfrecord import Feature, RecordSpan, list_records, parse_example, read_record

SIZE = 64
FPS = 4.0
"""Nominal: the records carry no rate; published samples (Lee et al. 2018) are played at this one."""
ACTION_SIZE = 4
POSITION_SIZE = 3
CAMERAS = ("aux1", "main")
SPLITS = {
    "train": "train",
    "test": "test",
    "validate": "validation",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "eval": "validation",
}
"""What the folders of the splits are called, officially (train, test) and in converted copies, and the split's name."""

_URL = "http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar"
_RECORDS = "softmotion30_44k"
_IMAGES = "processed_data"
_ACTIONS = "actions.csv"
_POSITIONS = "endeffector_positions.csv"


@dataclass(frozen=True, slots=True)
class BairRecord:
    """One sequence in a TFRecord file: of every step a frame of each camera, the action and the gripper's position.

    Attributes:
        path: the file.
        span: where in it.
        camera: one of :data:`CAMERAS`.
    """

    path: Path
    span: RecordSpan
    camera: str

    def stamp(self) -> Stamp:
        """Bytes of the record, and when its file was modified."""
        return stamp_of([self.path])._replace(bytes=self.span.length)

    def sha256(self) -> str:
        """Of the record's bytes."""
        return hashlib.sha256(read_record(self.path, self.span)).hexdigest()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """From the record: its images are not compressed."""
        return (lambda: Footage(FPS, self._frames()),)

    def tracks(self) -> Tracks:
        """Actions (F, 7): the 4 of the action, then x, y, z of the gripper, as they are in the record."""
        features, frames = self._read()
        rows = [
            [
                *_numbers(features, f"{t}/action", ACTION_SIZE),
                *_numbers(features, f"{t}/endeffector_pos", POSITION_SIZE),
            ]
            for t in range(frames)
        ]
        return Tracks(actions=np.array(rows, np.float32))

    def _frames(self) -> Iterator[TimedFrame]:
        features, frames = self._read()
        for t in range(frames):
            images = features[self._key(t)]
            wanted = SIZE * SIZE * 3
            if not isinstance(images, list) or len(images) != 1 or len(images[0]) != wanted:
                raise UnreadableError(f"damaged: {self._key(t)} is not one image of {wanted} bytes")
            yield TimedFrame(t / FPS, np.frombuffer(images[0], np.uint8).reshape(SIZE, SIZE, 3))

    def _read(self) -> tuple[dict[str, Feature], int]:
        """The features, and the number of frames: steps are numbered from 0."""
        features = parse_example(read_record(self.path, self.span))
        steps = {int(key.partition("/")[0]) for key in features if re.fullmatch(r"\d+/.+", key)}
        for t in range(len(steps)):
            if self._key(t) not in features:
                raise UnreadableError(f"the record has {len(steps)} steps and no {self._key(t)}")
        return features, len(steps)

    def _key(self, t: int) -> str:
        return f"{t}/image_{self.camera}/encoded"


@dataclass(frozen=True, slots=True)
class BairImages:
    """One sequence as numbered images in a folder, with or without its actions and positions as CSV files."""

    images: ImageFolder
    actions: Path | None = None
    positions: Path | None = None

    def stamp(self) -> Stamp:
        """Of all its files; the bytes are those of the images."""
        return stamp_of(self.images.paths, [path for path in (self.actions, self.positions) if path is not None])

    def sha256(self) -> str:
        """Of all images one after the other."""
        return self.images.sha256()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Pillow."""
        return tuple(lambda reader=reader: _at_nominal_rate(reader()) for reader in self.images.readers())

    def tracks(self) -> Tracks:
        """As :meth:`BairRecord.tracks`; none without the files. Raises DataError if they are not as described."""
        if self.actions is None or self.positions is None:
            return Tracks()
        actions, positions = _read_csv(self.actions, ACTION_SIZE), _read_csv(self.positions, POSITION_SIZE)
        if len(actions) != len(positions):
            raise DataError(
                f"{_ACTIONS} has {len(actions)} rows and {_POSITIONS} {len(positions)}; one a frame is needed"
            )
        return Tracks(actions=np.concatenate([actions, positions], axis=1))


@dataclass(frozen=True)
class BairSource:
    """A robot arm pushing things about in a bin: 43,264 training and 256 test sequences of 30 frames of 64 x 64.

    Looked for under the root, or one folder deeper in ``softmotion30_44k`` or ``processed_data``:

    - the official files: ``train/*.tfrecords`` and ``test/*.tfrecords``; one sequence a record;
    - if there are none, folders of numbered images, ``train/traj_0_to_255/7/0.png`` and so on, as the conversions that
      are in use make them. ``actions.csv`` (F, 4) and ``endeffector_positions.csv`` (F, 3) in the folder, one row a
      frame, are its actions. In a split where some sequences have both files, one without them is rejected, so that
      what is kept has actions throughout; where none has both, there are no actions.

    The folder names the split (:data:`SPLITS`); what lies outside such a folder is "test".
    """

    name: str = "bair"
    description: str = (
        "a real robot arm pushing objects (Ebert et al. 2017), 30 frames of 64x64 with actions and gripper positions"
    )
    licence: str = "none stated by its authors; take it as for research only"
    origin: str = (
        f"{_URL} (30 GB), unpacked to {_RECORDS}/train/*.tfrecords and {_RECORDS}/test/*.tfrecords; or its frames as "
        f"{_IMAGES}/train/TRAJ/SEQUENCE/0.png to 29.png with {_ACTIONS} and {_POSITIONS}"
    )
    defaults: Defaults = Defaults(clip_frames=30, size=SIZE)
    repeats: bool = False
    options: Mapping[str, str] = field(
        default_factory=lambda: {"camera": "aux1 (the default) or main: whose frames, of TFRecords"}
    )
    camera: str = "aux1"

    def __post_init__(self) -> None:
        if self.camera not in CAMERAS:
            raise DataError(f"--option camera={self.camera}: {' or '.join(CAMERAS)} is needed")

    def present(self, root: Path) -> bool:
        """Whether there are TFRecords, or folders train/traj_* or such."""
        if not root.is_dir():
            return False
        folders = [base / split for base in (root, root / _IMAGES) for split in SPLITS]
        return bool(_record_files(root)) or any(path.is_dir() for folder in folders for path in folder.glob("traj_*"))

    def items(self, root: Path) -> list[SourceItem]:
        """Every sequence by name, none decoded; of a damaged TFRecord file those before the damage, and one reject.

        Raises:
            DataError: ``root`` holds neither layout, or images are to be of camera main.
        """
        require_folder(root)
        items = [item for name, path in _record_files(root).items() for item in self._record_items(name, path)]
        if not items:
            bases = [base for base in (root / _IMAGES, root) if base.is_dir()]
            items = next((found for base in bases if (found := _image_items(base))), [])
            if items and self.camera != CAMERAS[0]:
                raise DataError(f"--option camera={self.camera}: only TFRecords have two cameras; leave it out here")
        if not items:
            raise DataError(f"{root}: holds no sequence of bair; put there {self.origin}")
        return sorted(items, key=lambda item: natural_order(item.source))

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Download and unpack the official files, 30 GB, unless some were put there by hand."""
        if self.present(to) and not was_begun(to):
            return f"bair: its files are in {to}"
        return fetch_files(self.name, to, options.watcher)

    def _record_items(self, name: str, path: Path) -> Iterator[SourceItem]:
        split = _split(name, path.parent)
        try:
            spans, damage = list_records(path)
        except OSError as error:
            spans, damage = [], error.strerror or "cannot be read"
        for number, span in enumerate(spans):
            yield SourceItem(f"{name}/{number}", BairRecord(path.absolute(), span, self.camera), split=split)
        if damage is not None:
            yield SourceItem(f"{name}/{len(spans)}", Missing(damage), split=split)


def _record_files(root: Path) -> dict[str, Path]:
    """TFRecord files by name, the first place that has any. A conversion calls folders of images so, too."""
    for base in (root, root / _RECORDS):
        folders = [folder for folder in (base, *(base / split for split in SPLITS)) if folder.is_dir()]
        files = [path for folder in folders for path in sorted(folder.glob("*.tfrecords")) if not path.is_dir()]
        if files:
            return {path.relative_to(base).as_posix(): path for path in files}
    return {}


def _image_items(base: Path) -> list[SourceItem]:
    """The folders of numbered images, those of a split all with actions or all without."""
    items = []
    for item in FolderSource().items(base):
        split = _split(item.source, base)
        if isinstance(item.opener, ImageFolder):
            folder = item.opener.paths[0].parent
            actions, positions = folder / _ACTIONS, folder / _POSITIONS
            whole = actions.is_file() and positions.is_file()
            opener = BairImages(item.opener, actions, positions) if whole else BairImages(item.opener)
            items.append(SourceItem(item.source, opener, split=split))
        elif isinstance(item.opener, Missing):
            items.append(SourceItem(item.source, item.opener, split=split))
    with_actions = {item.split for item in items if isinstance(item.opener, BairImages) and item.opener.actions}
    reason = f"it lacks {_ACTIONS} or {_POSITIONS}, which others of its split have"
    return [
        SourceItem(item.source, Missing(reason), split=item.split)
        if isinstance(item.opener, BairImages) and not item.opener.actions and item.split in with_actions
        else item
        for item in items
    ]


def _split(name: str, folder: Path) -> str:
    """By the first folder of a name; for names without one, by the folder they are in."""
    first, *rest = PurePosixPath(name).parts
    return SPLITS.get(first if rest else folder.resolve().name, SPLITS.get(folder.resolve().name, "test"))


def _numbers(features: Mapping[str, Feature], key: str, size: int) -> NDArray[np.float32]:
    values = features.get(key)
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or len(values) != size:
        raise UnreadableError(f"the record has not {size} floats as {key}")
    if not np.isfinite(values).all():
        raise UnreadableError(f"{key} of the record is not finite")
    return np.asarray(values, np.float32)


def _read_csv(path: Path, columns: int) -> NDArray[np.float32]:
    """Numbers (F, ``columns``), with or without a line of titles. Raises DataError for anything else, OSError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} is not a CSV file ({error})") from error
    if rows and not any(_is_number(cell) for cell in rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows):
        if len(row) != columns or not all(_is_number(cell) for cell in row):
            raise DataError(f"{path.name}: the row of frame {number} is not {columns} finite numbers")
    return np.array(rows, np.float64).astype(np.float32).reshape(-1, columns)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _at_nominal_rate(footage: Footage) -> Footage:
    return Footage(FPS, (TimedFrame(t / FPS, frame.image) for t, frame in enumerate(footage.frames)))
