"""The labels of clips, as training and protocols ask for them."""

from __future__ import annotations

from kineme.pipeline.errors import RunError
from kineme.shards.sample import ClipRecord
from kineme.shards.split import label_text


def label_of(record: ClipRecord, name: str) -> str:
    """A label of a clip as text.

    Raises:
        RunError: the clip lacks it.
    """
    if name not in record.labels:
        known = ", ".join(sorted(record.labels)) or "none"
        raise RunError(f"clip {record.key} of {record.source} has no label {name!r}; choose one that it has: {known}")
    return label_text(record.labels[name])
