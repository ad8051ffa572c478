"""What a user asks of an index with: clips of it, clips of videos, or all of a part of a video, read and encoded."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kineme.pipeline.errors import RunError
from kineme.pipeline.indexing import query_rate, stored_size
from kineme.retrieval.blending import EVEN, By, mean_vector
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index
from kineme.retrieval.metadata import Label
from kineme.retrieval.spans import Part
from kineme.retrieval.vectors import SPACES, Space, Vectors
from kineme.shards.sample import Frames

if TYPE_CHECKING:
    from kineme.pipeline.encoders import RunEncoder


@dataclass(frozen=True)
class Stretch:
    """Seconds [``start_s``, ``end_s``) of a video; ``end_s`` None: to its end."""

    start_s: float
    end_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Stretch:
        """Of START:END or START: in seconds. Raises RunError for anything else."""
        start, colon, end = text.partition(":")
        try:
            stretch = cls(float(start), float(end) if end else None)
        except ValueError:
            stretch = cls(math.nan)
        if not (colon and 0 <= stretch.start_s < (math.inf if stretch.end_s is None else stretch.end_s)):
            raise RunError(f"--span {text}: START:END or START: in seconds, 0 <= START < END; such as 12.5:20")
        return stretch


@dataclass(frozen=True)
class Asking:
    """A clip that asks, or W windows of a video.

    Attributes:
        name: for people.
        vectors: (W, D) of each space.
        parts: of its video, a window each.
        frames: to draw, (N, H, W, 3) uint8; None for a clip of the index, whose preview is drawn.
        key: of a clip of the index.
        labels: of a clip of the index.
    """

    name: str
    vectors: Mapping[Space, Vectors]
    parts: Sequence[Part]
    frames: Frames | None = None
    key: str | None = None
    labels: Mapping[str, Label] | None = None


@dataclass(frozen=True)
class Question:
    """What is asked of an index.

    Attributes:
        by: the space, or both of them.
        weight: of motion, where both are asked for.
        clips: that ask together, by the mean of their vectors; or one that may have several windows.
        looks: whose appearance is asked for instead of theirs.
    """

    by: By
    weight: float
    clips: Sequence[Asking]
    looks: Asking | None

    @property
    def asking(self) -> list[Asking]:
        """All clips that ask; those of the index among them are no hits."""
        return [*self.clips, *([] if self.looks is None else [self.looks])]

    @property
    def keys(self) -> list[str]:
        """Of those that are clips of the index."""
        return [clip.key for clip in self.asking if clip.key is not None]

    @property
    def parts(self) -> Sequence[Part] | None:
        """Of the query's video, a window each; None where several clips ask, which have no time in common."""
        return self.clips[0].parts if len(self.clips) == 1 else None

    def vectors(self, index: Index) -> dict[Space, Vectors]:
        """(W, D) of each space."""
        found = {space: self._vectors(space, index) for space in SPACES}
        if self.looks is not None:
            found["appearance"] = self.looks.vectors["appearance"].repeat(len(found["motion"]), axis=0)
        return found

    def _vectors(self, space: Space, index: Index) -> Vectors:
        if len(self.clips) == 1:
            return self.clips[0].vectors[space]
        together = np.concatenate([clip.vectors[space] for clip in self.clips])
        return mean_vector(together, index.info.metrics[space])[None]


def read_question(
    index: Index,
    clips: Sequence[str],
    *,
    by: By | None = None,
    weight: float | None = None,
    looks: str | None = None,
    span: Stretch | None = None,
) -> Question:
    """Read and encode what a user asks with; says on stderr what was taken of videos.

    Args:
        index: an open index.
        clips: keys of the index, or paths of videos, whose first clip is taken.
        by: what to ask by; motion where nothing else is said.
        weight: of motion, in [0, 1], where both spaces are asked for; an even one if not given.
        looks: key or path of a clip whose appearance is asked for; asks by both.
        span: of the one video that asks: clips that begin half a clip after one another ask, all over it.

    Raises:
        RetrievalError: neither a key nor a file.
        RunError: what was given excludes one another.
        DataError: a video cannot be read.
    """
    if looks is not None and by not in (None, "both"):
        raise RunError(f"--looks {looks} and --by {by}: looks asks by both; leave --by out")
    by = "both" if looks is not None else by or "motion"
    if weight is not None and by != "both":
        raise RunError(f"--weight {weight:g}: only --by both and --looks weigh one space against the other")
    if span is not None and len(clips) != 1:
        raise RunError(f"--span: it goes over one video, and {len(clips)} clips were given; ask with one")
    reader = _Reader(index)
    asking = [reader.clip(name) if span is None else reader.windows(name, span) for name in clips]
    like = None if looks is None else reader.clip(looks)
    return Question(by, EVEN if weight is None else weight, asking, like)


class _Reader:
    """Reads what a user names; the encoder is loaded at the first video, so that a key does not wait for torch."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def _encoder(self) -> RunEncoder:
        from kineme.pipeline.encoders import load_encoder

        return load_encoder(self._index.encoder_folder)

    @cached_property
    def _fps(self) -> float | None:
        return query_rate(self._index, self._encoder)

    @cached_property
    def _size(self) -> int:
        return stored_size(self._index, self._encoder)

    def clip(self, name: str) -> Asking:
        """A clip of the index, or the first of a video."""
        if self._index.has(name):
            stored = self._index.clip(self._index.row_of(name))
            vectors = {space: self._index.vector(name, space)[None] for space in SPACES}
            return Asking(name, vectors, [(stored.start_s, stored.end_s)], key=name, labels=stored.labels)
        path = self._path(name)
        from kineme.pipeline.clips import read_clip

        clip = read_clip(path, clip_frames=self._encoder.clip_frames, frame_size=self._size, fps=self._fps)
        frames = clip.frames
        more = f"; the video holds {clip.clips} such clips, this is the first: --span 0: asks with all"
        self._say(path, f"the query is {len(frames)} frames", clip.fps, more if clip.clips > 1 else "")
        motion, appearance = self._encoder.encode(frames[None])
        return Asking(path.name, {"motion": motion, "appearance": appearance}, [(0.0, clip.end_s)], frames)

    def windows(self, name: str, span: Stretch) -> Asking:
        """A part of a video, as windows of one clip that begin half a clip after one another."""
        if self._index.has(name):
            raise RunError(f"--span: {name} is a clip of the index; name a video file")
        path = self._path(name)
        from kineme.pipeline.clips import read_windows
        from kineme.shards.sampling import Windows

        length = self._encoder.clip_frames
        windows = Windows(max(1, length // 2), span.start_s, span.end_s)
        motion, appearance, parts, shown, fps = [], [], [], [], 0.0
        for batch in read_windows(path, windows, clip_frames=length, frame_size=self._size, fps=self._fps):
            vectors = self._encoder.encode(batch.frames)
            motion.append(vectors[0])
            appearance.append(vectors[1])
            parts += list(zip(batch.starts_s.tolist(), batch.ends_s.tolist(), strict=True))
            shown.append(batch.frames[:: max(1, len(batch.frames) // 8), 0])
            fps = batch.fps
        what = f"{parts[0][0]:g} to {parts[-1][1]:g} s ask as {len(parts)} clips of {length} frames"
        self._say(path, what, fps, "")
        found: dict[Space, Vectors] = {"motion": np.concatenate(motion), "appearance": np.concatenate(appearance)}
        return Asking(path.name, found, parts, np.concatenate(shown))

    def _say(self, path: Path, what: str, fps: float, more: str) -> None:
        how = f"resized to {self._size}x{self._size} px, at {fps:g} frames a second"
        print(f"{path}: {what}, {how}{more}", file=sys.stderr)

    def _path(self, name: str) -> Path:
        if not Path(name).exists():
            raise RetrievalError(
                f"{name!r} is neither a video file nor a key of the index {self._index.folder}; "
                f"{_keys_of(self._index, name)}"
            )
        return Path(name)


def _keys_of(index: Index, clip: str) -> str:
    """What to give instead: keys that begin so, or of the clips of a video of that name."""
    sources = index.table.column("source").to_pylist()
    meant = [
        key
        for key, source in zip(index.keys, sources, strict=True)
        if key.startswith(clip) or Path(source).name == clip
    ]
    if not meant:
        return f"check the path, or take a key such as {index.keys[0]}" if index.keys else "check the path"
    return f"did you mean {meant[0]}" + (f", or another of its {len(meant)} clips?" if len(meant) > 1 else "?")
