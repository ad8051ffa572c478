"""What the page shows of an answer: the query, its hits with the labels they share with it, the way to ask again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from kineme.retrieval.index import Index
from kineme.retrieval.metadata import Label, StoredClip
from kineme.retrieval.service.asking import Answer, clip_address
from kineme.retrieval.service.forms import Fields
from kineme.retrieval.service.label_filters import LabelFilter, as_sql, as_text
from kineme.retrieval.service.questions import Question

HITS = (12, 24, 48)
"""Choices of how many hits are shown."""
_IS = "is."
_MOST_LABELS = 6
_MOST_AGREEMENTS = 6
_TITLES = {
    "motion": "They move like it, whatever they show",
    "appearance": "They look like it, however they move",
}


@dataclass(frozen=True)
class PageQuestion:
    """What stands in the page's form, and in its address.

    Attributes:
        by: "motion", "appearance" or "both".
        weight: of motion.
        k: hits.
        where: the reader's own SQL.
        chosen: column of a label -> the JSON of its value.
        keys: clips that ask.
        looks: whose appearance is asked for.
    """

    by: str = "motion"
    weight: str = "0.5"
    k: str = str(HITS[0])
    where: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    keys: Sequence[str] = ()
    looks: str = ""

    @classmethod
    def of(cls, fields: Fields) -> PageQuestion:
        """From the fields of a form or of an address; of what comes twice, but for keys, the last counts."""
        last = {name: value[-1] if isinstance(value, list) else value for name, value in fields.items()}
        keys = fields.get("key", [])
        return cls(
            by="both" if last.get("looks") else last.get("by") or cls.by,
            weight=last.get("weight") or cls.weight,
            k=last.get("k") or cls.k,
            where=last.get("where", "").strip(),
            chosen={name.removeprefix(_IS): value for name, value in last.items() if name.startswith(_IS) and value},
            keys=[key for key in ([keys] if isinstance(keys, str) else keys) if key],
            looks=last.get("looks", ""),
        )

    def question(self, index: Index, **more: Any) -> Question:
        """As the API takes it.

        Args:
            index: whose labels are chosen by.
            more: what the form has besides: vectors, start_s, end_s.

        Raises:
            ValidationError: a field of another form or out of its range.
            ProblemError: a label that the index does not have.
        """
        return Question.model_validate(
            {
                "by": self.by,
                "weight": self.weight,
                "k": self.k,
                "where": as_sql(self.chosen, self.where, index.label_columns),
                "key": self.keys or None,
                "looks": self.looks,
                **more,
            }
        )

    def address(self, **others: str) -> str:
        """Where the page shows the answer; ``others`` instead of the clips that ask."""
        pairs = [("key", key) for key in self.keys] if not others else list(others.items())
        pairs += [("by", self.by), ("weight", self.weight), ("k", self.k), ("where", self.where)]
        pairs += [("looks", self.looks)] + [(_IS + column, value) for column, value in self.chosen.items()]
        default = PageQuestion()
        usual = {("by", default.by), ("weight", default.weight), ("k", default.k)}
        return "/?" + urlencode([pair for pair in pairs if pair[1] and pair not in usual])


def clip_view(clip: StoredClip) -> dict[str, Any]:
    """A clip of the library, to be shown."""
    labels = {name: as_text(value) for name, value in clip.labels.items()}
    text = ", ".join(f"{name} {value}" for name, value in list(labels.items())[:_MOST_LABELS])
    return {
        "key": clip.key,
        "title": clip.source,
        "text": text or clip.source,
        "labels": dict(list(labels.items())[:_MOST_LABELS]),
        "said": f"{clip.source}, {clip.start_s:.2f} to {clip.end_s:.2f} s, {text}",
        "video": clip_address(clip.key, "video"),
        "strip": clip_address(clip.key, "strip.png"),
    }


def answer_view(
    index: Index, answer: Answer, asked: PageQuestion, filters: Sequence[LabelFilter], upload: str = ""
) -> dict[str, Any]:
    """What the template of an answer needs.

    Args:
        index: that answered.
        answer: of `kineme.retrieval.service.asking.ask`.
        asked: what the page asked.
        filters: the labels that the query and its hits are compared by.
        upload: what to call a clip that came from outside; "" if there is none.
    """
    query, hits = answer["query"], answer["hits"]
    clips = index.clips([index.row_of(key) for key in asked.keys])
    shown = [{**clip_view(clip), "text": clip.key} for clip in clips]
    if upload:
        note = query["note"] or ""
        shown = [{"key": "", "title": upload, "text": note, "labels": {}, "video": query["video"]}]
    own = clips[0].labels if len(clips) == 1 else {}
    looks = clip_view(index.clip(index.row_of(asked.looks))) if asked.looks else None
    return {
        "title": _TITLES.get(answer["by"]) or _blend_title(answer["weight"], bool(looks)),
        "status": f"{_counted(len(hits), 'clip')} by {_spaces(answer['by'])}, in {1000 * answer['seconds']:.0f} ms",
        "query": {
            "clips": shown,
            "asked": list(asked.keys),
            "name": upload,
            "vectors_json": json.dumps(query["vectors"]) if upload else "",
        },
        "looks": looks,
        "agreement": _agreement(own, hits, [each.label for each in filters]),
        "spans": answer["spans"],
        "hits": [_hit_view(hit, own, asked) for hit in hits],
    }


def _hit_view(hit: Mapping[str, Any], own: Mapping[str, Label], asked: PageQuestion) -> dict[str, Any]:
    labels = [
        {"name": name, "value": as_text(value), "same": name in own and own[name] == value}
        for name, value in list(hit["labels"].items())[:_MOST_LABELS]
    ]
    text = ", ".join(f"{label['name']} {label['value']}" for label in labels)
    again = PageQuestion(asked.by, asked.weight, asked.k, asked.where, asked.chosen, [hit["key"]])
    return {**hit, "shown": labels, "said": text or hit["source"], "href": again.address()}


def _agreement(
    own: Mapping[str, Label], hits: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Of each label that the query has: in how many of the hits it is the same."""
    if not hits:
        return []
    return [
        {"label": label, "same": sum(hit["labels"].get(label) == own[label] for hit in hits), "of": len(hits)}
        for label in labels
        if label in own
    ][:_MOST_AGREEMENTS]


def _blend_title(weight: float, other_looks: bool) -> str:
    if other_looks:
        return "They move like the one and look like the other"
    return f"They move and look like it: {weight:.0%} motion, {1 - weight:.0%} looks"


def _spaces(by: str) -> str:
    return "motion and appearance" if by == "both" else by


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
