"""The training report's curves: every quantity of a run's metrics.csv over the epochs, in one picture."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kineme.pipeline.pictures import figure_picture, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

_MOST_A_ROW = 5
_PANEL = (2.7, 2.1)
_FEW_POINTS = 12
# Shown only where they say something: a run of one stage without steps left out has nothing to show.
_USUALLY_CONSTANT = ("nonfinite_steps", "stage")
_LINEAR = ("beta", "stage", "teacher_forcing", "validation/")


@dataclass(frozen=True)
class Curves:
    """What was logged: by quantity the places, epochs or else steps, and the values."""

    by_epoch: bool
    points: Mapping[str, Sequence[tuple[float, float]]]

    @property
    def end(self) -> float:
        """The last place where something was logged."""
        return max(place for points in self.points.values() for place, _ in points)


def draw_curves(metrics: Mapping[str, Path], picture: Path) -> None:
    """Draw metrics.csv files, rows of panels a run and a panel a quantity; nothing where nothing is logged yet.

    Args:
        metrics: metrics.csv of each run, by the run's name; it stands above the panels where there are several.
        picture: file to write, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    runs = {name: curves for name, path in metrics.items() if (curves := read_curves(path)).points}
    if runs:
        save_picture(_draw(runs), picture)


def read_curves(metrics: Path) -> Curves:
    """The quantities of a metrics.csv, the loss first and then by name; none of a file that is not there yet.

    Steps that a killed run did twice count as they were done last.
    """
    rows: list[dict[str, str]] = []
    if metrics.is_file():
        with metrics.open(newline="") as file:
            # A line that a killed run left half-written has no value in its last columns, or too many.
            rows = [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
    # Older versions logged whole epochs, the same one for many steps.
    by_epoch = len({row["epoch"] for row in rows}) >= len({row["step"] for row in rows})
    points: dict[str, dict[float, float]] = defaultdict(dict)
    for row in rows:
        for name, value in row.items():
            if name not in {"step", "epoch"} and value:
                points[name][float(row["epoch" if by_epoch else "step"])] = float(value)
    for name in _USUALLY_CONSTANT:
        if len(set(points.get(name, {}).values())) == 1:
            del points[name]
    names = sorted(points, key=lambda name: (name != "loss", name))
    return Curves(by_epoch, {name: sorted(points[name].items()) for name in names})


def _draw(runs: Mapping[str, Curves]) -> Image.Image:
    from matplotlib.figure import Figure

    width = max(_width(len(curves.points)) for curves in runs.values())
    heights = [-(-len(curves.points) // width) for curves in runs.values()]
    rows = sum(heights)
    inches = _PANEL[0] * width, _PANEL[1] * rows
    figure = Figure(figsize=inches)
    # Room for labels in inches: a layout that looks for it draws everything twice.
    figure.subplots_adjust(0.5 / inches[0], 0.45 / inches[1], 1 - 0.1 / inches[0], 1 - 0.3 / inches[1], 0.32, 0.42)
    axes = figure.subplots(rows, width, squeeze=False)
    for row, (name, curves), height in zip(_starts(heights), runs.items(), heights, strict=True):
        panels = axes[row : row + height].flatten()
        for panel in panels[len(curves.points) :]:
            panel.axis("off")
        for panel, (quantity, points) in zip(panels, curves.points.items(), strict=False):
            _curve(panel, quantity, points)
            panel.set_xlim(0, 1.02 * curves.end)
            panel.set_title(f"{name}: {quantity}" if len(runs) > 1 else quantity, fontsize=9)
        for panel in panels[max(0, len(curves.points) - width) : len(curves.points)]:
            panel.set_xlabel("epochs" if curves.by_epoch else "steps", fontsize=8)
    return figure_picture(figure)


def _width(panels: int) -> int:
    """Panels a row, so that no row is much emptier than the others."""
    return -(-panels // -(-panels // _MOST_A_ROW))


def _starts(heights: Sequence[int]) -> list[int]:
    return [sum(heights[:run]) for run in range(len(heights))]


def _curve(panel: Axes, quantity: str, points: Sequence[tuple[float, float]]) -> None:
    places, values = zip(*points, strict=True)
    panel.plot(places, values, linewidth=1, marker="o" if len(points) <= _FEW_POINTS else "", markersize=3)
    panel.grid(alpha=0.3)
    panel.ticklabel_format(axis="y", scilimits=(-3, 4))
    panel.yaxis.get_offset_text().set_fontsize(7)
    panel.locator_params(nbins=6)
    if not quantity.startswith(_LINEAR) and min(values) > 0 and max(values) > 5 * min(values):
        panel.set_yscale("log")
    panel.tick_params(which="both", labelsize=7)
