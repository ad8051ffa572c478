"""Training schedules: the weight of a KL term, and how often the next-frame CVAE is fed back the truth.

Pure functions of how far training has come, so a run stopped by a time limit follows the same curve as one counted in
epochs.
"""

from __future__ import annotations

from typing import Literal, get_args

Annealing = Literal["none", "monotonic", "cyclical"]


def kl_weight(
    progress: float, *, kind: Annealing = "none", beta: float = 1.0, cycles: int = 4, ratio: float = 0.5
) -> float:
    """The weight of the KL term at ``progress`` of the training: beta(t) of KL annealing.

    ``none``: ``beta`` throughout. ``monotonic``: from 0 linearly to ``beta`` over the first ``ratio`` of the training,
    then constant. ``cyclical`` (Fu et al. 2019, eq. 6 and 7): the same within each of ``cycles`` equal parts of the
    training, starting from 0 again in each.

    Args:
        progress: fraction of the training that is done, in [0, 1].
        kind: the curve.
        beta: the weight at the top.
        cycles: how often the curve starts again, at least 1; used by ``cyclical`` alone.
        ratio: the rising part of a cycle, in (0, 1].

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}, but a fraction of the training lies in [0, 1]")
    if kind not in get_args(Annealing):
        raise ValueError(f"KL annealing is {kind!r}: use one of {', '.join(get_args(Annealing))}")
    if cycles < 1:
        raise ValueError(f"cycles is {cycles}, but annealing needs at least one: use 1 for a single rise")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio is {ratio}, but the rising part of a cycle lies in (0, 1]: use kind none for no rise")
    if kind == "none":
        return beta
    turns = progress * (cycles if kind == "cyclical" else 1)
    # The end of the training is the end of the last cycle, not the start of another.
    within = 1.0 if progress == 1 else turns % 1
    return beta * min(1.0, within / ratio)


def teacher_forcing_ratio(
    progress: float, *, start: float = 1.0, decay_begin: float = 0.0, decay_step: float = 0.0, floor: float = 0.0
) -> float:
    """The probability with which a sequence is trained on true previous frames.

    ``start`` until ``decay_begin``, then down by ``decay_step`` a unit of ``progress``, never below ``floor``. The unit
    is the caller's, the same in ``progress``, ``decay_begin`` and ``decay_step``: epochs, as in the report, or the
    fraction of the training.

    Raises:
        ValueError: not 0 <= floor <= start <= 1, or ``decay_step`` is negative.
    """
    if not 0 <= floor <= start <= 1:
        raise ValueError(f"teacher forcing goes from {start} to {floor}, but needs 0 <= floor <= start <= 1")
    if decay_step < 0:
        raise ValueError(f"decay_step is {decay_step}, but teacher forcing only decays: use 0 or more")
    return max(floor, start - decay_step * max(0.0, progress - decay_begin))
