"""What a shards folder holds, in numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kineme.shards.manifest import Manifest
from kineme.shards.records import read_records
from kineme.shards.rejects import read_rejects
from kineme.shards.sample import Label

T = TypeVar("T")

_GOLDEN_RATIO = (1 + 5**0.5) / 2


@dataclass(frozen=True)
class Summary:
    """Counts over all clips of a folder.

    Attributes:
        dataset: name of the data set.
        shards, videos, clips: how many.
        frames: in all clips together.
        seconds: of source that the clips span; clips that overlap count twice.
        splits: clips by split.
        sizes: clips by "WIDTHxHEIGHT".
        clip_frames: clips by number of frames.
        fps: clips by frame rate, after sampling.
        codecs: clips by codec.
        labels: for each label, clips by value, the most frequent first.
        rejects: sources that could not be used, by reason, the most frequent first.
    """

    dataset: str
    shards: int
    videos: int
    clips: int
    frames: int
    seconds: float
    splits: dict[str, int]
    sizes: dict[str, int]
    clip_frames: dict[int, int]
    fps: dict[float, int]
    codecs: dict[str, int]
    labels: dict[str, dict[Label, int]]
    rejects: dict[str, int]


def summarise(folder: Path) -> Summary:
    """Read a folder's manifest, parquets and rejects. Raises DataError if one is missing or unreadable."""
    manifest = Manifest.load(folder)
    records = read_records(folder)
    labels: defaultdict[str, Counter[Label]] = defaultdict(Counter)
    for record in records:
        for name, value in record.labels.items():
            labels[name][value] += 1
    return Summary(
        dataset=manifest.dataset,
        shards=len(manifest.shards),
        videos=manifest.videos,
        clips=len(records),
        frames=sum(record.num_frames for record in records),
        seconds=round(sum(record.end_s - record.start_s for record in records), 3),
        splits=_ranked(Counter(record.split for record in records)),
        sizes=_ranked(Counter(f"{record.width}x{record.height}" for record in records)),
        clip_frames=_ranked(Counter(record.num_frames for record in records)),
        fps=_ranked(Counter(round(record.fps, 3) for record in records)),
        codecs=_ranked(Counter(record.codec for record in records)),
        labels={name: _ranked(labels[name]) for name in sorted(labels)},
        rejects=_ranked(Counter(reject.reason for reject in read_rejects(folder))),
    )


def spread(records: Sequence[T], count: int) -> list[T]:
    """At most ``count`` records: the first of all, and one of each of as many equal parts.

    Each is at another place of its part: sets come in the order of their labels, and of every 972nd clip of Sprites all
    show the same action.
    """
    count = min(count, len(records))
    chosen = []
    for part in range(count):
        begin, end = part * len(records) // count, (part + 1) * len(records) // count
        chosen.append(records[begin + int(part * _GOLDEN_RATIO % 1 * (end - begin))])
    return chosen


def _ranked(counts: Counter[T]) -> dict[T, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0]))))
