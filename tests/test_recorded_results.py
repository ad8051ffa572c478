"""What the recorded results claim, as far as something is promised of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def recorded(name: str) -> dict:
    return json.loads((RESULTS / name).read_text())


def test_an_hour_on_two_cores_finds_motion() -> None:
    """The recipe `cpu`, trained for no more than an hour on a CPU, gets 0.7 of the way from random to the oracle."""
    table = recorded("chapter7-cpu-hour.json")
    assert table["metrics"]["motion_retrieval/way_to_oracle_best"] >= 0.7
    assert table["device"].startswith("CPU")
    for run in table["runs"]["best"]:
        assert run["recipe"]["training"]["minutes"] <= 60
        assert run["recipe"]["model"]["motion_layers"] > 0


@pytest.mark.parametrize("name", ["chapter7-cpu.json", "chapter7-cpu-hour.json"])
def test_the_row_as_written_is_the_loss_of_the_thesis(name: str) -> None:
    for run in recorded(name)["runs"]["written"]:
        assert run["recipe"]["model"]["motion_layers"] == 0
        prediction = run["recipe"]["objective"]["prediction"]
        assert (prediction["similarity"], prediction["negatives"], prediction["targets"]) == ("dot", "all", "states")
        assert (prediction["temperature"], prediction["reduction"]) == (1, "sum")


def test_every_row_saw_as_many_clips() -> None:
    for runs in recorded("chapter7-cpu.json")["runs"].values():
        for run in runs:
            recipe = run["recipe"]
            before = recipe["objective"].get("transformer", {}).get("fraction", 0)
            assert recipe["training"]["epochs"] * (1 - before) == 6
            assert recipe["training"]["minutes"] is None


@pytest.mark.parametrize("name", ["chapter7-cpu.json", "chapter7-cpu-hour.json"])
def test_means_are_those_of_the_runs(name: str) -> None:
    table = recorded(name)
    for source, runs in table["runs"].items():
        values = [run["metrics"]["motion_retrieval/way_to_oracle_motion"] for run in runs]
        if values:
            mean = sum(values) / len(values)
            assert table["metrics"][f"motion_retrieval/way_to_oracle_{source}"] == pytest.approx(mean)
            assert table["metrics"][f"motion_retrieval/way_to_oracle_{source}/seeds"] == len(values)
