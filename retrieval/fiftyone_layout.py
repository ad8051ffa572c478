"""Clips as FiftyOne stores a dataset of videos: metadata.json names the fields, samples.json holds a document a clip.

    fo.Dataset.from_dir(dataset_dir=PATH, dataset_type=fo.types.FiftyOneDataset)

Sample: the video at ``filepath``, relative to the folder (or to ``rel_dir``) where it is not known where the videos
are; ``tags`` the split; ``motion`` and ``appearance`` vectors; text labels as Classification, other labels and the
metadata of the clip as plain fields, but that ``dataset`` is called ``dataset_name``. Where the videos are known,
``metadata`` is that of the video and ``clip`` the TemporalDetection of the frames that the clip is made of.

The documents are those of FiftyOne 1.0, which later versions migrate when they read them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kineme.retrieval.metadata import BUILT_IN, label_columns
from kineme.retrieval.vectors import SPACES, Space, Vectors

VERSION = "1.0.0"
_FIELDS, _LABELS = "fiftyone.core.fields", "fiftyone.core.labels"
_PLAIN = {pa.string(): "StringField", pa.float64(): "FloatField", pa.int64(): "IntField", pa.bool_(): "BooleanField"}
_RENAMED = {"dataset": "dataset_name"}
# What a field of a sample cannot be called: these are attributes and methods of FiftyOne's own.
_RESERVED = (
    *("id", "pk", "filepath", "tags", "metadata", "media_type", "media_reference", "frames", "support", "objects"),
    *("created_at", "last_modified_at", "dataset", "dataset_id", "in_dataset", "in_db", "filename", "field_names"),
    *("clear_field", "collection_name", "copy", "delete", "merge", "modify", "reload", "save", "update", "validate"),
    *("add_field", "add_labels", "clean", "get_field", "has_field", "set_field", "iter_fields", "from_dict", "to_dict"),
)


class VideoFacts(NamedTuple):
    """What a file says of its video: frames per second, number of frames, seconds, pixels."""

    frame_rate: float
    frames: int
    duration_s: float
    height: int
    width: int


@dataclass(frozen=True)
class Videos:
    """Where videos are.

    Attributes:
        root: the folder that sources are relative to.
        facts: of the video at a path. Raises RetrievalError: there is none that can be read.
    """

    root: Path
    facts: Callable[[Path], VideoFacts]


class Block(NamedTuple):
    """Some clips: a table of the metadata, each label a column, and (N, D) float32 of each space, row by row."""

    table: pa.Table
    vectors: Mapping[Space, Vectors]


def write_fiftyone(
    folder: Path, description: Mapping[str, Any], columns: pa.Schema, blocks: Iterable[Block], videos: Videos | None
) -> None:
    """Write metadata.json and samples.json.

    Args:
        folder: where; exists.
        description: of the export; its "labels" are {column: label}. It is kept in the dataset's ``info``.
        columns: of the tables of all blocks.
        blocks: the clips.
        videos: where they are; None if that is not known.

    Raises:
        RetrievalError: a video is not where it should be.
    """
    layout = _Layout(columns, description["labels"], videos)
    dataset = {
        "name": "kineme",
        "version": VERSION,
        "media_type": "video",
        # MongoDB takes no dots in names, so here the labels are told by their fields.
        "info": {"kineme": {**description, "labels": layout.labels}},
        "sample_fields": layout.sample_fields(),
        "frame_fields": _frame_fields(),
    }
    (folder / "metadata.json").write_text(json.dumps(dataset, ensure_ascii=False) + "\n", encoding="utf-8")
    with (folder / "samples.json").open("w", encoding="utf-8") as file:
        file.write('{"samples": [')
        between = "\n"
        for block in blocks:
            for number, row in enumerate(block.table.to_pylist()):
                sample = layout.sample(row, {space: block.vectors[space][number] for space in SPACES})
                file.write(between + json.dumps(sample, ensure_ascii=False))
                between = ",\n"
        file.write("\n]}\n")


class _Layout:
    """Which fields the samples have, and the document of a clip. ``labels`` is {field: label}."""

    def __init__(self, columns: pa.Schema, labels: Mapping[str, str], videos: Videos | None) -> None:
        built_in = {name: _RENAMED.get(name, name) for name in BUILT_IN.names}
        taken = (*built_in.values(), *SPACES, "clip", *_RESERVED)
        self.labels = label_columns(labels.values(), taken, _spelt)
        fields = {label: field for field, label in self.labels.items()}
        self._columns = columns
        self._plain = dict(built_in)
        self._classes: dict[str, str] = {}
        for column, label in labels.items():
            text = columns.field(column).type == pa.string()
            (self._classes if text else self._plain)[column] = fields[label]
        self._root = None if videos is None else videos.root.resolve()
        self._facts = None if videos is None else cache(videos.facts)

    def sample_fields(self) -> list[dict[str, Any]]:
        """How metadata.json describes the fields."""
        classification = [*_label_fields(), _field("logits", "VectorField")]
        detection = [*_label_fields(), _field("support", "FrameSupportField", subfield="IntField")]
        fields = [
            *_document_fields(),
            _field("filepath", "StringField"),
            _field("tags", "ListField", subfield="StringField"),
            _field("metadata", "EmbeddedDocumentField", "fiftyone.core.metadata.VideoMetadata", _video_fields()),
            _field("_media_type", "StringField"),
            _field("_rand", "FloatField"),
            *(_field(space, "VectorField") for space in SPACES),
            *(_field(name, _PLAIN[self._columns.field(column).type]) for column, name in self._plain.items()),
            *(
                _field(name, "EmbeddedDocumentField", f"{_LABELS}.Classification", classification)
                for name in self._classes.values()
            ),
        ]
        if self._facts is not None:
            fields.append(_field("clip", "EmbeddedDocumentField", f"{_LABELS}.TemporalDetection", detection))
        return fields

    def sample(self, row: Mapping[str, Any], vectors: Mapping[Space, Vectors]) -> dict[str, Any]:
        """The document of one clip."""
        key = row["key"]
        document = {
            "_id": _object_id(key),
            "_media_type": "video",
            "_rand": int(hashlib.sha256(key.encode()).hexdigest()[-8:], 16) / 16**8,
            "filepath": row["source"],
            "tags": [row["split"]] if row["split"] else [],
            "metadata": None,
        }
        if self._root is not None and self._facts is not None:
            path = self._root / row["source"]
            facts = self._facts(path)
            document["filepath"] = str(path)
            document["metadata"] = {
                "_cls": "VideoMetadata",
                "frame_width": facts.width,
                "frame_height": facts.height,
                "frame_rate": facts.frame_rate,
                "total_frame_count": facts.frames,
                "duration": facts.duration_s,
            }
            frames = frame_support(row["start_s"], row["end_s"], facts)
            document["clip"] = _label("TemporalDetection", key, "clip", label=key, support=frames)
        for column, name in self._plain.items():
            document[name] = row[column]
        for column, name in self._classes.items():
            value = row[column]
            document[name] = None if value is None else _label("Classification", key, name, label=value)
        return document | {space: _vector(vectors[space]) for space in SPACES}


def frame_support(start_s: float, end_s: float, facts: VideoFacts) -> list[int]:
    """First and last frame, counted from 1, that are shown in the half-open span of ``start_s`` to ``end_s``."""
    rounding = 1e-3  # of a frame: spans are stored rounded
    first = min(math.floor(start_s * facts.frame_rate + rounding) + 1, max(facts.frames, 1))
    return [first, max(first, min(math.ceil(end_s * facts.frame_rate - rounding), facts.frames))]


def _spelt(label: str) -> str:
    """A label's name as FiftyOne and MongoDB take it: no dots, no dollars, no _ at the beginning."""
    return re.sub(r"\W", "_", label).lstrip("_") or "label"


def _label(cls: str, key: str, field: str, **content: Any) -> dict[str, Any]:
    return {"_id": _object_id(f"{key} {field}"), "_cls": cls, "tags": [], **content}


def _object_id(text: str) -> dict[str, str]:
    """Always the same for the same text, so that two exports of an index are equal."""
    return {"$oid": hashlib.sha256(text.encode()).hexdigest()[:24]}


def _vector(vector: Vectors) -> dict[str, Any]:
    packed = io.BytesIO()
    np.save(packed, vector, allow_pickle=False)
    data = base64.b64encode(zlib.compress(packed.getvalue(), 1)).decode("ascii")
    return {"$binary": {"base64": data, "subType": "00"}}


def _field(
    name: str,
    kind: str,
    document: str | None = None,
    fields: Iterable[dict[str, Any]] = (),
    *,
    subfield: str | None = None,
    read_only: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "ftype": f"{_FIELDS}.{kind}",
        "embedded_doc_type": document,
        "subfield": None if subfield is None else f"{_FIELDS}.{subfield}",
        "fields": list(fields),
        "db_field": "_id" if name == "id" else name,
        "description": None,
        "info": None,
        "read_only": read_only,
        "created_at": None,
    }


def _document_fields() -> list[dict[str, Any]]:
    times = [_field(name, "DateTimeField", read_only=True) for name in ("created_at", "last_modified_at")]
    return [_field("id", "ObjectIdField"), _field("_dataset_id", "ObjectIdField"), *times]


def _frame_fields() -> list[dict[str, Any]]:
    return [*_document_fields(), _field("_sample_id", "ObjectIdField"), _field("frame_number", "FrameNumberField")]


def _label_fields() -> list[dict[str, Any]]:
    return [
        _field("id", "ObjectIdField"),
        _field("tags", "ListField", subfield="StringField"),
        _field("label", "StringField"),
        _field("confidence", "FloatField"),
    ]


def _video_fields() -> list[dict[str, Any]]:
    whole = ("size_bytes", "frame_width", "frame_height", "total_frame_count")
    return [
        *(_field(name, "IntField") for name in whole),
        *(_field(name, "FloatField") for name in ("frame_rate", "duration")),
        *(_field(name, "StringField") for name in ("mime_type", "encoding_str")),
    ]
