"""Videos with all their clips, a label to recognise and whom they show, decoded on a device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kineme.models.statics_dynamics import StaticsDynamicsConfig
from kineme.pipeline.frames import to_model
from kineme.pipeline.labels import label_of
from kineme.pipeline.protocols.recognition import Recognition, check_classes
from kineme.shards.clip_table import read_clip_table
from kineme.shards.manifest import Manifest
from kineme.shards.records import read_records
from kineme.shards.resident import ResidentClips
from kineme.shards.sample import ClipRecord
from kineme.shards.split import SplitSelector
from kineme.shards.stored import StoredClips
from kineme.shards.window import Window


class Division(NamedTuple):
    """Numbers of the videos to train on, and of those to test; nobody is shown in both."""

    train: list[int]
    test: list[int]


@dataclass(frozen=True)
class LabelledVideos:
    """V videos of N clips. A video is all stored clips of one source; of longer ones than needed the first frames.

    Attributes:
        clips: the N clips, on a device.
        records: theirs.
        rows: of each video the numbers of its clips, as they are stored.
        labels: what is to be recognised in each video.
        identities: whom it shows.
        label: name of the label.
        frame_size: height and width of what `frames` gives, pixels.
    """

    clips: ResidentClips
    records: list[ClipRecord]
    rows: list[list[int]]
    labels: list[str]
    identities: list[str]
    label: str
    frame_size: int

    @property
    def classes(self) -> list[str]:
        """All values of the label, sorted."""
        return sorted(set(self.labels))

    def targets(self, videos: Sequence[int]) -> Tensor:
        """The classes of videos, (v,) int64: places in ``classes``."""
        places = {name: place for place, name in enumerate(self.classes)}
        return torch.tensor([places[self.labels[video]] for video in videos])

    def frames(self, rows: Sequence[int]) -> Tensor:
        """Clips as a network takes them: (n, T, C, frame_size, frame_size) in [0, 1], on the device."""
        return to_model(self.clips[[(0, row) for row in rows]].frames, self.frame_size)

    def of_split(self, split: str | None) -> list[int]:
        """Numbers of the videos of a stored split, or that a label picks out; None is all."""
        selector = SplitSelector.parse(split)
        return [video for video, rows in enumerate(self.rows) if selector.matches(self.records[rows[0]])]

    def without(self, identities: set[str]) -> Division:
        """Train on everybody else, test on these."""
        everyone = range(len(self.rows))
        return Division(
            [video for video in everyone if self.identities[video] not in identities],
            [video for video in everyone if self.identities[video] in identities],
        )

    def check(self, division: Division) -> None:
        """Refuse a division whose training cannot teach what is tested.

        Raises:
            RunError: training shows fewer than two classes, or not one that is tested.
        """
        known, asked = ({self.labels[video] for video in chosen} for chosen in division)
        tested = sorted({self.identities[video] for video in division.test})
        shown = ", ".join(tested[:3]) + (f" and {len(tested) - 3} more" if len(tested) > 3 else "")
        check_classes(known, asked, self.label, f"{len(division.train)} training videos, {shown} left out")


def read_labelled_videos(
    shards: Path, config: StaticsDynamicsConfig, frame_step: int, wanted: Recognition, device: torch.device
) -> LabelledVideos:
    """Decode all videos of a shards folder, whatever their split.

    Raises:
        RunError: a clip lacks a label.
        DataError: clips too short, of several sizes, too many for the memory, or damaged.
    """
    window = Window(config.clip_frames, frame_step)
    records = read_records(shards)
    by_source: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        by_source[record.source].append(row)
    rows = list(by_source.values())
    labels, identities = ([label_of(records[own[0]], name) for own in rows] for name in (wanted.label, wanted.identity))
    # The table has every clip in the order of the records.
    table = read_clip_table(shards, Manifest.load(shards), None, window)
    clips = ResidentClips(table, window, StoredClips(table, window), device)
    return LabelledVideos(clips, records, rows, labels, identities, wanted.label, config.frame_size)
