"""Figure 7.7 of the thesis: how a classifier's attention moves between S and P while a video goes on."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_uint8
from kineme.pipeline.pictures import save_picture
from kineme.pipeline.protocols.labelled_videos import LabelledVideos
from kineme.shards.sample import Frames

VIDEOS = 4
FRAMES = 8
_FRAME_INCHES = 0.9


@dataclass(frozen=True)
class AttentionCurve:
    """One video of n clips.

    Attributes:
        title: who does what.
        seconds: (n,) the middle of each clip.
        attention: (n,) a of each clip: 1 all on S, 0 all on P.
        frames: (n, H, W, 3) uint8, the middle frame of each clip.
    """

    title: str
    seconds: Sequence[float]
    attention: Sequence[float]
    frames: Frames


def longest_videos(
    videos: LabelledVideos, attention: Mapping[int, Sequence[float]], most: int = VIDEOS
) -> list[AttentionCurve]:
    """Curves of the videos with the most clips, the longest of each class, at most so many."""
    longest: dict[str, int] = {}
    for video in sorted(attention, key=lambda video: -len(videos.rows[video])):
        longest.setdefault(videos.labels[video], video)
    curves = []
    for video in list(longest.values())[:most]:
        rows = videos.rows[video]
        records = [videos.records[row] for row in rows]
        clips = videos.frames(rows)
        curves.append(
            AttentionCurve(
                f"{videos.identities[video]}, {videos.labels[video]}",
                [(record.start_s + record.end_s) / 2 for record in records],
                attention[video],
                to_uint8(clips[:, clips.shape[1] // 2 :][:, :1])[:, 0].numpy(),
            )
        )
    return curves


def save_attention_picture(curves: Sequence[AttentionCurve], path: Path) -> None:
    """Draw one row a video: up to 8 of its frames, evenly spaced, above the curve of its attention, at their times.

    Raises:
        RunError: no curves, or a suffix that is no picture's.
    """
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage
    from PIL import Image

    if not curves:
        raise RunError("no videos to draw the attention of: choose a split with some")
    figure = Figure(figsize=(FRAMES * 1.1 * _FRAME_INCHES + 1, 2.6 * len(curves)), layout="constrained")
    for row, curve in zip(figure.subplots(len(curves), 1, squeeze=False)[:, 0], curves, strict=True):
        row.plot(curve.seconds, curve.attention, marker="o", markersize=3, color="#2662c4")
        # The last clip may begin before the one before it has ended: its frame would lie on that one's.
        apart, shown = 1.1 * (max(curve.seconds) - min(curve.seconds)) / FRAMES, -math.inf
        for second, frame in zip(curve.seconds, curve.frames, strict=True):
            if second - shown > apart:
                image = OffsetImage(frame, zoom=_FRAME_INCHES * 72 / len(frame))
                row.add_artist(AnnotationBbox(image, (second, 1.7), frameon=False, pad=0))
                shown = second
        row.set(ylim=(0, 2.4), yticks=(0, 0.5, 1), yticklabels=("P", "0.5", "S"), xlabel="seconds")
        row.set_ylabel("attention", loc="bottom")
        row.set_title(curve.title, loc="left", fontsize=10)
        row.margins(x=0.08)
        row.axhline(0.5, color="#c8ccd2", linewidth=0.8, zorder=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    save_picture(Image.open(buffer), path)
