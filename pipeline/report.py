"""The demo's report: one HTML file with its figures, pictures and curves inside."""

from __future__ import annotations

import base64
import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment

from kineme.pipeline.run import environment
from kineme.shards.manifest import write_atomically

PICTURES = {
    "query-motion": "A query by motion (on the coloured ground) and what it finds: clips that move alike.",
    "query-appearance": "The same query by appearance: clips that show the same digits.",
    "prediction": "Frames drawn by the predictor below the true ones.",
    "swap": "The content of the first clip with the motion of the second.",
    "curves": "The parts of both objectives over the training.",
}


@dataclass(frozen=True)
class Figure:
    """One measured figure beside its baselines; ``goal`` is the least value that counts as reached."""

    name: str
    title: str
    value: float
    baselines: Mapping[str, float]
    goal: float | None
    unit: str

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None where there is none."""
        return None if self.goal is None else self.value >= self.goal

    def show(self, value: float) -> str:
        """A value with the unit and the digits it deserves."""
        return f"{value:.2f} {self.unit}" if self.unit else f"{value:.3f}"

    def line(self) -> str:
        """The figure as one line of text."""
        beside = ", ".join(f"{name.replace('_', ' ')} {self.show(value)}" for name, value in self.baselines.items())
        goal = "" if self.goal is None else f"; goal {self.show(self.goal)}: {'reached' if self.met else 'MISSED'}"
        return f"{self.title}: {self.show(self.value)} ({beside}{goal})"


def write_report(out: Path, figures: list[Figure], seconds: Mapping[str, float]) -> None:
    """Write report.html, with the pictures of ``out``/pictures inside it."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("kineme.pipeline").joinpath("templates/report.html").read_text()
    )
    pictures = [
        (caption, base64.b64encode((out / "pictures" / f"{name}.png").read_bytes()).decode())
        for name, caption in PICTURES.items()
    ]
    page = template.render(figures=figures, pictures=pictures, seconds=seconds, surroundings=environment())
    write_atomically(out / "report.html", page.encode())


def training_curves(metrics: Mapping[str, Path], picture: Path) -> None:
    """Draw the columns of metrics.csv files over the steps: a row of panels a run, one panel a quantity."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs = {name: _columns(path) for name, path in metrics.items()}
    widest = max(len(columns) for columns in runs.values())
    figure, axes = pyplot.subplots(len(runs), widest, figsize=(2.6 * widest, 2.2 * len(runs)), squeeze=False)
    for row, (name, columns) in zip(axes, runs.items(), strict=True):
        for panel in row[len(columns) :]:
            panel.axis("off")
        for panel, (quantity, points) in zip(row, columns.items(), strict=False):
            panel.plot(*zip(*points, strict=True), linewidth=1)
            panel.set_title(f"{name}: {quantity}", fontsize=8)
            panel.tick_params(labelsize=7)
            panel.grid(alpha=0.3)
            if min(value for _, value in points) > 0 and quantity not in {"beta", "teacher_forcing"}:
                panel.set_yscale("log")
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)


def _columns(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Each quantity of a metrics.csv with its (step, value) points, the loss first."""
    columns: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in {"step", "epoch"} and value:
                    columns[name].append((int(row["step"]), float(value)))
    return dict(sorted(columns.items(), key=lambda item: (item[0] != "loss", item[0])))
