"""From the videos of a source to a folder of shards.

First a plan: which videos are new, which are duplicates, which go into which shard. Then an engine does the shards,
and a line goes to the journal after each; the same command, run again, goes on from there to the same bytes. The
manifest is written last. On a folder that has grown the same happens with the new videos alone, and the old shards stay
as they are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from kineme.shards.errors import DataError
from kineme.shards.inventory import INVENTORY, Entry, read_entries
from kineme.shards.inventory import to_parquet as inventory_to_parquet
from kineme.shards.journal import JOURNAL, Journal, locked
from kineme.shards.manifest import MANIFEST, Manifest, Setting, write_atomically
from kineme.shards.out_folder import check_free, sweep
from kineme.shards.plan import Plan, make_plan
from kineme.shards.reader import check_size
from kineme.shards.rejects import REJECTS, Reject
from kineme.shards.rejects import to_parquet as rejects_to_parquet
from kineme.shards.sample import SCHEMA
from kineme.shards.sampling import Sampling
from kineme.shards.shard_work import Engine, ShardResult, ShardWork
from kineme.shards.sources.base import Source, SourceItem
from kineme.shards.sources.openers import Missing
from kineme.shards.writer import shard_name


@dataclass(frozen=True)
class IngestSettings:
    """What decides the bytes of the shards, beside the videos.

    Attributes:
        size: side of the stored square frames, pixels; above 128 it must be even (H.264).
        sampling: which frames are taken and how many make a clip.
        shard_videos: a shard holds at most so many videos.
        shard_bytes: a shard is full with the video that brings its sources to so many bytes.
    """

    size: int = 64
    sampling: Sampling = field(default_factory=Sampling)
    shard_videos: int = 1000
    shard_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.size < 1 or (self.size > 128 and self.size % 2):
            raise DataError(f"--size {self.size}: a whole number of pixels from 1 is needed, above 128 an even one")
        if self.shard_videos < 1:
            raise DataError(f"--shard-videos {self.shard_videos}: at least 1 is needed")


@dataclass
class Progress:
    """How far an ingest is.

    Attributes:
        stage: "comparing" (files that may be duplicates or changed) or "ingesting".
        done, total: videos.
        clips: written by this command.
        rejects: videos that could not be used.
    """

    stage: str
    done: int
    total: int
    clips: int = 0
    rejects: int = 0


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        manifest: of the finished folder.
        rejects: every source that could not be used.
        rates: number of videos read now by their own frame rate.
        added: number of videos that this command added, those of an ingest gone on with among them.
        unchanged: there was nothing to do.
        changed: stored videos whose bytes or labels are others now; their clips were left as they are.
        vanished: stored videos that are gone; likewise.
    """

    manifest: Manifest
    rejects: list[Reject]
    rates: dict[float, int] = field(default_factory=dict)
    added: int = 0
    changed: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    unchanged: bool = False


def ingest(
    source: Source,
    root: Path,
    out: Path,
    settings: IngestSettings,
    engine: Engine,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> IngestReport:
    """Decode every new video of ``source`` under ``root`` and write its clips as shards to ``out``.

    Args:
        source: lists the videos.
        root: its folder.
        out: folder for the shards; made if missing. An unfinished ingest there is gone on with; to a finished one the
            videos that came since are added as new shards.
        settings: what decides the bytes; the same for everything in ``out``.
        engine: does the work.
        progress: called after every video.

    Raises:
        DataError: no videos, none of them usable, or ``out`` holds anything else.
        OSError: ``out`` is full or cannot be written; what is finished stays, and can be gone on with.
    """
    job = _Job(source, root, out, settings, engine, progress, _items(source, root, out))
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; --out needs a folder")
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out):
            return job.run()
    except DataError:
        if made and not any(out.iterdir()):
            out.rmdir()
        raise


@dataclass(frozen=True)
class _Job:
    """The arguments of :func:`ingest`, and the steps it takes."""

    source: Source
    root: Path
    out: Path
    settings: IngestSettings
    engine: Engine
    progress: Callable[[Progress], None]
    items: Sequence[SourceItem]

    def run(self) -> IngestReport:
        """Finish what was begun, then add what is new."""
        described = _describe(self.source, self.settings)
        check_free(self.out, described)
        sweep(self.out)
        results: list[ShardResult] = []
        unfinished = (self.out / JOURNAL).exists()
        if unfinished:
            results += self._work(described)
        plan = self._plan()
        if not plan.nothing:
            Journal.begin(self.out, described, [*plan.new, *plan.touched])
            results += self._work(described)
        rates: Counter[float] = Counter()
        for result in results:
            rates.update(result.rates)
        return IngestReport(
            manifest=Manifest.load(self.out),
            rejects=_rejects(read_entries(self.out / INVENTORY)),
            rates=dict(rates),
            added=sum(rates.values()),
            changed=plan.changed,
            vanished=plan.vanished,
            unchanged=plan.nothing and not unfinished,
        )

    def _plan(self) -> Plan:
        finished = (self.out / MANIFEST).exists()
        known = {entry.source: entry for entry in read_entries(self.out / INVENTORY)} if finished else {}
        numbers = [entry.shard for entry in known.values() if entry.shard is not None]
        return make_plan(
            self.items,
            known,
            max(numbers, default=-1) + 1,
            self.settings,
            repeats=self.source.repeats,
            threads=self.engine.workers,
            progress=lambda done, total: self.progress(Progress("comparing", done, total)),
        )

    def _work(self, described: dict[str, Setting]) -> list[ShardResult]:
        """Do the shards of the journal's plan that are not done yet, and then finish. Returns those of all of it."""
        with Journal(self.out, described) as journal:
            for result in journal.results.values():
                if result.entry is not None:
                    check_size(self.out / f"{result.entry.name}.tar", result.entry)
            works = self._works(journal)
            count = Progress("ingesting", 0, sum(len(work.items) for work in works))

            def on_video(clips: int) -> None:
                count.done += 1
                count.clips += clips
                count.rejects += not clips
                self.progress(count)

            with closing(self.engine.run(works, on_video)) as results:
                for result in results:
                    journal.add(result)
            self._finish(journal, described)
            return list(journal.results.values())

    def _works(self, journal: Journal) -> list[ShardWork]:
        listed = {item.source: item for item in self.items}
        # A plan also names stored videos that were touched, to bring the inventory up to date.
        done = {shard_name(number) for number in journal.results}
        if (self.out / MANIFEST).exists():
            done |= {entry.name for entry in Manifest.load(self.out).shards}
        shards: dict[int, list[SourceItem]] = {}
        for entry in journal.plan:
            if entry.shard is not None and shard_name(entry.shard) not in done:
                gone = SourceItem(entry.source, Missing("vanished since the ingest began"))
                shards.setdefault(entry.shard, []).append(listed.get(entry.source, gone))
        return [
            ShardWork(
                number=number,
                items=items,
                root=self.root.absolute(),
                out=self.out.absolute(),
                dataset=self.source.name,
                sampling=self.settings.sampling,
                size=self.settings.size,
            )
            for number, items in shards.items()
        ]

    def _finish(self, journal: Journal, described: dict[str, Setting]) -> None:
        """Write what describes the shards, the manifest last. Done again after a crash, it gives the same bytes."""
        inventory = self._inventory(journal)
        shards = {result.entry.name: result.entry for result in journal.results.values() if result.entry is not None}
        if (self.out / MANIFEST).exists():
            shards = {entry.name: entry for entry in Manifest.load(self.out).shards} | shards
        rejects = _rejects(inventory)
        if not shards:
            journal.remove()
            raise DataError(f"{self.root}: none of the {len(self.items)} videos could be used; {_summary(rejects)}")
        files = {
            **self.source.attachments(self.root),
            REJECTS: rejects_to_parquet(rejects),
            INVENTORY: inventory_to_parquet(inventory),
        }
        sweep(self.out)  # a node that was lost has left its part of a shard
        for name, data in files.items():
            write_atomically(self.out / name, data)
        Manifest(
            schema=SCHEMA,
            dataset=self.source.name,
            settings=described,
            shards=[shards[name] for name in sorted(shards)],
            videos=len(inventory) - len(rejects),
            clips=sum(entry.clips for entry in shards.values()),
            rejects=len(rejects),
            files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        ).save(self.out)
        journal.remove()

    def _inventory(self, journal: Journal) -> list[Entry]:
        """What was known before, less unusable videos that are gone, and what the plan's videos came to; by name."""
        path = self.out / INVENTORY
        listed = {item.source for item in self.items}
        before = read_entries(path) if path.exists() else []
        entries = {entry.source: entry for entry in before if entry.reason is None or entry.source in listed}
        entries |= {entry.source: entry for entry in journal.plan}
        for result in journal.results.values():
            for source, sha256, reason, _ in result.outcomes:
                entries[source] = entries[source]._replace(sha256=sha256, reason=reason)
        return [entries[name] for name in sorted(entries)]


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


def _describe(source: Source, settings: IngestSettings) -> dict[str, Setting]:
    """Everything that decides the bytes of the shards, beside the videos."""
    return {
        "dataset": source.name,
        "size": settings.size,
        "clip_frames": settings.sampling.clip_frames,
        "frame_step": settings.sampling.frame_step,
        "fps": settings.sampling.fps,
        "shard_videos": settings.shard_videos,
        "shard_bytes": settings.shard_bytes,
        **{f"option {name}": getattr(source, name) for name in source.options},
    }


def _rejects(inventory: Iterable[Entry]) -> list[Reject]:
    return [Reject(entry.source, entry.reason) for entry in inventory if entry.reason is not None]


def _summary(rejects: Sequence[Reject]) -> str:
    """The first reasons, for one line."""
    shown = "; ".join(f"{reject.path}: {reject.reason}" for reject in rejects[:3])
    return shown + (f"; and {len(rejects) - 3} more" if len(rejects) > 3 else "")
