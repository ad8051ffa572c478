"""Actions by S and P together: table 7.2 and figure 7.7 of the thesis (7.5.3), leaving one identity out at a time.

For each held-out actor an attentive linear classifier (`kineme.models.classifiers.AttentiveLinear`) is trained on the
frozen S and P of all others, the logits averaged over the clips of a video. Beside it stand the same classifier that
sees S alone or P alone, and the same video encoder trained from random weights by the labels (its last layer behind an
average over times and places).

**The figure is transductive where the encoder saw the held-out actor.** The classifier never does, but the run does
unless its ``data.split`` leaves the actor out; then only that actor's figures (``--split actor=daria``) are not. The
thesis does not say whether its encoder was trained once on everybody, without labels, or once a fold.

Left open by the thesis, and so here: features are standardised by those trained on, which linear layers can do
themselves; 16 videos a step; the schedule is that of 7.B.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kineme.models.classifiers import AttentiveLinear, Standardise
from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.errors import RunError
from kineme.pipeline.pictures import picture_kind
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.fitting import average_by_video, fit, seeded, watched
from kineme.pipeline.protocols.labelled_videos import Division, LabelledVideos, read_labelled_videos
from kineme.pipeline.protocols.recognition import accuracy_figures, check_finite, recognition_of, statics_dynamics_of
from kineme.pipeline.protocols.video_classification import ENCODED, VIDEOS, recognised, train_video_classifier
from kineme.pipeline.recipe_sections import Count, Seed
from kineme.pipeline.run import Run

VARIANTS = {"statics_dynamics": None, "statics_only": 1.0, "dynamics_only": 0.0}
"""Name -> attention: learned, or all on S, or all on P."""


def measure_attentive_linear(
    run: Run,
    shards: Path,
    split: str | None = None,
    *,
    label: str | None = None,
    identity: str | None = None,
    flip: bool | None = None,
    common_dim: Count = 64,
    epochs: Count = 200,
    supervised_epochs: Annotated[int, Field(ge=0)] = 200,
    picture: Path | None = None,
    seed: Seed = 0,
) -> Metrics:
    """Accuracy a video, over the videos of every held-out identity together.

    Transductive unless the run's ``data.split`` leaves the held-out identity out: see the head of this file.

    Args:
        run: a statics-dynamics run; frozen.
        shards: ingested data with labels.
        split: whose identities are held out, each in turn; None holds out everybody. The clips of all others are
            trained on, whatever their split.
        label: to recognise; what is known of the data set (`kineme.pipeline.protocols.recognition.KNOWN`) if None.
        identity: label to hold out, likewise.
        flip: mirror training clips at random, likewise.
        common_dim: c_g of the classifier.
        epochs: of each attentive classifier.
        supervised_epochs: of each training of the supervised encoder, by far the longest part; 0 leaves it out.
        picture: PNG to draw of the attention over time in the longest videos (figure 7.7).
        seed: decides every training.

    Returns:
        attentive_linear/accuracy_statics_dynamics, .../accuracy_statics_only, .../accuracy_dynamics_only and
        .../accuracy_supervised with 95% intervals; .../attention, the mean a of held-out clips; .../identities and
        .../videos tested; ``clips`` in all.

    Raises:
        RunError: a clip lacks a label, fewer than two identities, no clips of the split, or a class of a held-out
            identity that no other shows.
        DataError: clips too short, of several sizes, or damaged.
    """
    if picture is not None:
        # Not after hours of training.
        picture_kind(picture)
    model = statics_dynamics_of(run)
    wanted = recognition_of(shards, label, identity, flip)
    videos = read_labelled_videos(shards, model.config, run.recipe.data.frame_step, wanted, run.device)
    folds = leave_one_out(videos, split)
    answers = attentive_answers(model, videos, folds, flip=wanted.flip, common_dim=common_dim, epochs=epochs, seed=seed)
    right = dict(answers.right)
    if supervised_epochs:
        right["supervised"] = []
        for train, test in watched(folds, "supervised, by identity"):
            classifier = train_video_classifier(
                videos, train, model.config, flip=wanted.flip, epochs=supervised_epochs, seed=seed
            )
            right["supervised"] += recognised(classifier, videos, test)
    if picture is not None:
        from kineme.pipeline.attention_picture import longest_videos, save_attention_picture

        save_attention_picture(longest_videos(videos, answers.attention), picture)
    shares = [share for shares in answers.attention.values() for share in shares]
    metrics: Metrics = {
        "clips": len(videos.records),
        "attentive_linear/identities": len(folds),
        "attentive_linear/videos": len(answers.attention),
        "attentive_linear/attention": sum(shares) / len(shares),
    }
    for name, found in right.items():
        metrics |= accuracy_figures(f"attentive_linear/accuracy_{name}", found)
    return metrics


def leave_one_out(videos: LabelledVideos, split: str | None = None) -> list[Division]:
    """One fold for each identity of a split (None: of all): it is tested, everybody else in the shards trained on.

    Raises:
        RunError: fewer than two identities in the shards, or none in the split.
    """
    everybody = set(videos.identities)
    if len(everybody) < 2:
        raise RunError(
            f"all {len(videos.rows)} videos show {', '.join(everybody)}: leaving one out takes 2 identities or more; "
            "ingest more, or choose another label as identity"
        )
    chosen = videos.of_split(split)
    if not chosen:
        raise RunError(f"--split {split}: the shards hold no such clips; kineme inspect says what they hold")
    return [videos.without({name}) for name in sorted({videos.identities[video] for video in chosen})]


@dataclass(frozen=True)
class AttentiveAnswers:
    """What held-out videos were taken for.

    Attributes:
        right: whether each was recognised, fold by fold, for each of :data:`VARIANTS`.
        attention: video -> learned a of each of its clips, 1 all on S, 0 all on P.
    """

    right: dict[str, list[bool]]
    attention: dict[int, list[float]]


def attentive_answers(
    model: StaticsDynamics,
    videos: LabelledVideos,
    folds: list[Division],
    *,
    flip: bool,
    common_dim: int = 64,
    epochs: int = 200,
    seed: int = 0,
) -> AttentiveAnswers:
    """Train every variant on each fold's frozen features, and test it.

    Raises:
        RunError: a class is tested that training does not show.
    """
    for fold in folds:
        videos.check(fold)
    features = frozen_features(model, videos, flip=flip)
    answers = AttentiveAnswers({name: [] for name in VARIANTS}, {})
    for train, test in watched(folds, "attentive, by identity"):
        rows, clips = _rows(videos, test)
        for name, constant in VARIANTS.items():
            classifier = fit_attentive(
                features, videos, train, attention=constant, common_dim=common_dim, epochs=epochs, seed=seed
            )
            with torch.no_grad():
                logits, a = classifier(features.statics[0, rows], features.dynamics[0, rows])
            classes = average_by_video(logits, clips).argmax(dim=1).cpu()
            answers.right[name].extend((classes == videos.targets(test)).tolist())
            if constant is None:
                answers.attention.update(
                    {video: part.tolist() for video, part in zip(test, a.split(clips), strict=True)}
                )
    return answers


@dataclass(frozen=True)
class FrozenFeatures:
    """S flattened (F, N, D) and P (F, N, dynamics_dim) of N clips, float16, as they are and, where F is 2, mirrored."""

    statics: Tensor
    dynamics: Tensor


@torch.no_grad()
def frozen_features(model: StaticsDynamics, videos: LabelledVideos, *, flip: bool) -> FrozenFeatures:
    """Encode every clip, and with ``flip`` its mirror image, too."""
    views: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(1 + flip)]
    for start in range(0, len(videos.records), ENCODED):
        frames = videos.frames(range(start, min(start + ENCODED, len(videos.records))))
        for view, shown in zip(views, (frames, frames.flip(-1)), strict=False):
            statics, dynamics = model.video_encoder(shown)
            view.append((statics.flatten(1).half(), dynamics.half()))
    statics, dynamics = (torch.stack([torch.cat([part[which] for part in view]) for view in views]) for which in (0, 1))
    check_finite(statics, dynamics)
    return FrozenFeatures(statics, dynamics)


class FrozenClassifier(nn.Module):
    """An attentive classifier of features as they come: S (N, D) and P (N, dynamics_dim) of any float type."""

    def __init__(self, statics: Standardise, dynamics: Standardise, classifier: AttentiveLinear) -> None:
        super().__init__()
        self.statics, self.dynamics, self.classifier = statics, dynamics, classifier

    def forward(self, statics: Tensor, dynamics: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and a (N,)."""
        logits, a = self.classifier(self.statics(statics), self.dynamics(dynamics))
        return logits, a


def fit_attentive(
    features: FrozenFeatures,
    videos: LabelledVideos,
    train: list[int],
    *,
    attention: float | None,
    common_dim: int,
    epochs: int,
    seed: int,
) -> FrozenClassifier:
    """Cross-entropy of logits averaged over all clips of a video, clips mirrored or not at random; 16 videos a step.

    Args:
        features: of all videos.
        videos: theirs.
        train: numbers of the videos to train on.
        attention: constant, or None to learn it.
        common_dim: c_g.
        epochs: of `kineme.pipeline.protocols.fitting.HALVED`.
        seed: decides weights, order and mirroring.
    """
    known, _ = _rows(videos, train)
    standards = [Standardise.by(view[known] for view in views) for views in (features.statics, features.dynamics)]
    widths = features.statics.shape[-1], features.dynamics.shape[-1]
    with seeded(seed):
        linear = AttentiveLinear(*widths, common_dim, len(videos.classes), attention)
    classifier = FrozenClassifier(standards[0], standards[1], linear).to(features.statics.device)
    targets = videos.targets(train)

    def loss(numbers: Tensor, generator: torch.Generator) -> Tensor:
        rows, clips = _rows(videos, [train[number] for number in numbers.tolist()])
        views = torch.randint(len(features.statics), (len(rows),), generator=generator).tolist()
        logits, _ = classifier(features.statics[views, rows], features.dynamics[views, rows])
        return F.cross_entropy(average_by_video(logits, clips), targets[numbers].to(logits.device))

    fit(classifier, loss, len(train), epochs=epochs, batch_size=VIDEOS, seed=seed)
    return classifier


def _rows(videos: LabelledVideos, chosen: list[int]) -> tuple[list[int], list[int]]:
    """The clips of videos, one video after the other, and how many each has."""
    own = [videos.rows[video] for video in chosen]
    return [row for rows in own for row in rows], [len(rows) for rows in own]
