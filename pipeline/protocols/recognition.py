"""What the protocols that recognise labels have in common: which labels, of whom, and how often they are right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.run import Run
from kineme.shards.manifest import Manifest


class Recognition(NamedTuple):
    """What is recognised in a data set.

    Attributes:
        label: name of the label to be predicted.
        identity: name of the label that nobody in training may share: actors, characters.
        flip: whether a mirrored clip has the same label. Where actions have a side, as "walk left", it has not.
    """

    label: str
    identity: str
    flip: bool


KNOWN = {
    "ravdess": Recognition("emotion", "actor", True),
    "sprites": Recognition("action", "character", False),
    "weizmann": Recognition("action", "actor", True),
}
"""By data set."""


def recognition_of(
    shards: Path, label: str | None = None, identity: str | None = None, flip: bool | None = None
) -> Recognition:
    """What is recognised in shards: what is given, else what is known of their data set; unknown sets are not flipped.

    Raises:
        RunError: a label is not given, and the data set is not among :data:`KNOWN`.
        DataError: no manifest.
    """
    dataset = Manifest.load(shards).dataset
    known = KNOWN.get(dataset)
    label, identity = label or (known and known.label), identity or (known and known.identity)
    if not label or not identity:
        raise RunError(
            f"{shards}: which label to recognise and which to hold out is known of {', '.join(KNOWN)}, not of "
            f"{dataset}: give both, --option label=NAME and --option identity=NAME"
        )
    return Recognition(label, identity, (known is not None and known.flip) if flip is None else flip)


def check_finite(*features: Tensor) -> None:
    """Refuse what would be classified silently, as the first class.

    Raises:
        RunError: NaN or infinity among the features or logits.
    """
    if not all(bool(part.isfinite().all()) for part in features):
        raise RunError("the network gave NaN or infinity for a clip: its weights are broken, measure another run")


def check_classes(known: set[str], asked: set[str], label: str, where: str) -> None:
    """Refuse what no classifier could learn.

    Args:
        known: values of the label among what is trained on.
        asked: values among what is tested.
        label: its name.
        where: names what is trained on.

    Raises:
        RunError: fewer than two known values, or one asked for that is not known.
    """
    if len(known) < 2:
        raise RunError(
            f"{where}: {label} has {len(known)} value{'' if len(known) == 1 else 's'} ({', '.join(known) or 'none'}), "
            "a classifier needs 2 to tell apart: take more clips or another label"
        )
    unseen = sorted(asked - known)
    if unseen:
        raise RunError(
            f"{where}: no clip has {label} {unseen[0]!r}, which is tested ({len(unseen)} such of {len(asked)} values): "
            "train on more clips, or choose a label with fewer values"
        )


def statics_dynamics_of(run: Run) -> StaticsDynamics:
    """The network of a statics-dynamics run.

    Raises:
        RunError: the run is of another kind.
    """
    if not isinstance(run.task.model, StaticsDynamics):
        raise RunError(f"{run.folder}: is a {run.recipe.kind} run, S and P come from statics-dynamics runs alone")
    return run.task.model


def accuracy_figures(name: str, correct: Sequence[bool]) -> Metrics:
    """The share of right answers, and its binomial 95% interval (Wilson) as NAME_low and NAME_high; at least one."""
    from scipy.stats import binomtest

    right = sum(correct)
    interval = binomtest(right, len(correct)).proportion_ci(0.95, method="wilson")
    return {name: right / len(correct), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
