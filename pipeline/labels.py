"""The labels of clips, as training and protocols ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kineme.pipeline.errors import RunError
from kineme.shards.records import read_records
from kineme.shards.sample import ClipRecord, Label
from kineme.shards.split import SplitSelector, label_text


def label_of(record: ClipRecord, name: str) -> str:
    """A label of a clip as text.

    Raises:
        RunError: the clip lacks it.
    """
    if name not in record.labels:
        mend = f"choose one that it has: {', '.join(sorted(record.labels))}"
        if not record.labels:
            mend = "it has none at all; ingest with the --dataset that gives them (kineme datasets lists all)"
        raise RunError(f"clip {record.key} of {record.source} has no label {name!r}; {mend}")
    return label_text(record.labels[name])


def label_line(labels: Mapping[str, Label]) -> str:
    """Labels as one line that breaks between labels, never inside one."""
    return ", ".join(f"{name} {value}".replace(" ", "\N{NO-BREAK SPACE}") for name, value in labels.items())


def label_values(shards: Path, split: str | None, name: str) -> list[str]:
    """All values of a label in a split of shards, as text and so sorted.

    Raises:
        RunError: a clip lacks it, or the split has no clips.
        DataError: the shards cannot be read.
    """
    selector = SplitSelector.parse(split)
    values = sorted({label_of(record, name) for record in read_records(shards) if selector.matches(record)})
    if not values:
        raise RunError(f"{shards}: no clips of split {split}; kineme inspect lists the splits and labels there are")
    return values


def value_number(record: ClipRecord, name: str, values: Sequence[str]) -> int:
    """The place of a clip's label among the values that a network was trained on.

    Raises:
        RunError: the clip lacks the label, or its value is none of them.
    """
    value = label_of(record, name)
    if value not in values:
        raise RunError(
            f"clip {record.key} has {name} {value!r}, none of the {len(values)} classes of the training: "
            "leave its clips out with a split, or train anew on shards that hold it"
        )
    return values.index(value)
