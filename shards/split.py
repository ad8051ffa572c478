"""Which clips of a shards folder are meant: those of a stored split, or those that a label picks out."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kineme.shards.errors import DataError
from kineme.shards.sample import ClipRecord, Label

_LISTED = 8


@dataclass(frozen=True)
class SplitSelector:
    """A stored split (``train``), or a label's value: ``actor=daria`` or ``actor!=daria``.

    Values are compared as text: a string is itself, every other label its JSON (``3``, ``0.5``, ``true``). A clip that
    lacks the label is on neither side.

    Attributes:
        text: what was asked for; None takes every clip.
        label: name of the label, or None for a stored split.
        value: the split, or the label's value.
        other: take the clips of every other value (``!=``).
    """

    text: str | None
    label: str | None = None
    value: str = ""
    other: bool = False

    @classmethod
    def parse(cls, text: str | None) -> SplitSelector:
        """Read a selector; text without ``=`` is the name of a stored split.

        Raises:
            DataError: no label stands before the ``=``.
        """
        if text is None or "=" not in text:
            return cls(text, None, text or "")
        name, _, value = text.partition("=")
        other = name.endswith("!")
        name = name.removesuffix("!").strip()
        if not name:
            raise DataError(f"split {text!r}: no label before the =; write a split, LABEL=VALUE or LABEL!=VALUE")
        return cls(text, name, value.strip(), other)

    def matches(self, record: ClipRecord) -> bool:
        """Whether a clip is meant."""
        return self.accepts(record.split, record.labels)

    def accepts(self, split: str, labels: Mapping[str, Label]) -> bool:
        """Whether a clip of this split and these labels is meant."""
        if self.text is None:
            return True
        if self.label is None:
            return split == self.value
        return self.label in labels and (label_text(labels[self.label]) == self.value) != self.other


def label_text(value: Label) -> str:
    """A label as a selector spells it."""
    return value if isinstance(value, str) else json.dumps(value)


class SplitTally:
    """What splits and labels there were, to say so where nothing was found."""

    def __init__(self, selector: SplitSelector) -> None:
        self._selector = selector
        self._splits: Counter[str] = Counter()
        self._values: Counter[str] = Counter()
        self._labels: set[str] = set()

    def add(self, split: str, labels: Mapping[str, Label]) -> None:
        """Count a clip. ``labels`` matter only to a selector by label."""
        self._splits[split] += 1
        name = self._selector.label
        if name is not None:
            self._labels.update(labels)
            if name in labels:
                self._values[label_text(labels[name])] += 1

    def nothing_found(self, shards: Path) -> DataError:
        """The error to raise where no clip was meant: what was asked for, what there is, the nearest of it."""
        selector = self._selector
        if selector.label is None:
            found = ", ".join(f"{count} of {name!r}" for name, count in sorted(self._splits.items())) or "none at all"
            return DataError(
                f"{shards}: no clips of split {selector.text!r} (there are: {found}); "
                "choose one with --split, or data.split in a recipe"
            )
        if not self._values:
            known = sorted(self._labels)
            return DataError(
                f"{shards}: split {selector.text!r}: no clip has a label {selector.label!r}"
                f"{_nearest(selector.label, known)}; labels are: {_list(known)}"
            )
        values = sorted(self._values)
        nearest = "" if selector.other else _nearest(selector.value, values)
        return DataError(
            f"{shards}: no clips of split {selector.text!r}{nearest}; values of {selector.label} are: {_list(values)}"
        )


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _list(words: list[str]) -> str:
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return (", ".join(words[:_LISTED]) or "none") + more
