"""Shard work on this machine: one pool of decoder processes, one shard written at a time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from kineme.shards.decode_pool import DecodePool, Limits
from kineme.shards.errors import DataError
from kineme.shards.shard_work import OnVideo, ShardResult, ShardWork, write_shard


@dataclass(frozen=True)
class LocalEngine:
    """Decodes in ``workers`` processes, which go on with the next shard while one is being finished.

    Attributes:
        workers: decoder processes, >= 1.
        limits: what a video may take before it is given up.
    """

    workers: int
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise DataError(f"--workers {self.workers}: at least 1 is needed")

    def run(self, works: Sequence[ShardWork], on_video: OnVideo) -> Generator[ShardResult, None, None]:
        """Results in the order of ``works``."""
        if not works:
            return
        with DecodePool(self.workers, self.limits, works[0].out) as pool:
            videos = pool.decode(task for work in works for task in work.tasks())
            for work in works:
                yield write_shard(work, videos, on_video)
