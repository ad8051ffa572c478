"""Corner points of the training schedules."""

from __future__ import annotations

import pytest

from kineme.models.schedules import Annealing, kl_weight, teacher_forcing_ratio


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_no_annealing_is_constant(progress: float) -> None:
    assert kl_weight(progress, kind="none", beta=0.7) == 0.7


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.6, 1.0), (1.0, 1.0)])
def test_monotonic_rises_once_and_stays(progress: float, expected: float) -> None:
    assert kl_weight(progress, kind="monotonic", beta=2.0, ratio=0.25, cycles=9) == pytest.approx(2.0 * expected)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.499, 1.0), (0.5, 0.0), (0.625, 0.5), (0.75, 1.0), (1.0, 1.0)],
)
def test_cyclical_starts_again_and_ends_at_the_top(progress: float, expected: float) -> None:
    assert kl_weight(progress, kind="cyclical", beta=3.0, cycles=2, ratio=0.5) == pytest.approx(3.0 * expected)


def test_one_cycle_is_monotonic() -> None:
    for step in range(101):
        once = kl_weight(step / 100, kind="cyclical", cycles=1, ratio=0.3)
        assert once == kl_weight(step / 100, kind="monotonic", ratio=0.3)


@pytest.mark.parametrize("kind", ["none", "monotonic", "cyclical"])
def test_weight_stays_between_zero_and_beta(kind: Annealing) -> None:
    weights = [kl_weight(step / 997, kind=kind, beta=0.01, cycles=3, ratio=0.8) for step in range(998)]
    assert min(weights) >= 0
    assert max(weights) == 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"progress": 1.01}, r"progress is 1.01"),
        ({"progress": -0.1}, r"progress is -0.1"),
        ({"kind": "linear"}, r"'linear': use one of none, monotonic, cyclical"),
        ({"cycles": 0}, r"cycles is 0"),
        ({"ratio": 0.0}, r"ratio is 0.0"),
        ({"ratio": 1.5}, r"ratio is 1.5"),
    ],
)
def test_kl_weight_names_what_is_out_of_range(changes: dict[str, object], message: str) -> None:
    arguments = {"progress": 0.5, "kind": "cyclical", **changes}
    with pytest.raises(ValueError, match=message):
        kl_weight(**arguments)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.9), (100, 0.9), (101, 0.89), (110, 0.8), (150, 0.4), (170, 0.2), (171, 0.2), (900, 0.2)],
)
def test_teacher_forcing_decays_by_a_step_an_epoch(epoch: int, expected: float) -> None:
    ratio = teacher_forcing_ratio(epoch, start=0.9, decay_begin=100, decay_step=0.01, floor=0.2)
    assert ratio == pytest.approx(expected)


def test_teacher_forcing_in_fractions_of_the_training() -> None:
    ratios = [
        teacher_forcing_ratio(p, start=1.0, decay_begin=0.25, decay_step=2.0, floor=0.0) for p in (0.25, 0.5, 0.75, 1.0)
    ]
    assert ratios == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_teacher_forcing_without_decay_is_constant() -> None:
    assert {teacher_forcing_ratio(epoch, start=0.6) for epoch in range(50)} == {0.6}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"start": 1.2}, "needs 0 <="), ({"floor": 0.9}, "from 0.5 to 0.9"), ({"decay_step": -1.0}, "decay_step is -1.0")],
)
def test_teacher_forcing_names_what_is_out_of_range(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teacher_forcing_ratio(0, **{"start": 0.5, **changes})
