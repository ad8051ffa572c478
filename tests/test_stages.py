"""A run in two stages: what each of them trains, at which rate, and that a resume goes on in the middle of one."""

from __future__ import annotations

import csv
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import ENCODER, make_recipe, make_run
from toy_tasks import TwoStages, after_each_step, moments_of, training_on, weights_of

from kineme.pipeline.training import train

EPOCHS = "training.epochs=3"
STEPS = 15
SECOND_BEGINS = 8
"""First step at half of the run or later."""


def expected_rates() -> list[float]:
    """The rates of `toy_tasks.TwoStages`, written out."""
    rates = []
    for step in range(STEPS):
        if step < SECOND_BEGINS:
            done = step / STEPS / 0.5
            rates.append(0.1 * min(1, (step + 1) / 2) * (1 if done < 0.5 else 0.5))
        else:
            done = (step / STEPS - 0.5) / 0.5
            warmth = min(1, (step - SECOND_BEGINS + 1) / 3)
            rates.append(0.02 * warmth * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2))
    return rates


def rates_of(trainer: Any) -> list[float]:
    return [group["lr"] for group in trainer.optimizers[0].param_groups]


def test_a_frozen_stage_is_really_untouched(digits: Path, tmp_path: Path) -> None:
    weights: list[dict[str, torch.Tensor]] = []
    moments: list[list[dict[str, torch.Tensor]]] = []

    def look(trainer: Any, module: Any) -> None:
        weights.append(weights_of(module))
        moments.append(moments_of(trainer))

    with training_on(TwoStages), after_each_step(look):
        make_run(ENCODER, digits, tmp_path, EPOCHS)
    assert len(weights) == STEPS
    for before, after in zip(range(STEPS - 1), range(1, STEPS), strict=True):
        trained, frozen = ("first", "second") if after < SECOND_BEGINS else ("second", "first")
        assert not torch.equal(weights[before][f"{trained}.weight"], weights[after][f"{trained}.weight"])
        assert torch.equal(weights[before][f"{frozen}.weight"], weights[after][f"{frozen}.weight"])
        assert torch.equal(weights[before][f"{frozen}.bias"], weights[after][f"{frozen}.bias"])
    # The second layer starts without moments of the first stage, and the first layer's rest in the second.
    assert all(not kept for kept in moments[SECOND_BEGINS - 1][-2:])
    assert [int(kept["step"]) for kept in moments[-1][-2:]] == [STEPS - SECOND_BEGINS] * 2
    assert torch.equal(moments[-1][0]["exp_avg"], moments[SECOND_BEGINS - 1][0]["exp_avg"])


def test_each_stage_has_its_own_rate_warm_up_and_decay(digits: Path, tmp_path: Path) -> None:
    rates: list[list[float]] = []
    with training_on(TwoStages), after_each_step(lambda trainer, module: rates.append(rates_of(trainer))):
        run = make_run(ENCODER, digits, tmp_path, EPOCHS)
    assert [rate for rate, _ in rates] == pytest.approx(expected_rates())
    assert [slow for _, slow in rates] == pytest.approx([0.2 * rate for rate in expected_rates()])
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        assert [(row["step"], float(row["stage"])) for row in csv.DictReader(file)] == [("4", 1), ("9", 2), ("14", 2)]


@pytest.mark.parametrize("stop", [3, SECOND_BEGINS, 10, 12])
def test_a_resume_in_the_middle_of_a_stage(stop: int, digits: Path, tmp_path: Path) -> None:
    """At the very switch, at the end of an epoch, in the middle of one: rates, weights and moments go on."""
    whole: list[Any] = []
    parts: list[Any] = []

    def keep(into: list[Any], end: int) -> Any:
        def look(trainer: Any, module: Any) -> None:
            into.append((rates_of(trainer), weights_of(module)))
            if len(into) == end:
                raise KeyboardInterrupt

        return look

    (tmp_path / "whole").mkdir()
    with training_on(TwoStages):
        with after_each_step(keep(whole, 0)):
            make_run(ENCODER, digits, tmp_path / "whole", EPOCHS)
        handler = signal.getsignal(signal.SIGINT)
        with after_each_step(keep(parts, stop)), pytest.raises(KeyboardInterrupt):
            make_run(ENCODER, digits, tmp_path, EPOCHS)
        signal.signal(signal.SIGINT, handler)  # Lightning ignores further ones while it shuts down
        run = tmp_path / "run"
        assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == stop
        recipe = make_recipe(ENCODER, tmp_path, EPOCHS)
        with after_each_step(keep(parts, 0)):
            train(recipe, digits / "shards", run, resume=True, accelerator="cpu")
    assert [rates for rates, _ in parts] == [rates for rates, _ in whole]
    for (_, one), (_, other) in zip(parts, whole, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    # The columns that the first stage logged stay.
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"early", "late"} <= rows[-1].keys()
    assert rows[-1]["late"]
