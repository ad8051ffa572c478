"""The Weizmann action set (Gorelick et al. 2007): 9 actors, 10 actions, 93 videos; frames without a person cut off."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from kineme.shards.errors import DataError
from kineme.shards.media import Footage
from kineme.shards.sample import Label
from kineme.shards.sampling import TimedFrame
from kineme.shards.sources.base import Defaults, FetchOptions, Opener, SourceItem, Stamp, Tracks, require_folder
from kineme.shards.sources.fetching import fetch_files, was_begun
from kineme.shards.sources.folder import VIDEO_SUFFIXES
from kineme.shards.sources.listing import files_under, source_name
from kineme.shards.sources.openers import Missing, VideoFile
from kineme.shards.sources.presence import frames_with_person

ACTORS = ("daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar")
ACTIONS = ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2")


@dataclass(frozen=True, slots=True)
class TrimmedVideo:
    """A video from its first to its last frame with a person; see :mod:`kineme.shards.sources.presence`.

    It is decoded three times, so that a video of any length needs little memory. Times start at 0 with the first frame
    kept.
    """

    video: VideoFile

    def stamp(self) -> Stamp:
        """Of the file."""
        return self.video.stamp()

    def sha256(self) -> str:
        """Of the file, whole."""
        return self.video.sha256()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """The file's own, cut."""
        return tuple(partial(_trimmed, reader) for reader in self.video.readers())

    def tracks(self) -> Tracks:
        """None."""
        return Tracks()


def _trimmed(reader: Callable[[], Footage]) -> Footage:
    kept = frames_with_person(lambda: (frame.image for frame in reader().frames))
    footage = reader()
    return Footage(footage.fps, _from_zero(islice(footage.frames, kept.start, kept.stop)))


def _from_zero(frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    start_s: float | None = None
    for frame in frames:
        start_s = frame.start_s if start_s is None else start_s
        yield TimedFrame(round(frame.start_s - start_s, 6), frame.image)


@dataclass(frozen=True)
class WeizmannSource:
    """Files named ``ACTOR_ACTION.avi`` (or any other video suffix), flat or in a folder for each action.

    Labels: ``actor``, ``action`` (the ten of :data:`ACTIONS`), ``take``: 1, or the number behind an action that an
    actor did more than once (``lena_walk2``).

    As in the thesis (7.5.1, 7.B.2): the middle square, resized to 96 px, clips of 8 frames; and frames at either end
    that show no person are cut by median background subtraction. The thesis warps between frames up to 25 apart to
    train its BlockSTN: for that ingest longer clips; the shortest video has 28 frames (``--clip-frames 26``).

    Split: one actor is test. For leave-one-actor-out choose by label when loading instead (``actor=daria`` against
    ``actor!=daria``): that needs no second ingest.
    """

    name: str = "weizmann"
    description: str = "9 actors x 10 actions, 93 videos of 180x144 (Gorelick et al. 2007), or their silhouettes"
    licence: str = "none stated; for research"
    origin: str = (
        "www.wisdom.weizmann.ac.il/~vision/SpaceTimeActions.html: the zip of each action (walk.zip, run.zip, ...), "
        "unpacked anywhere under the root"
    )
    defaults: Defaults = Defaults(clip_frames=8, size=96)
    repeats: bool = True
    options: Mapping[str, str] = field(
        default_factory=lambda: {
            "trim": "false: keep frames without a person at either end (default true)",
            "test_actor": f"the actor of the test split (default {ACTORS[-1]})",
        }
    )
    trim: str = "true"
    test_actor: str = ACTORS[-1]

    def __post_init__(self) -> None:
        if self.trim not in ("true", "false"):
            raise DataError(f"--option trim={self.trim}: true or false is needed")
        if self.test_actor not in ACTORS:
            raise DataError(f"--option test_actor={self.test_actor}: one of {', '.join(ACTORS)} is needed")

    def present(self, root: Path) -> bool:
        """Whether a file named after an actor and an action is there."""
        return root.is_dir() and any(isinstance(_labels(path), dict) for path in files_under(root, VIDEO_SUFFIXES))

    def items(self, root: Path) -> list[SourceItem]:
        """Every video by name; one whose name is not of the set is rejected. Raises DataError if all are."""
        require_folder(root)
        root = root.absolute()
        items = [self._item(path, root) for path in files_under(root, VIDEO_SUFFIXES)]
        if not any(item.labels for item in items):
            raise DataError(f"{root}: no video is named ACTOR_ACTION, such as daria_walk.avi; {self.origin}")
        return items

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Download the videos of all actions, unless some were put there by hand. Raises DataError where that fails."""
        if self.present(to) and not was_begun(to):
            return f"weizmann: videos are in {to}"
        return fetch_files(self.name, to, options.watcher)

    def _item(self, path: Path, root: Path) -> SourceItem:
        name = source_name(path, root)
        labels = _labels(path)
        if isinstance(labels, str):
            return SourceItem(name, Missing(labels))
        video = VideoFile(path)
        opener: Opener = TrimmedVideo(video) if self.trim == "true" else video
        return SourceItem(name, opener, labels, "test" if labels["actor"] == self.test_actor else "train")


def _labels(path: Path) -> dict[str, Label] | str:
    """What a file name says, or why it says nothing."""
    parts = re.fullmatch(r"([^_]+)_([^_]+)", path.stem.lower())
    if not parts:
        return "its name is not ACTOR_ACTION, such as daria_walk"
    actor, action = parts.groups()
    take = re.fullmatch(r"(.+?)(\d)", action)
    if actor not in ACTORS:
        return f"no actor of the set is called {actor}"
    if action in ACTIONS:
        return {"actor": actor, "action": action, "take": 1}
    if take is None or take[1] not in ACTIONS:
        return f"no action of the set is called {action}"
    return {"actor": actor, "action": take[1], "take": int(take[2])}
