"""What the recorded results claim, as far as something is promised of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


@pytest.fixture(params=["chapter7-cpu.json", "chapter7-cpu-hour.json"])
def table(request: pytest.FixtureRequest) -> dict:
    return json.loads((RESULTS / request.param).read_text())


def test_an_hour_on_two_cores_finds_motion() -> None:
    """The recipe `cpu`, trained for no more than an hour on a CPU, gets 0.7 of the way from random to the oracle."""
    table = json.loads((RESULTS / "chapter7-cpu-hour.json").read_text())
    assert table["metrics"]["motion_retrieval/way_to_oracle_best"] >= 0.7
    assert table["device"].startswith("CPU")
    for run in table["runs"]["best"]:
        assert run["recipe"]["training"]["minutes"] <= 60
        assert run["recipe"]["model"]["motion_layers"] > 0


def test_the_row_as_written_is_the_loss_of_the_thesis(table: dict) -> None:
    for run in table["runs"]["written"]:
        assert run["recipe"]["model"]["motion_layers"] == 0
        prediction = run["recipe"]["objective"]["prediction"]
        assert (prediction["similarity"], prediction["negatives"], prediction["targets"]) == ("dot", "all", "states")
        assert prediction["temperature"] == 1


def test_means_are_those_of_the_runs(table: dict) -> None:
    for name in ("best", "written"):
        values = [run["metrics"]["motion_retrieval/way_to_oracle_motion"] for run in table["runs"][name]]
        assert table["metrics"][f"motion_retrieval/way_to_oracle_{name}"] == pytest.approx(sum(values) / len(values))
        assert table["metrics"][f"motion_retrieval/way_to_oracle_{name}/seeds"] == len(values)
