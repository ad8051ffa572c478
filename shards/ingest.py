"""From the videos of a source to a folder of shards.

Videos are decoded by a pool of killable processes and consumed in the order of the source, so the shards are the same
bytes whatever the number of workers. A shard is closed only between two videos; after each a line goes to the journal,
and the same command, run again, goes on from there to the same bytes. The manifest is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kineme.shards.decode_pool import DecodedVideo, DecodePool
from kineme.shards.decode_video import Clip, Task, Unusable
from kineme.shards.errors import DataError
from kineme.shards.journal import JOURNAL, Journal, Step, different_settings
from kineme.shards.manifest import MANIFEST, Manifest, Setting
from kineme.shards.reader import check_size
from kineme.shards.rejects import REJECTS, Reject, read_rejects, write_rejects
from kineme.shards.sample import SCHEMA, ClipRecord, Sample, make_key
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import Source, SourceItem
from kineme.shards.writer import ShardWriter


@dataclass(frozen=True)
class IngestSettings:
    """What decides the bytes of the shards, beside the videos.

    Attributes:
        size: side of the stored square frames, pixels; above 128 it must be even (H.264).
        sampling: which frames are taken and how many make a clip.
        shard_clips, shard_bytes: a shard is closed after the video that brings it to either.
    """

    size: int = 64
    sampling: Sampling = field(default_factory=Sampling)
    shard_clips: int = 1000
    shard_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.size < 1 or (self.size > 128 and self.size % 2):
            raise DataError(f"--size {self.size}: a whole number of pixels from 1 is needed, above 128 an even one")
        if self.shard_clips < 1:
            raise DataError(f"--shard-clips {self.shard_clips}: at least 1 is needed")


@dataclass(frozen=True)
class Progress:
    """How far an ingest is: videos done with, of all; clips written; videos rejected."""

    done: int
    total: int
    clips: int
    rejects: int


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        manifest: of the finished folder.
        rejects: every source that could not be used.
        rates: number of videos by their own frame rate; empty if nothing was done.
        unchanged: the folder held this very ingest already, and was not touched.
    """

    manifest: Manifest
    rejects: list[Reject]
    rates: dict[float, int]
    unchanged: bool = False


def ingest(
    source: Source,
    root: Path,
    out: Path,
    settings: IngestSettings,
    *,
    workers: int,
    silence_s: float = 120.0,
    progress: Callable[[Progress], None] = lambda _: None,
) -> IngestReport:
    """Decode every video of ``source`` under ``root`` and write its clips as shards to ``out``.

    Args:
        source: lists the videos.
        root: its folder.
        out: folder for the shards; made if missing; an unfinished ingest of the same is gone on with.
        settings: what decides the bytes.
        workers: decoder processes, >= 1.
        silence_s: a decoder that gives no frame for so many seconds is killed, and its video rejected.
        progress: called after every video.

    Raises:
        DataError: no videos, none of them usable, or ``out`` holds anything else.
        OSError: ``out`` is full or cannot be written; what is finished stays, and can be gone on with.
    """
    if workers < 1:
        raise DataError(f"--workers {workers}: at least 1 is needed")
    items = _items(source, root, out)
    described = _describe(source, settings, items)
    _check_free(out, described)
    if (out / MANIFEST).exists():
        return IngestReport(Manifest.load(out), read_rejects(out), {}, unchanged=True)
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    with Journal(out, described) as journal:
        _sweep(out)
        steps = _write_shards(source.name, items, out, settings, journal, DecodePool(workers, silence_s, out), progress)
        rejects = [reject for step in steps for reject in step.rejects]
        entries = [step.shard for step in steps if step.shard is not None]
        if not entries:
            journal.remove()
            if made:
                out.rmdir()
            raise DataError(f"{root}: none of the {len(items)} videos could be used; {_summary(rejects)}")
        write_rejects(out, rejects)
        videos = sum(len(step.sources) for step in steps)
        clips = sum(entry.clips for entry in entries)
        manifest = Manifest(SCHEMA, source.name, described, entries, videos, clips, len(rejects))
        manifest.save(out)
        journal.remove()
    rates: Counter[float] = Counter()
    for step in steps:
        rates.update(step.rates)
    return IngestReport(manifest, rejects, dict(rates))


def _items(source: Source, root: Path, out: Path) -> list[SourceItem]:
    """The source's videos, less what lies in ``out``."""
    items = source.items(root)
    if out.resolve() != root.resolve() and out.resolve().is_relative_to(root.resolve()):
        inside = out.resolve().relative_to(root.resolve()).as_posix()
        items = [item for item in items if item.source != inside and not item.source.startswith(f"{inside}/")]
    if not items:
        raise DataError(
            f"{root}: holds no video; kineme reads mp4, mov, mkv, avi, webm, gif and folders of numbered images"
        )
    return items


def _describe(source: Source, settings: IngestSettings, items: Sequence[SourceItem]) -> dict[str, Setting]:
    """Everything that decides the bytes of the shards, as far as it can be told without reading the videos."""
    digest = hashlib.sha256()
    for item in items:
        sidecars = [path.stat().st_size if path is not None else None for path in (item.keypoints, item.actions)]
        facts = [item.source, item.opener.size(), sorted(item.labels.items()), item.split, sidecars]
        digest.update(json.dumps(facts).encode())
    return {
        "dataset": source.name,
        "items": digest.hexdigest(),
        "size": settings.size,
        "clip_frames": settings.sampling.clip_frames,
        "frame_step": settings.sampling.frame_step,
        "fps": settings.sampling.fps,
        "shard_clips": settings.shard_clips,
        "shard_bytes": settings.shard_bytes,
    }


def _check_free(out: Path, described: dict[str, Setting]) -> None:
    """Raise DataError if ``out`` holds anything but this ingest, finished or not."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; --out needs a folder")
    if (out / MANIFEST).exists():
        old = Manifest.load(out).settings
        if old != described:
            different = different_settings(old, described)
            raise DataError(f"{out}: holds shards of other {different}; give another --out, or delete this folder")
    elif out.is_dir() and not (out / JOURNAL).exists():
        foreign = sorted(path.name for path in out.iterdir() if not _is_leftover(path))
        if foreign:
            raise DataError(f"{out}: is not empty (holds {foreign[0]}); give a new or empty folder as --out")


def _is_leftover(path: Path) -> bool:
    """Temporary files of a killed ingest."""
    ours = (".shard-", f".{MANIFEST}.", f".{REJECTS}.", f".{JOURNAL}.")
    return path.name.startswith(ours) and path.name.endswith(".tmp")


def _sweep(out: Path) -> None:
    for path in out.iterdir():
        if _is_leftover(path):
            path.unlink()


def _write_shards(
    dataset: str,
    items: Sequence[SourceItem],
    out: Path,
    settings: IngestSettings,
    journal: Journal,
    pool: DecodePool,
    progress: Callable[[Progress], None],
) -> list[Step]:
    """Go on after the journal's last step; returns all steps, the last of which may have rejects and no shard."""
    steps = list(journal.steps)
    for entry in (step.shard for step in steps if step.shard is not None):
        check_size(out / f"{entry.name}.tar", entry)
    known = {key: source for step in steps for key, source in step.sources.items()}
    clips = sum(step.shard.clips for step in steps if step.shard is not None)
    rejects = sum(len(step.rejects) for step in steps)
    step = Step(steps[-1].position if steps else 0)
    todo = items[step.position :]
    writer: ShardWriter | None = None
    try:
        with pool:
            for item, video in zip(
                todo, pool.decode([Task(i, settings.sampling, settings.size) for i in todo]), strict=True
            ):
                reject = _refusal(item, video, known)
                step.position += 1
                if reject is not None:
                    video.drop()
                    step.rejects.append(reject)
                    rejects += 1
                else:
                    writer = writer or ShardWriter(out, len(steps))
                    before = writer.clips
                    _add(writer, dataset, item, video, step)
                    known.update(step.sources)
                    clips += writer.clips - before
                    if writer.clips >= settings.shard_clips or writer.bytes >= settings.shard_bytes:
                        step = _close(writer, step, journal, steps)
                        writer = None
                progress(Progress(step.position, len(items), clips, rejects))
        if writer is not None:
            step = _close(writer, step, journal, steps)
            writer = None
    finally:
        if writer is not None:
            writer.__exit__(None, None, None)
    return [*steps, step]


def _close(writer: ShardWriter, step: Step, journal: Journal, steps: list[Step]) -> Step:
    with writer:
        step.shard = writer.finish()
    journal.add(step)
    steps.append(step)
    return Step(step.position)


def _refusal(item: SourceItem, video: DecodedVideo, known: dict[str, str]) -> Reject | None:
    """Why a decoded video is not stored, if so."""
    if isinstance(video.end, Unusable):
        return Reject(item.source, video.end.reason)
    twin = known.get(_prefix(video.end.sha256))
    return None if twin is None else Reject(item.source, f"duplicate of {twin}")


def _prefix(sha256: str) -> str:
    return make_key(sha256, 0).partition("-")[0]


def _add(writer: ShardWriter, dataset: str, item: SourceItem, video: DecodedVideo, step: Step) -> None:
    assert not isinstance(video.end, Unusable)
    for number, clip in enumerate(video.clips()):
        writer.add(_sample(dataset, item, video.end.sha256, video.end.fps, number, clip))
    step.sources[_prefix(video.end.sha256)] = item.source
    rate = round(video.end.source_fps, 3)
    step.rates[rate] = step.rates.get(rate, 0) + 1


def _sample(dataset: str, item: SourceItem, sha256: str, fps: float, number: int, clip: Clip) -> Sample:
    record = ClipRecord(
        key=make_key(sha256, number),
        source=item.source,
        sha256=sha256,
        dataset=dataset,
        split=item.split,
        labels=dict(item.labels),
        start_s=clip.start_s,
        end_s=clip.end_s,
        fps=fps,
        num_frames=clip.num_frames,
        height=clip.height,
        width=clip.width,
        codec=clip.codec,
    )
    return Sample(record, clip.mp4, clip.actions, clip.keypoints)


def _summary(rejects: Sequence[Reject]) -> str:
    """The first reasons, for one line."""
    shown = "; ".join(f"{reject.path}: {reject.reason}" for reject in rejects[:3])
    return shown + (f"; and {len(rejects) - 3} more" if len(rejects) > 3 else "")
