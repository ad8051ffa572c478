"""Memory format and compilation change neither the names of the weights nor, but for rounding, what is learnt."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tiny_runs import ENCODER, STATICS_DYNAMICS, make_run
from torch import nn
from toy_tasks import OneStage, after_each_step, training_on

from kineme.pipeline.errors import RunError
from kineme.pipeline.run import load_run
from kineme.pipeline.training_module import to_channels_last


def saved(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "weights.pt", weights_only=True)["weights"]
    return weights


def losses_of(run: Path) -> list[float]:
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def all_channels_last(model: nn.Module) -> bool:
    return all(p.is_contiguous(memory_format=torch.channels_last) for p in model.parameters() if p.dim() == 4)


def test_channels_last(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    layouts = []
    with after_each_step(lambda trainer, module: layouts.append(all_channels_last(module.model))):
        run = make_run(ENCODER, digits, tmp_path, "training.channels_last=true")
    assert layouts == [True] * 10
    plain, laid_out = saved(encoder_run), saved(run)
    assert list(plain) == list(laid_out)
    for name, value in plain.items():
        torch.testing.assert_close(laid_out[name], value, rtol=1e-3, atol=1e-4)
    load_run(run)


def test_channels_last_of_a_network_that_is_not_so_by_itself(digits: Path, tmp_path: Path) -> None:
    """The noise of rounding, which Adam turns into steps of its rate, is larger than in the weights above."""
    runs, layouts = [], []
    for switch in ("false", "true"):
        (tmp_path / switch).mkdir()
        with after_each_step(lambda trainer, module: layouts.append(all_channels_last(module.model))):
            runs.append(make_run(STATICS_DYNAMICS, digits, tmp_path / switch, f"training.channels_last={switch}"))
    assert layouts == [False] * 10 + [True] * 10
    assert list(saved(runs[0])) == list(saved(runs[1]))
    assert losses_of(runs[1]) == pytest.approx(losses_of(runs[0]), rel=1e-3)
    load_run(runs[1])


def test_channels_last_in_three_dimensions() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    to_channels_last(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_compiled(digits: Path, tmp_path: Path) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    names, losses = [], []
    for compiled in ("false", "true"):
        (tmp_path / compiled).mkdir()
        with training_on(OneStage):
            run = make_run(ENCODER, digits, tmp_path / compiled, f"training.compile={compiled}")
        names.append(list(saved(run)))
        losses.append(losses_of(run))
        assert bool(torch._dynamo.utils.counters["frames"]["ok"]) == (compiled == "true")
    assert names[0] == names[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_where_nothing_can_be_compiled(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/absent")}),
        training_on(OneStage),
        pytest.raises(RunError, match=r"training\.compile is true, but torch cannot compile here: .*/absent") as error,
    ):
        make_run(ENCODER, digits, tmp_path, "training.compile=true")
    assert "\n" not in str(error.value)
