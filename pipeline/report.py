"""The demo's report: one HTML file with its figures, pictures and curves inside."""

from __future__ import annotations

import base64
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
