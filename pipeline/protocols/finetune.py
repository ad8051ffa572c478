"""Does pretraining help to recognise? Table 7.3 of the thesis (7.5.3): the video encoder, trained on by labels.

The fully connected layer that gives P is replaced by average pooling and a linear classifier, and all weights are
trained, from three starts: random weights ("scratch"), those of a run with objective 7.3 alone ("statics"), and those
of a run with all objectives ("statics_dynamics"). All clips of a video vote by their mean logits.

Labels of the tested people are never seen, but a run may have seen their clips unlabelled, which "scratch" has not:
train it with a ``data.split`` that leaves them out, or test a split that it did not train on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from kineme.models.statics_dynamics import StaticsDynamicsConfig
from kineme.models.video_encoder import VideoEncoder
from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.chosen_clips import database_split
from kineme.pipeline.protocols.fitting import watched
from kineme.pipeline.protocols.labelled_videos import Division, LabelledVideos, read_labelled_videos
from kineme.pipeline.protocols.recognition import (
    accuracy_figures,
    recognition_of,
    statics_dynamics_of,
)
from kineme.pipeline.protocols.video_classification import recognised, train_video_classifier
from kineme.pipeline.recipe import StaticsDynamicsRecipe
from kineme.pipeline.recipe_sections import Count, Seed
from kineme.pipeline.run import Run, load_run


def measure_finetune(
    run: Run,
    shards: Path,
    split: str | None = None,
    *,
    statics_only: Path | None = None,
    label: str | None = None,
    identity: str | None = None,
    flip: bool | None = None,
    folds: Count = 5,
    fractions: Annotated[Sequence[float], Field(min_length=1)] = (1.0,),
    epochs: Count = 200,
    seed: Seed = 0,
) -> Metrics:
    """The figures of :func:`finetune` for a run, beside those of a run pretrained with the statics' objective alone.

    Args:
        run: a statics-dynamics run, "statics_dynamics".
        shards: ingested data with labels.
        split: what is tested; None takes every identity in turn, in folds.
        statics_only: folder of a run of the same sizes without prediction, "statics"; left out if None.
        label: to recognise; what is known of the data set (`kineme.pipeline.protocols.recognition.KNOWN`) if None.
        identity: label that training and test never share, likewise.
        flip: mirror training clips at random, likewise.
        folds: where ``split`` is None.
        fractions: parts of the training identities that have labels, in (0, 1].
        epochs: of every training.
        seed: decides folds, fractions and every training.

    Raises:
        RunError: as :func:`finetune` and what makes its divisions; the second run has another encoder, or learned
            dynamics, too.
    """
    model = statics_dynamics_of(run)
    starts: dict[str, VideoEncoder | None] = {"scratch": None}
    if statics_only is not None:
        starts["statics"] = _statics_encoder(load_run(statics_only, run.device), model.config)
    starts["statics_dynamics"] = model.video_encoder
    wanted = recognition_of(shards, label, identity, flip)
    videos = read_labelled_videos(shards, model.config, run.recipe.data.frame_step, wanted, run.device)
    divisions = identity_folds(videos, folds, seed) if split is None else [split_division(videos, split)]
    return finetune(
        videos, divisions, starts, model.config, fractions=fractions, flip=wanted.flip, epochs=epochs, seed=seed
    )


def finetune(
    videos: LabelledVideos,
    divisions: Sequence[Division],
    starts: Mapping[str, VideoEncoder | None],
    config: StaticsDynamicsConfig,
    *,
    fractions: Sequence[float] = (1.0,),
    flip: bool,
    epochs: int,
    seed: int = 0,
) -> Metrics:
    """Accuracy over the tested videos of all divisions, from each of several starts.

    Every start has the same divisions, labelled identities, order of training and weights of the last layer. A smaller
    fraction's labelled identities are among those of a larger one.

    Args:
        videos: on the device where all is trained.
        divisions: each is trained and tested by itself.
        starts: name -> pretrained encoder of these sizes, or None for random weights.
        config: the sizes.
        fractions: parts of the training identities that have labels, in (0, 1], at least one identity.
        flip: mirror training clips at random.
        epochs: of every training.
        seed: decides which identities have labels, and every training.

    Returns:
        finetune/accuracy_START with its 95% interval for all labels, finetune/accuracy_START/1pct for one in a hundred;
        finetune/videos tested; ``clips`` in all.

    Raises:
        RunError: a fraction out of its range, or a class is tested that training does not show.
    """
    labelled = {
        fraction: [
            Division(_labelled(videos, train, fraction, (seed, number)), test)
            for number, (train, test) in enumerate(divisions)
        ]
        for fraction in fractions
    }
    for parts in labelled.values():
        for part in parts:
            videos.check(part)
    metrics: Metrics = {
        "clips": len(videos.records),
        "finetune/videos": sum(len(division.test) for division in divisions),
    }
    for fraction, parts in labelled.items():
        for start, encoder in starts.items():
            right: list[bool] = []
            for train, test in watched(parts, f"{start}, {100 * fraction:g}% of the labels"):
                classifier = train_video_classifier(
                    videos, train, config, pretrained=encoder, flip=flip, epochs=epochs, seed=seed
                )
                right += recognised(classifier, videos, test)
            name = f"finetune/accuracy_{start}"
            metrics |= accuracy_figures(name if fraction == 1 else f"{name}/{100 * fraction:g}pct", right)
    return metrics


def _statics_encoder(run: Run, config: StaticsDynamicsConfig) -> VideoEncoder:
    model = statics_dynamics_of(run)
    for name in ("frame_size", "clip_frames", "width", "latent_channels", "dynamics_dim", "reduction"):
        own, wanted = getattr(model.config, name), getattr(config, name)
        if own != wanted:
            raise RunError(
                f"{run.folder}: its {name} is {own}, that of the run it stands beside {wanted}: train one alike"
            )
    if isinstance(run.recipe, StaticsDynamicsRecipe):
        o = run.recipe.objective
        if o.prediction.coefficient or (model.config.motion_layers and o.motion.coefficient):
            raise RunError(
                f"{run.folder}: it learned dynamics, too: train one with --set objective.prediction.coefficient=0 "
                "--set model.motion_layers=0"
            )
    return model.video_encoder


def identity_folds(videos: LabelledVideos, folds: int, seed: int) -> list[Division]:
    """Every identity is tested once, in one of so many folds of as many identities, and trained on in all others.

    Raises:
        RunError: fewer than 2 folds, or more than identities.
    """
    names = sorted(set(videos.identities))
    if not 2 <= folds <= len(names):
        raise RunError(
            f"folds is {folds}: at least 2 are needed, and not more than the {len(names)} identities of the shards"
        )
    parts = np.array_split(np.random.default_rng(seed).permutation(len(names)), folds)
    return [videos.without({names[number] for number in part.tolist()}) for part in parts]


def split_division(videos: LabelledVideos, split: str) -> Division:
    """A split is tested, and the training split (for ``LABEL=VALUE`` all other values) is trained on.

    Raises:
        RunError: either is empty, both are the same, or somebody is shown in both.
    """
    rest = database_split(split)
    division = Division(videos.of_split(rest), videos.of_split(split))
    for name, chosen in zip((rest, split), division, strict=True):
        if not chosen:
            raise RunError(
                f"--split {split}: the shards hold no clips of split {name}; kineme inspect says what they hold"
            )
    both = sorted({videos.identities[v] for v in division.train} & {videos.identities[v] for v in division.test})
    if both:
        raise RunError(
            f"--split {split}: {both[0]} is both in it and in {rest}: identities must be apart; leave the split out "
            "for folds of identities"
        )
    return division


def _labelled(videos: LabelledVideos, train: list[int], fraction: float, seed: tuple[int, int]) -> list[int]:
    if not 0 < fraction <= 1:
        raise RunError(
            f"fraction {fraction:g} of the training identities: it must be above 0 and at most 1, such as 0.1"
        )
    names = sorted({videos.identities[video] for video in train})
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = {names[number] for number in order[: max(1, round(fraction * len(names)))].tolist()}
    return [video for video in train if videos.identities[video] in chosen]
