"""The video encoder trained to recognise a label, from random or pretrained weights; all clips of a video vote."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kineme.models.classifiers import VideoClassifier
from kineme.models.statics_dynamics import StaticsDynamicsConfig
from kineme.models.video_encoder import VideoEncoder
from kineme.pipeline.protocols.fitting import average_by_video, fit, seeded
from kineme.pipeline.protocols.labelled_videos import LabelledVideos
from kineme.pipeline.protocols.recognition import check_finite

VIDEOS = 16
CLIPS_OF_A_VIDEO = 8
ENCODED = 64


def train_video_classifier(
    videos: LabelledVideos,
    train: Sequence[int],
    config: StaticsDynamicsConfig,
    *,
    pretrained: VideoEncoder | None = None,
    flip: bool,
    epochs: int,
    seed: int,
) -> VideoClassifier:
    """A classifier with all its weights trained: cross-entropy of logits averaged over the clips of a video.

    A step takes up to 16 videos and, of each, up to 8 clips drawn at random; the thesis takes all clips and does not
    say of how many videos. The weights that are not pretrained depend on the seed alone.

    Args:
        videos: the clips, on the device where it is trained.
        train: numbers of the videos to train on.
        config: sizes of the encoder.
        pretrained: where its weights come from; random if None.
        flip: mirror every clip with probability 1/2.
        epochs: of `kineme.pipeline.protocols.fitting.HALVED`.
        seed: decides weights, order and draws.
    """
    with seeded(seed):
        classifier = VideoClassifier(config, len(videos.classes), pretrained)
    targets = videos.targets(train)

    def loss(numbers: Tensor, generator: torch.Generator) -> Tensor:
        chosen = [_some(videos.rows[train[number]], generator) for number in numbers.tolist()]
        frames = videos.frames([row for rows in chosen for row in rows])
        if flip:
            mirrored = torch.rand(len(frames), generator=generator) < 0.5
            frames = torch.where(mirrored.to(frames.device)[:, None, None, None, None], frames.flip(-1), frames)
        logits = average_by_video(classifier(frames), [len(rows) for rows in chosen])
        return F.cross_entropy(logits, targets[numbers].to(logits.device))

    classifier.to(videos.frames([0]).device)
    fit(classifier, loss, len(train), epochs=epochs, batch_size=VIDEOS, seed=seed)
    return classifier


def recognised(classifier: VideoClassifier, videos: LabelledVideos, tested: Sequence[int]) -> list[bool]:
    """Whether each of these videos is given its class, by the mean logits of all its clips."""
    rows = [row for video in tested for row in videos.rows[video]]
    with torch.no_grad():
        parts = [classifier(videos.frames(rows[start : start + ENCODED])) for start in range(0, len(rows), ENCODED)]
    check_finite(*parts)
    logits = average_by_video(torch.cat(parts), [len(videos.rows[video]) for video in tested])
    right: list[bool] = (logits.argmax(dim=1).cpu() == videos.targets(tested)).tolist()
    return right


def _some(rows: list[int], generator: torch.Generator) -> list[int]:
    """All of a video's clips, or so many of them as a step takes."""
    if len(rows) <= CLIPS_OF_A_VIDEO:
        return rows
    return [rows[place] for place in torch.randperm(len(rows), generator=generator)[:CLIPS_OF_A_VIDEO].tolist()]
