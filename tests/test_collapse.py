"""Effective rank and total variance against plain definitions, and what a run says when a representation collapses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import ENCODER, make_run
from torch import Tensor
from toy_tasks import OneStage, training_on

from kineme.models.collapse import effective_rank, total_variance
from kineme.pipeline.collapse_watch import CollapseWatch
from kineme.pipeline.tasks import TrainingClips

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 12)


def drawn(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def slow_rank(x: np.ndarray) -> float:
    """Roy & Vetterli 2007, by the eigenvalues of the Gram matrix and a loop."""
    centred = x - x.mean(axis=0)
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred)
    sigma = [math.sqrt(value) for value in eigenvalues if value > 1e-12]
    shares = [value / sum(sigma) for value in sigma]
    return math.exp(-sum(share * math.log(share) for share in shares))


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes)
def test_effective_rank_and_variance_by_their_definitions(seed: int, rows: int, columns: int) -> None:
    x = drawn(seed, rows, columns)
    rank = float(effective_rank(torch.from_numpy(x)))
    assert rank == pytest.approx(slow_rank(x), rel=1e-4)
    assert 1 - 1e-6 <= rank <= min(rows - 1, columns) + 1e-6
    mean = sum(x) / rows
    variance = sum(float(((row - mean) ** 2).sum()) for row in x) / rows
    assert float(total_variance(torch.from_numpy(x))) == pytest.approx(variance)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(1e-3, 1e3))
def test_rank_knows_neither_place_nor_scale_nor_rotation(seed: int, scale: float) -> None:
    x = drawn(seed, 10, 4)
    rotation, _ = np.linalg.qr(drawn(seed + 1, 4, 4))
    moved = torch.from_numpy(scale * x @ rotation + 5)
    assert float(effective_rank(moved)) == pytest.approx(float(effective_rank(torch.from_numpy(x))))


def test_known_ranks() -> None:
    # Both signs of every axis: spread alike in all of them.
    alike = torch.cat([torch.eye(6), -torch.eye(6)])
    assert float(effective_rank(alike)) == pytest.approx(6)
    line = torch.linspace(-1, 1, 20)[:, None] * torch.rand(1, 7)
    assert float(effective_rank(line)) == pytest.approx(1, abs=1e-3)
    # What rounding leaves of equal rows is no direction.
    constant = torch.full((33, 7), 0.1) * torch.rand(1, 7)
    assert float(effective_rank(constant)) == 0
    assert float(total_variance(constant)) == 0


def test_what_is_not_finite_is_nan_and_raises_nothing() -> None:
    x = torch.rand(5, 3)
    x[2, 1] = torch.inf
    assert math.isnan(float(effective_rank(x)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = torch.randn(8, 4, requires_grad=True).to(dtype)
    rank = effective_rank(x)
    assert rank.dtype == total_variance(x).dtype == torch.float32
    assert not rank.requires_grad
    assert float(rank) == pytest.approx(slow_rank(x.detach().double().numpy()), rel=1e-4)


def test_the_watch_takes_means_and_begins_anew() -> None:
    watch = CollapseWatch()
    for rank, variance in ((1.2, 1e-9), (1.9, math.nan), (1.2, 3e-9)):
        parts = {"rank/P": rank, "variance/P": variance, "rank/S": 7.0, "variance/S": math.nan, "loss": 0.0}
        watch.note({name: torch.tensor(value) for name, value in parts.items()})
    rank_line, variance_line = watch.take()
    assert rank_line.startswith("collapse: rank/P is 1.43, under 1.5: of P, it varies along one direction at most")
    assert variance_line.startswith("collapse: variance/P is 2e-09, under 1e-08: of P, it is the same for every clip")
    watch.note({"rank/P": torch.tensor(1.6), "kl": torch.tensor(0.5), "kl_z": torch.tensor(0.0)})
    assert watch.take() == []
    watch.note({"kl": torch.tensor(0.002)})
    assert watch.take()[0].startswith("collapse: kl is 0.002, under 0.01: of z, it says next to nothing")


def representing(vectors: Tensor) -> type[OneStage]:
    class Representing(OneStage):
        def losses(self, clips: TrainingClips, progress: float) -> dict[str, Tensor]:
            watched = {"rank/P": effective_rank(vectors), "variance/P": total_variance(vectors)}
            return {**super().losses(clips, progress), **watched}

    return Representing


def test_a_run_says_that_its_representation_has_collapsed(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_on(representing(torch.ones(16, 8))):
        make_run(ENCODER, digits, tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "collapse" in line]
    # Two epochs, and once more at the end.
    assert [line.partition(": ")[0] for line in lines] == [
        when for when in ("epoch 0", "epoch 1", "end of the run") for _ in range(2)
    ]
    assert sum("rank/P is 0, under 1.5" in line for line in lines) == 3
    assert sum("variance/P is 0, under 1e-08" in line for line in lines) == 3


def test_a_run_on_noise_says_nothing(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with training_on(representing(torch.randn(16, 8))):
        make_run(ENCODER, digits, tmp_path)
    assert "collapse" not in capsys.readouterr().err
