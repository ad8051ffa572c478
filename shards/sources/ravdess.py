"""RAVDESS (Livingstone and Russo 2018): 24 actors speaking and singing with 8 expressions, faces aligned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.sample import Label
from kineme.shards.sampling import TimedFrame
from kineme.shards.sources.alignment import Similarity, align_frame, align_points, face_similarity
from kineme.shards.sources.base import Defaults, FetchOptions, Opener, SourceItem, Stamp, Tracks, require_folder
from kineme.shards.sources.fetching import fetch_files, was_begun
from kineme.shards.sources.folder import VIDEO_SUFFIXES
from kineme.shards.sources.landmarks import (
    DETECT_EVERY,
    DetectedLandmarks,
    FileLandmarks,
    FramedLandmarks,
    Framing,
    LandmarkFinder,
    detector_installed,
    fill_gaps,
)
from kineme.shards.sources.listing import files_under, source_name
from kineme.shards.sources.openers import Missing, VideoFile, stamp_of

ACTORS = 24

FRAMING: Framing = ((0.4414, 0.4459), (0.5609, 0.4443), (0.5015, 0.5625), (0.4517, 0.6771), (0.5523, 0.6742))
"""Where the landmarks of RAVDESS are, fractions of its 1280 x 720 px: the median of what MTCNN finds in one still of
each of the 24 actors."""

_FIELDS: tuple[tuple[str, tuple[Label, ...]], ...] = (
    ("modality", ("full-AV", "video-only", "audio-only")),
    ("channel", ("speech", "song")),
    ("emotion", ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")),
    ("intensity", ("normal", "strong")),
    ("statement", ("kids", "dogs")),
    ("repetition", (1, 2)),
    ("actor", tuple(range(1, ACTORS + 1))),
)
_NAME = re.compile(r"\d\d(-\d\d){6}")
_LANDMARKS = ("auto", "file", "detector", "framing")


@dataclass(frozen=True)
class AlignedFace:
    """A video of a face, every frame by the same similarity transform to a square of ``side`` pixels.

    One transform a video, from the median of its landmarks, not one a frame. The thesis does not say which; it removes
    "the effect of in-plane rotation of faces" and their scale (7.5.1). Those tell one recording from another; the nods
    and shakes within a recording are motion, which a transform a frame would take away, and put the jitter of the
    landmarks in its place.

    Attributes:
        video: the file.
        finder: finds its landmarks.
        side: of the square.
        keypoints: whether the five points of every frame go with the clips.
    """

    video: VideoFile
    finder: LandmarkFinder
    side: int
    keypoints: bool = False

    def stamp(self) -> Stamp:
        """Of the video, and of its landmarks."""
        return stamp_of([self.video.path], self.finder.files())

    def sha256(self) -> str:
        """Of the video."""
        return self.video.sha256()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """The video's own, each followed by the alignment. UnreadableError also where no face is found."""
        return tuple(partial(self._read, number) for number in range(len(self.video.readers())))

    def tracks(self) -> Tracks:
        """The five points of every frame, if asked for, in the pixels of the aligned square.

        Raises:
            UnreadableError: there is no face, or no reader can read the video.
            DataError: what a file holds are no landmarks.
            OSError: a file cannot be read.
        """
        if not self.keypoints:
            return Tracks()
        found = self._landmarks()
        aligned = align_points(fill_gaps(found), _similarity(found, self.side))
        return Tracks(keypoints=np.asarray(aligned, np.float32))

    def _landmarks(self) -> NDArray[np.float64]:
        reason = UnreadableError("it has no reader")
        for number in range(len(self.video.readers())):
            try:
                return _find(self, number)
            except UnreadableError as error:
                reason = error
        raise reason

    def _read(self, number: int) -> Footage:
        similarity = _similarity(_find(self, number), self.side)
        footage = self.video.readers()[number]()
        return Footage(footage.fps, self._align(footage.frames, similarity))

    def _align(self, frames: Iterator[TimedFrame], similarity: Similarity) -> Iterator[TimedFrame]:
        for frame in frames:
            yield TimedFrame(frame.start_s, align_frame(frame.image, similarity, self.side))


@lru_cache(maxsize=1)  # keypoints and frames need the same landmarks, and a detector takes long
def _find(face: AlignedFace, reader: int) -> NDArray[np.float64]:
    every = 1 if face.keypoints else DETECT_EVERY
    return face.finder.find(face.video.readers()[reader], every)


def _similarity(points: NDArray[np.float64], side: int) -> Similarity:
    return face_similarity(np.nanmedian(points, axis=0), side)


@dataclass(frozen=True)
class RavdessSource:
    """Files named by seven numbers, such as ``01-01-06-01-02-01-12.mp4``, anywhere under the root.

    Labels: ``modality`` (full-AV, video-only), ``channel`` (speech, song), ``emotion``, ``intensity`` (normal, strong),
    ``statement`` (kids: "Kids are talking by the door", dogs: "Dogs are sitting by the door"), ``repetition`` and
    ``actor`` as whole numbers, ``sex`` (of the actor: odd numbers male, even female), and ``landmarks``: how the face
    was found. RAVDESS has every recording twice, with and without sound; the pictures are the same, so the one without
    is rejected where the other is there: that leaves the 2452 of the thesis. So are files with sound alone.

    As in the thesis (7.5.1, 7.B.3): every third frame, clips of 8, faces aligned (see
    :mod:`kineme.shards.sources.alignment`) at 96 px (7.B.3; 7.5.1 says 128: ``--option align_px=128``).

    Landmarks: ``file`` is ``VIDEO.landmarks.csv`` or ``VIDEO.landmarks.npy`` beside the video, or ``VIDEO.csv`` of
    "RAVDESS Facial Landmark Tracking" anywhere under the root; ``detector`` is MTCNN, installed by
    ``pip install 'kineme[faces]'``; ``framing`` takes the face to be where RAVDESS has it on average
    (:data:`FRAMING`); ``auto`` is the first of these that there is.

    Split: actors 21 to 24, two women and two men, are test. The thesis holds out one actor; for that choose by label
    when loading (``actor=12`` against ``actor!=12``).
    """

    name: str = "ravdess"
    description: str = "24 actors speak and sing with 8 expressions (Livingstone and Russo 2018), faces aligned"
    licence: str = "CC BY-NC-SA 4.0"
    origin: str = (
        "zenodo.org/records/1188976: Video_Speech_Actor_01.zip to 24 and Video_Song_Actor_01.zip to 24, unpacked "
        "anywhere under the root; optional: FacialTracking_Actors_01-24.zip of zenodo.org/records/3255102"
    )
    repeats: bool = True
    options: Mapping[str, str] = field(
        default_factory=lambda: {
            "landmarks": "auto, file, detector or framing: how the face is found (default auto: the first there is)",
            "align_px": "side of the aligned square, and of the stored frames unless --size says more (default 96)",
            "keypoints": "true: keep the five points of every frame with the clips (default false)",
            "test_actors": "actors of the test split, such as 21-24 or 3,12 (default 21-24)",
        }
    )
    landmarks: str = "auto"
    align_px: str = "96"
    keypoints: str = "false"
    test_actors: str = "21-24"

    def __post_init__(self) -> None:
        if self.landmarks not in _LANDMARKS:
            raise DataError(f"--option landmarks={self.landmarks}: one of {', '.join(_LANDMARKS)} is needed")
        if not self.align_px.isdecimal() or not 8 <= int(self.align_px) <= 1024:
            raise DataError(f"--option align_px={self.align_px}: a whole number of pixels from 8 to 1024 is needed")
        if self.keypoints not in ("true", "false"):
            raise DataError(f"--option keypoints={self.keypoints}: true or false is needed")
        if self.keypoints == "true" and self.landmarks == "framing":
            raise DataError("--option keypoints=true: landmarks=framing knows no points of single frames; use another")
        _actors(self.test_actors)

    @property
    def defaults(self) -> Defaults:
        """Every third frame, clips of 8, of ``align_px``."""
        return Defaults(clip_frames=8, size=int(self.align_px), frame_step=3)

    def present(self, root: Path) -> bool:
        """Whether a file named as in RAVDESS is there."""
        return root.is_dir() and any(_NAME.fullmatch(path.stem) for path in files_under(root, VIDEO_SUFFIXES))

    def items(self, root: Path) -> list[SourceItem]:
        """Every video by name; those that are rejected too.

        Raises:
            DataError: no file is named as in RAVDESS, or ``landmarks=detector`` and none is installed.
        """
        require_folder(root)
        root = root.absolute()
        paths = files_under(root, {*VIDEO_SUFFIXES, ".wav"})
        if not any(_NAME.fullmatch(path.stem) for path in paths):
            raise DataError(f"{root}: no file is named like 01-01-06-01-02-01-12.mp4; {self.origin}")
        if self.landmarks == "detector" and not detector_installed():
            raise DataError("--option landmarks=detector: none is installed; pip install 'kineme[faces]'")
        tracked = {path.stem: path for path in files_under(root, {".csv"}) if _NAME.fullmatch(path.stem)}
        with_sound = {path.stem: path for path in paths if path.stem.startswith("01-")}
        return [self._item(path, root, tracked, with_sound) for path in paths]

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Download and unpack the official files, unless some were put there by hand."""
        if self.present(to) and not was_begun(to):
            return f"ravdess: videos are in {to}"
        return fetch_files(self.name, to, options.watcher)

    def _item(self, path: Path, root: Path, tracked: Mapping[str, Path], with_sound: Mapping[str, Path]) -> SourceItem:
        name = source_name(path, root)
        labels = _labels(path.stem)
        if isinstance(labels, str):
            return SourceItem(name, Missing(labels))
        split = "test" if labels["actor"] in _actors(self.test_actors) else "train"
        twin = with_sound.get(f"01{path.stem[2:]}")
        opener: Opener
        if labels["modality"] == "audio-only" or path.suffix.lower() == ".wav":
            opener = Missing("audio-only: it has no pictures")
        elif labels["modality"] == "video-only" and twin is not None:
            opener = Missing(f"duplicate of {source_name(twin, root)}: the same pictures without sound")
        else:
            kind, finder = self._finder(path, tracked)
            labels["landmarks"] = kind
            if finder is None:
                opener = Missing(f"no landmarks file: {path.stem}.landmarks.csv or .npy beside it is needed")
            elif self.keypoints == "true" and kind == "framing":
                opener = Missing("no landmarks of its frames: keypoints=true needs a landmarks file or kineme[faces]")
            else:
                opener = AlignedFace(VideoFile(path), finder, int(self.align_px), self.keypoints == "true")
        return SourceItem(name, opener, labels, split)

    def _finder(self, path: Path, tracked: Mapping[str, Path]) -> tuple[str, LandmarkFinder | None]:
        """How the face of a video is found, and by what; None if that is not to be had."""
        beside = (path.with_name(f"{path.stem}.landmarks{suffix}") for suffix in (".csv", ".npy"))
        known = (*beside, tracked.get(path.stem), tracked.get(f"01{path.stem[2:]}"))
        file = next((file for file in known if file is not None and file.is_file()), None)
        if self.landmarks == "file" or (self.landmarks == "auto" and file is not None):
            return "file", None if file is None else FileLandmarks(file)
        if self.landmarks == "detector" or (self.landmarks == "auto" and detector_installed()):
            return "detector", DetectedLandmarks()
        return "framing", FramedLandmarks(FRAMING)


def _labels(stem: str) -> dict[str, Label] | str:
    """What a file name says, or why it says nothing."""
    if not _NAME.fullmatch(stem):
        return "its name is not the seven numbers of RAVDESS, such as 01-01-06-01-02-01-12"
    labels: dict[str, Label] = {}
    for (name, words), text in zip(_FIELDS, stem.split("-"), strict=True):
        if not 1 <= int(text) <= len(words):
            return f"its name says {name} {text}; 01 to {len(words):02} are known"
        labels[name] = words[int(text) - 1]
    labels["sex"] = "male" if int(stem[-2:]) % 2 else "female"
    return labels


@lru_cache(maxsize=8)
def _actors(text: str) -> frozenset[int]:
    """Numbers and ranges with commas between them."""
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, 0)
        if not 1 <= first <= last <= ACTORS:
            raise DataError(
                f"--option test_actors={text}: numbers from 1 to {ACTORS} are needed, such as 21-24 or 3,12"
            )
        found.update(range(first, last + 1))
    return frozenset(found)
