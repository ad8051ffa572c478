"""The benchmark of rollouts, benchmarks/prediction.py: its ratios, and that the results page names them right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Figures = Callable[[str, dict[str, list[float]], int, torch.device], dict[str, float]]


@pytest.fixture
def figures(benchmarks_on_the_path: None) -> Figures:
    from prediction import figures

    return figures


def test_ratios_of_rounds_to_the_plain_loop(figures: Figures) -> None:
    taken = {"plain": [4.0, 2.0, 6.0], "compiled": [1.0, 1.0, 2.0]}
    found = figures("a/batch_2", taken, 40, torch.device("cpu"))
    assert {name: value for name, value in found.items() if "compiled" in name} == {
        "a/batch_2/compiled/times_plain": 3,
        "a/batch_2/compiled/times_plain_least": 2,
        "a/batch_2/compiled/times_plain_most": 4,
    }
    assert figures("a", taken, 40, torch.device("cuda"))["a/plain/frames_a_second"] == 10


@pytest.mark.parametrize(("kind", "width"), [("cpu", "pushing-cpu"), ("gpu", "pushing")])
def test_the_page_names_what_is_measured(kind: str, width: str, figures: Figures) -> None:
    variants = ("compiled",) if kind == "cpu" else ("compiled", "compiled_bf16")
    measured = {
        name
        for recipe in ("frame-predictor", "kernel-predictor")
        for batch in (1, 64)
        for variant in variants
        for name in figures(f"{recipe}/{width}/batch_{batch}", {"plain": [1], variant: [1]}, 1, torch.device("cpu"))
        if f"/{variant}/" in name
    }
    sections = yaml.safe_load((BENCHMARKS / "figures.yaml").read_text())
    (section,) = (section for section in sections if section["result"] == f"prediction-speed-{kind}.json")
    assert {figure[column] for figure in section["figures"] for column in ("metric", "lowest", "highest")} == measured
