"""What a linear classifier reads from S: the two digits of a clip (thesis 7.4.4), 55 pairs on Moving MNIST.

The baseline is the same classifier on single frames, s_t = g_enc(x_t), whose votes decide on the clip. The thesis says
"aggregate votes from each frame"; here that is the class most frames vote for, of equals that with the higher sum of
probabilities. Also left open there, and so here: multinomial logistic regression on all features, standardised by those
it is trained on, its weight decay chosen on a tenth of the training clips that is then trained on, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kineme.models.classifiers import Standardise
from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.frames import to_model
from kineme.pipeline.labels import label_of
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.chosen_clips import database_split
from kineme.pipeline.protocols.fitting import fit
from kineme.pipeline.protocols.recognition import accuracy_figures, check_classes, check_finite, statics_dynamics_of
from kineme.pipeline.recipe_sections import Count, Seed
from kineme.pipeline.run import Run
from kineme.shards.endless import ENDLESS
from kineme.shards.loader import ClipLoader, clip_loader
from kineme.shards.records import read_records
from kineme.shards.sample import ClipRecord
from kineme.shards.sources.base import NOT_SPLIT as TRAIN_SPLIT
from kineme.shards.split import SplitSelector

WEIGHT_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_BATCH = 256
_ENCODED = 64
_DRAWN_SEED = 55_000_001
"""Of clips drawn for the probe: far from the seeds of trainings, whose clips it would otherwise draw again."""


def measure_linear_probe(
    run: Run,
    shards: Path,
    split: str,
    *,
    label: str = "digits",
    drawn_clips: Annotated[int, Field(ge=_ENCODED)] = 20_000,
    steps: Count = 2000,
    seed: Seed = 0,
) -> Metrics:
    """The figures of :func:`linear_probe` for a run; of longer stored clips the first frames are taken."""
    return linear_probe(
        statics_dynamics_of(run),
        shards,
        split,
        label=label,
        frame_step=run.recipe.data.frame_step,
        drawn_clips=drawn_clips,
        steps=steps,
        seed=seed,
    )


def linear_probe(
    model: StaticsDynamics,
    shards: Path,
    split: str,
    *,
    label: str,
    frame_step: int = 1,
    drawn_clips: int = 20_000,
    steps: int = 2000,
    seed: int = 0,
) -> Metrics:
    """Accuracy of linear classifiers on the frozen, flattened S, and on single frames that vote.

    They are trained on the training split (for ``LABEL=VALUE`` on all other values), or where the shards can draw clips
    without end on ``drawn_clips`` new ones: on the 10,000 stored clips of Moving MNIST the probe mostly overfits.

    Args:
        model: frozen; clips go to the device where it is.
        shards: ingested data.
        split: what is tested.
        label: what is predicted.
        frame_step: distance of frames in stored ones.
        drawn_clips: to train on, where clips can be drawn.
        steps: of each fit, each of at most 256 clips; a frame classifier is given one frame of each, drawn at random.
        seed: decides all that is random.

    Returns:
        linear_probe/accuracy_statics and linear_probe/accuracy_frame_votes with 95% intervals, linear_probe/chance (the
        accuracy of always naming the class that is most frequent in training), linear_probe/training_clips; ``clips``
        are those tested.

    Raises:
        RunError: a clip lacks the label, what is tested is trained on, or a class is tested that training never shows.
        DataError: no clips of a split, or shorter than the model needs.
    """
    rest = database_split(split)
    endless = drawn_clips if rest == TRAIN_SPLIT and (shards / ENDLESS).is_file() else None
    source = _Source(model, shards, frame_step)
    tested = source.loader(split)
    selector = SplitSelector.parse(split)
    # In the order of the loader, and known before anything takes long.
    asked = [label_of(record, label) for record in read_records(shards) if selector.matches(record)]
    train = source.encode(source.loader(rest, endless, _DRAWN_SEED + seed))
    known = [label_of(record, label) for record in train.records]
    drawn = "" if endless is None else " (--option drawn_clips)"
    check_classes(set(known), set(asked), label, f"{shards}, {len(known)} training clips{drawn}")
    names = sorted(set(known))
    targets, truth = (
        torch.tensor([names.index(name) for name in given], device=train.statics.device) for given in (known, asked)
    )
    probes = [
        best_probe(features, targets, len(names), steps=steps, seed=seed)
        for features in (train.statics[:, None], train.frames)
    ]
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    with torch.no_grad():
        for _, statics, frames in source.batches(tested):
            check_finite(statics, frames)
            for votes_of, probe, features in zip(found, probes, (statics[:, None], frames), strict=True):
                votes_of.append(votes(probe(features)))
    right = [(torch.cat(given) == truth).tolist() for given in found]
    most_frequent = Counter(known).most_common(1)[0][0]
    return {
        "clips": len(asked),
        "linear_probe/training_clips": len(known),
        "linear_probe/chance": asked.count(most_frequent) / len(asked),
        **accuracy_figures("linear_probe/accuracy_statics", right[0]),
        **accuracy_figures("linear_probe/accuracy_frame_votes", right[1]),
    }


def best_probe(features: Tensor, targets: Tensor, classes: int, *, steps: int, seed: int) -> nn.Module:
    """The probe with the weight decay that does best on a tenth of the examples, fitted to all of them.

    Of equals the largest decay is taken.

    Args:
        features: (N, T, D) of any float type, T views of each example, which vote.
        targets: (N,) classes.
        classes: how many.
        steps: of each fit.
        seed: decides which tenth, and each fit.
    """
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed)).to(targets.device)
    tenth = max(1, len(order) // 10)
    held_out, rest = order[:tenth], order[tenth:]
    scores = []
    for decay in WEIGHT_DECAYS:
        probe = fit_probe(features, targets, rest, classes, weight_decay=decay, steps=steps, seed=seed)
        with torch.no_grad():
            right = [votes(probe(features[part])) == targets[part] for part in torch.split(held_out, _BATCH)]
        scores.append((int(torch.cat(right).sum()), decay))
    return fit_probe(features, targets, order, classes, weight_decay=max(scores)[1], steps=steps, seed=seed)


def fit_probe(
    features: Tensor, targets: Tensor, rows: Tensor, classes: int, *, weight_decay: float, steps: int, seed: int
) -> nn.Module:
    """Multinomial logistic regression on the views of some rows of the features, from zero weights.

    Minimises the mean cross-entropy plus ``weight_decay / 2`` times the squared weights and biases.

    Returns:
        A module from (..., D) to logits (..., classes).
    """
    width = features.shape[-1]
    linear = nn.Linear(width, classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    standard = Standardise.by(features[part].reshape(-1, width) for part in torch.split(rows, _BATCH))
    probe = nn.Sequential(standard, linear).to(features.device)

    def loss(numbers: Tensor, generator: torch.Generator) -> Tensor:
        chosen = rows[numbers.to(rows.device)]
        views = torch.randint(features.shape[1], numbers.shape, generator=generator).to(rows.device)
        return F.cross_entropy(probe(features[chosen, views]), targets[chosen])

    epochs = max(1, round(steps / math.ceil(len(rows) / _BATCH)))
    fit(probe, loss, len(rows), epochs=epochs, batch_size=_BATCH, seed=seed, weight_decay=weight_decay)
    return probe


def votes(logits: Tensor) -> Tensor:
    """Classes (N,) that most of T voters name, of equals that with the higher sum of probabilities: (N, T, classes)."""
    counts = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).sum(dim=1)
    # T probabilities sum to T at most, so that they never outweigh a vote.
    return (counts + logits.softmax(dim=-1).sum(dim=1) / (logits.shape[1] + 1)).argmax(dim=-1)


@dataclass(frozen=True)
class EncodedFrames:
    """N clips: S flattened (N, D) and s_1..s_T (N, T, D), both float16, and their records."""

    statics: Tensor
    frames: Tensor
    records: list[ClipRecord]


class _Source:
    """Clips of a shards folder, and what the model makes of them."""

    def __init__(self, model: StaticsDynamics, shards: Path, frame_step: int) -> None:
        self._model = model
        self._shards = shards
        self._frame_step = frame_step
        self._device = next(model.parameters()).device

    def loader(self, split: str | None, endless: int | None = None, seed: int = 0) -> ClipLoader:
        return clip_loader(
            self._shards,
            batch_size=_ENCODED,
            clip_frames=self._model.config.clip_frames,
            frame_step=self._frame_step,
            split=split,
            endless=endless,
            seed=seed,
        )

    @torch.no_grad()
    def batches(self, clips: ClipLoader) -> Iterator[tuple[Sequence[ClipRecord], Tensor, Tensor]]:
        """Records, S flattened (B, D) and s_t (B, T, D)."""
        for batch in clips:
            frames = to_model(batch.frames.to(self._device), self._model.config.frame_size)
            statics = self._model.video_encoder(frames)[0].flatten(1)
            single = self._model.transformer.encode(frames.flatten(0, 1)).flatten(1)
            yield batch.records, statics, single.unflatten(0, frames.shape[:2])

    def encode(self, clips: ClipLoader) -> EncodedFrames:
        """All at once: 2 * (T + 1) * D bytes a clip, 1.5 GB for 20,000 clips of 8 frames of 64 px at 64 channels."""
        c = self._model.config
        count, width = clips.sampler.clips, c.latent_channels * (c.frame_size // c.reduction) ** 2
        statics = torch.empty(count, width, dtype=torch.float16, device=self._device)
        frames = torch.empty(count, c.clip_frames, width, dtype=torch.float16, device=self._device)
        records: list[ClipRecord] = []
        for part, s, single in self.batches(clips):
            place = slice(len(records), len(records) + len(part))
            statics[place], frames[place] = s, single
            check_finite(statics[place], frames[place])
            records.extend(part)
        return EncodedFrames(statics, frames, records)
