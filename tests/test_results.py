"""The results page: what was measured, what was asked for, and that the page in the repository is the current one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kineme.pipeline.results import render

ROOT = Path(__file__).parents[1]
SECTION = {
    "title": "A section",
    "about": "What it is about.",
    "result": "measured.json",
    "data": "some data",
    "command": "kineme evaluate",
    "baselines": ["chance", "copy_last"],
}
RESULT = {
    "device": "a processor",
    "date": "2026-01-02",
    "metrics": {"good": 0.91234, "bad": 0.5, "good/chance": 0.1, "leak": 0.3},
}


def page(folder: Path, figure: dict[str, object], result: dict[str, object] | None = RESULT) -> list[str]:
    """The rendered lines of one section with one figure."""
    (folder / "results").mkdir()
    (folder / "figures.yaml").write_text(yaml.safe_dump([{**SECTION, "figures": [figure]}]))
    if result is not None:
        (folder / "results" / "measured.json").write_text(json.dumps(result))
    return render(folder).splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"metric": "good", "goal": 0.9}, ["0.912", "", "", ">= 0.9", "reached"]),
        ({"metric": "good", "goal": 0.92, "digits": 1}, ["0.9", "", "", ">= 0.92", "**missed**"]),
        ({"metric": "leak", "goal": 0.3, "is": "<="}, ["0.300", "", "", "<= 0.3", "reached"]),
        ({"metric": "leak", "goal": 0.22, "is": "<="}, ["0.300", "", "", "<= 0.22", "**missed**"]),
        (
            {"metric": "good", "goal": 3, "of": "good/chance", "chance": "good/chance"},
            ["0.912", "0.100", "", ">= 3 x chance", "reached"],
        ),
        ({"metric": "bad", "goal": 6, "of": "good/chance"}, ["0.500", "", "", ">= 6 x chance", "**missed**"]),
        ({"metric": "good"}, ["0.912", "", "", "", ""]),
        ({"metric": "absent", "goal": 1}, ["not measured", "", "", ">= 1", ""]),
        ({"published": 24.8}, ["not measured", "", "", "", ""]),
    ],
)
def test_a_figure(asked: dict[str, object], expected: list[str], tmp_path: Path) -> None:
    lines = page(tmp_path, {"title": "a figure", **asked})
    assert cells(lines[-1]) == ["a figure", str(asked.get("published", "")), *expected]
    head = next(line for line in lines if line.startswith("| figure"))
    assert cells(head) == ["figure", "published", "obtained", "chance", "copy last", "goal", ""]
    assert len(cells(lines[-1])) == len(cells(head))
    assert "Data: some data. Device: a processor. Date: 2026-01-02. JSON: `measured.json`." in lines
    assert {"## A section", "What it is about.", "Command: `kineme evaluate`"} <= set(lines)


def test_the_device_of_the_training(tmp_path: Path) -> None:
    lines = page(
        tmp_path, {"title": "a figure"}, {**RESULT, "training": {"command": "kineme train", "device": "a GPU"}}
    )
    assert any("Device: a processor, trained on a GPU. Date:" in line for line in lines)


def test_nothing_is_reached_where_nothing_was_measured(tmp_path: Path) -> None:
    lines = page(tmp_path, {"title": "a figure", "metric": "good", "goal": 3, "of": "good/chance"}, result=None)
    assert cells(lines[-1]) == ["a figure", "", "not measured", "", "", ">= 3 x chance", ""]
    assert "Not measured. Command: `kineme evaluate`" in lines
    assert not any(line.startswith("Data:") for line in lines)


def test_the_page_in_the_repository_is_current() -> None:
    assert (ROOT / "docs" / "results.md").read_text() == render(ROOT / "benchmarks"), "run make results"
