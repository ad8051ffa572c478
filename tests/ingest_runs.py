"""Ingests for the tests: short ways to run one and to look at what it left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kineme.shards.decode_pool import Limits
from kineme.shards.engine_local import LocalEngine
from kineme.shards.ingest import IngestReport, IngestSettings, ingest
from kineme.shards.reader import read_samples
from kineme.shards.sample import Sample
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import Source, SourceItem
from kineme.shards.sources.folder import FolderSource

SETTINGS = IngestSettings(size=32, sampling=Sampling(clip_frames=8))


@dataclass(frozen=True)
class Listed(FolderSource):
    """A source of items given by the test."""

    given: tuple[SourceItem, ...] = ()

    def items(self, root: Path) -> list[SourceItem]:
        return list(self.given)


def run(
    root: Path,
    out: Path,
    settings: IngestSettings = SETTINGS,
    source: Source | None = None,
    workers: int = 1,
    limits: Limits = Limits(),
    **rest: object,
) -> IngestReport:
    return ingest(source or FolderSource(), root, out, settings, LocalEngine(workers, limits), **rest)  # type: ignore[arg-type]


def samples(out: Path) -> list[Sample]:
    return [sample for tar in sorted(out.glob("*.tar")) for sample in read_samples(tar)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
