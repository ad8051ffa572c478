"""What an ingest has to do: which videos are new, which of them are duplicates, and which go into which shard.

The plan is made before anything is decoded, so that every shard is a piece of work of its own: it can be done on any
machine, in any order, again after a crash, and always gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from kineme.shards.inventory import Entry, entry_of
from kineme.shards.media import UnreadableError
from kineme.shards.sources.base import SourceItem


class ShardLimits(Protocol):
    """How much goes into a shard, as planned."""

    @property
    def shard_videos(self) -> int:
        """At most so many videos."""
        ...

    @property
    def shard_bytes(self) -> int:
        """A shard is full with the video that brings its sources to so many bytes."""
        ...


@dataclass(frozen=True)
class Plan:
    """The difference between what is listed now and what was ingested before.

    Attributes:
        new: entries of the videos to read, shard by shard (``shard`` is set), and of those known to be duplicates
            (``reason`` is set).
        touched: stored videos with a new time and the same bytes.
        changed: names of stored videos whose bytes or labels are others now; what is stored of them stays.
        vanished: names of stored videos that are gone; what is stored of them stays.
        dropped: names of videos that could not be used and are gone.
    """

    new: list[Entry]
    touched: list[Entry]
    changed: list[str]
    vanished: list[str]
    dropped: list[str]

    @property
    def nothing(self) -> bool:
        """Whether the folder and its inventory are up to date."""
        return not (self.new or self.touched or self.dropped)


def make_plan(
    items: Sequence[SourceItem],
    known: Mapping[str, Entry],
    first_shard: int,
    limits: ShardLimits,
    *,
    repeats: bool,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Compare what is listed with what is known, find duplicates, and divide the new videos into shards.

    Only files that have the same size as another one are read here: others cannot have the same bytes.

    Args:
        items: every video listed now, in the order of the source.
        known: entries of the videos ingested before, by name.
        first_shard: number of the first new shard.
        limits: when a shard is full.
        repeats: whether videos may be duplicates of one another; if not, they are made of shared files, whose sizes
            say nothing about a shard.
        threads: files hashed at a time.
        progress: called with the number of files compared and to compare.
    """
    new: list[tuple[SourceItem, Entry]] = []
    suspects: list[tuple[SourceItem, Entry, Entry]] = []
    changed: list[str] = []
    for item in items:
        entry, before = entry_of(item), known.get(item.source)
        if before is None or (before.reason is not None and not before.looks_like(entry)):
            new.append((item, entry))
        elif before.looks_like(entry):
            continue
        elif (before.bytes, before.facts) == (entry.bytes, entry.facts):
            suspects.append((item, entry, before))
        else:
            changed.append(item.source)
    touched: list[Entry] = []
    digests = _digests([item for item, _, _ in suspects], threads, progress)
    for (item, entry, before), sha256 in zip(suspects, digests, strict=True):
        if sha256 == before.sha256:
            touched.append(before._replace(modified_ns=entry.modified_ns))
        else:
            changed.append(item.source)
    listed = {item.source for item in items}
    gone = [entry for name, entry in known.items() if name not in listed]
    if repeats:
        new = _mark_duplicates(new, known, threads, progress)
    return Plan(
        new=_divide(new, first_shard, limits, by_bytes=repeats),
        touched=touched,
        changed=sorted(changed),
        vanished=sorted(entry.source for entry in gone if entry.reason is None),
        dropped=sorted(entry.source for entry in gone if entry.reason is not None),
    )


def _mark_duplicates(
    new: list[tuple[SourceItem, Entry]],
    known: Mapping[str, Entry],
    threads: int,
    progress: Callable[[int, int], None],
) -> list[tuple[SourceItem, Entry]]:
    """Give each new video that has the bytes of an earlier one the reason why it is not stored."""
    stored = [entry for entry in known.values() if entry.reason is None]
    sizes = Counter(entry.bytes for _, entry in new) + Counter(entry.bytes for entry in stored)
    twins = [number for number, (_, entry) in enumerate(new) if entry.bytes and sizes[entry.bytes] > 1]
    first = {entry.sha256: entry.source for entry in stored}
    marked = list(new)
    for number, sha256 in zip(twins, _digests([new[number][0] for number in twins], threads, progress), strict=True):
        item, entry = new[number]
        if sha256 is None:  # it cannot be read; whoever decodes it will say why
            continue
        twin = first.setdefault(sha256, item.source)
        reason = None if twin == item.source else f"duplicate of {twin}"
        marked[number] = item, entry._replace(sha256=sha256, reason=reason)
    return marked


def _digests(items: Sequence[SourceItem], threads: int, progress: Callable[[int, int], None]) -> Iterator[str | None]:
    """The sha256 of each; None of those that cannot be read."""
    if not items:
        return
    with ThreadPoolExecutor(threads) as pool:
        for done, sha256 in enumerate(pool.map(_digest, items), 1):
            progress(done, len(items))
            yield sha256


def _digest(item: SourceItem) -> str | None:
    try:
        return item.opener.sha256()
    except (UnreadableError, OSError):
        return None


def _divide(
    new: Sequence[tuple[SourceItem, Entry]], first_shard: int, limits: ShardLimits, *, by_bytes: bool
) -> list[Entry]:
    """Number the shards. One holds videos of one split, so that reading a split reads its shards alone."""
    entries: list[Entry] = []
    shard, videos, size, split = first_shard - 1, 0, 0, None
    for item, entry in sorted(new, key=lambda pair: pair[0].split):
        if entry.reason is not None:
            entries.append(entry)
            continue
        if split != item.split or videos >= limits.shard_videos or size >= limits.shard_bytes:
            shard, videos, size, split = shard + 1, 0, 0, item.split
        videos += 1
        size += entry.bytes if by_bytes else 0
        entries.append(entry._replace(shard=shard))
    return entries
