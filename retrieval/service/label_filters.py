"""Filters that a page offers for the labels of a library, and what is chosen of them as SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from kineme.retrieval.index import Index
from kineme.retrieval.metadata import Label
from kineme.retrieval.service.problems import ProblemError

MOST_VALUES = 50
"""A label with more values is no choice of one in a list; SQL can ask for it."""


@dataclass(frozen=True)
class Option:
    """A value of a label: as the page's address writes it (JSON), as people read it, and how many clips have it."""

    value: str
    text: str
    count: int


@dataclass(frozen=True)
class LabelFilter:
    """A label that can be chosen by: its name, the column it stands in, its values in order."""

    label: str
    column: str
    options: tuple[Option, ...]


def label_filters(index: Index) -> list[LabelFilter]:
    """A filter for each label that has at least 2 and at most 50 values."""
    filters = []
    for column, label in index.label_columns.items():
        counted = pc.value_counts(index.table.column(column).drop_null()).to_pylist()
        if not 2 <= len(counted) <= MOST_VALUES:
            continue
        numbers = {row["values"]: row["counts"] for row in counted}
        options = (Option(json.dumps(value), as_text(value), numbers[value]) for value in sorted(numbers))
        filters.append(LabelFilter(label, column, tuple(options)))
    return filters


def as_text(value: Label) -> str:
    """A value as people read it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)


def as_sql(chosen: Mapping[str, str], where: str, columns: Iterable[str]) -> str:
    """One expression that asks for all that is chosen.

    Args:
        chosen: column -> its value, as JSON.
        where: SQL of the reader's own, or "".
        columns: those there are.

    Raises:
        ProblemError: no such column, or a value that is no text, number or truth value.
    """
    known = set(columns)
    parts = [f"({where}\n)"] if where.strip() and chosen else [where] if where.strip() else []
    for column, value in chosen.items():
        if column not in known:
            raise ProblemError(422, f"is.{column[:100]}: the index has no such label")
        quoted = column.replace('"', '""')
        parts.append(f'"{quoted}" = {_literal(column, value)}')
    return " AND ".join(parts)


def _literal(column: str, value: str) -> str:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    match found:
        case str():
            quoted = found.replace("'", "''")
            return f"'{quoted}'"
        case bool() | int() | float():
            return repr(found).lower()
    raise ProblemError(422, f"is.{column[:100]}: {value[:100]!r} is no JSON text, number or truth value")
