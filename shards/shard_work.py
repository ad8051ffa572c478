"""One planned shard: decode its videos in order and write it. The unit of work of every engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from kineme.shards.decode_pool import DecodedVideo
from kineme.shards.decode_video import Clip, Done, Task, Unusable
from kineme.shards.manifest import ShardEntry
from kineme.shards.sample import ClipRecord, Sample, make_key
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import SourceItem
from kineme.shards.writer import ShardWriter

OnVideo = Callable[[int], None]
"""Called after every video with the number of its clips; 0 if it could not be used."""


@dataclass(frozen=True)
class ShardWork:
    """What decides the bytes of one shard, and where it goes. Picklable, so that another machine can do it.

    Attributes:
        number: of the shard.
        items: its videos.
        root: the ingested folder.
        out: the shards folder.
        dataset: name of the data set.
        sampling, size: as in :class:`kineme.shards.ingest.IngestSettings`.
    """

    number: int
    items: Sequence[SourceItem]
    root: Path
    out: Path
    dataset: str
    sampling: Sampling
    size: int

    def tasks(self) -> Iterator[Task]:
        """What the decoders are to do."""
        return (Task(item, self.sampling, self.size) for item in self.items)


class Outcome(NamedTuple):
    """What became of a video: its sha256 if it was read, why it is not stored, if so, and the number of its clips."""

    source: str
    sha256: str | None
    reason: str | None
    clips: int


@dataclass(frozen=True)
class ShardResult:
    """A finished shard.

    Attributes:
        number: of the shard.
        entry: its line for the manifest; None if none of its videos could be used, and nothing was written.
        outcomes: of its videos, in order.
        rates: number of stored videos by their own frame rate.
    """

    number: int
    entry: ShardEntry | None
    outcomes: list[Outcome]
    rates: dict[float, int] = field(default_factory=dict)


class Engine(Protocol):
    """Does shard work somewhere. ``workers`` is the number of decoder processes."""

    @property
    def workers(self) -> int:
        """Decoder processes at a time on this machine."""
        ...

    def run(self, works: Sequence[ShardWork], on_video: OnVideo) -> Generator[ShardResult, None, None]:
        """Results in any order, each after its shard is durable.

        Raises:
            OSError: a disk is full or cannot be written.
        """
        ...


def write_shard(work: ShardWork, videos: Iterator[DecodedVideo], on_video: OnVideo) -> ShardResult:
    """Take the next decoded videos, one for each of ``work.items``, and write the shard whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written; nothing of the shard stays.
    """
    outcomes: list[Outcome] = []
    rates: Counter[float] = Counter()
    sources: dict[str, str] = {}
    with ShardWriter(work.out, work.number) as writer:
        for item in work.items:
            video = next(videos)
            if isinstance(video.end, Unusable):
                outcome = Outcome(item.source, None, video.end.reason, 0)
            elif (twin := sources.setdefault(video.end.sha256, item.source)) != item.source:
                # The plan has sorted out duplicates; a file that became one since must not give a key twice.
                outcome = Outcome(item.source, video.end.sha256, f"duplicate of {twin}", 0)
            else:
                before = writer.clips
                for number, clip in enumerate(video.clips()):
                    record = record_of(work.dataset, item, video.end, number, clip)
                    writer.add(Sample(record, clip.mp4, clip.actions, clip.keypoints))
                rates[round(video.end.source_fps, 3)] += 1
                outcome = Outcome(item.source, video.end.sha256, None, writer.clips - before)
            video.drop()
            outcomes.append(outcome)
            on_video(outcome.clips)
        entry = writer.finish() if writer.clips else None
    return ShardResult(work.number, entry, outcomes, dict(rates))


def record_of(dataset: str, item: SourceItem, end: Done, number: int, clip: Clip) -> ClipRecord:
    """The record of one of a video's clips, which are counted from 0."""
    return ClipRecord(
        key=make_key(end.sha256, number),
        source=item.source,
        sha256=end.sha256,
        dataset=dataset,
        split=item.split,
        labels=dict(item.labels),
        start_s=clip.start_s,
        end_s=clip.end_s,
        fps=end.fps,
        num_frames=clip.num_frames,
        height=clip.height,
        width=clip.width,
        codec=clip.codec,
    )
