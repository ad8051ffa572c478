"""Templates of the page, filled in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader


def rendered(name: str, **context: Any) -> str:
    """The HTML of a template in templates/; what is put into it is escaped."""
    return _templates().get_template(name).render(**context)


@cache
def _templates() -> Environment:
    folder = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
