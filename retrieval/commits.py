"""index.json, the one file that says what an index is made of: whoever replaces it has changed the index, at once.

Every other file of an index folder is written under a name of its own and never changed. A change writes new files,
brings them to the disk and then replaces index.json; what that no longer names is removed after. Whatever moment a
process dies at, index.json names a whole index: the old one or the new one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kineme.retrieval.atomic import replacing, sync
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.vectors import SPACES, Space

SCHEMA = 2
INFO_FILE = "index.json"
REPORT_FILE = "index_report.json"
# What this version writes into an index folder, and what schema 1 had there. Anything else there is somebody's own.
_FILES = ("segments/{}", "encoder-{}", "removed-{}.npy", *(f"{space}-{{}}.*.faiss" for space in SPACES))
_UNFINISHED = (".index.json.*.partial", ".index_report.json.*.partial")
_FILES_ONCE = ("encoder", "keys.json", "motion.npy", "appearance.npy", "metadata.parquet", "previews.parquet")


class SegmentEntry(BaseModel):
    """Clips that were written together: a folder below segments/, and how many rows it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    count: int


class StructureEntry(BaseModel):
    """What finds neighbours in one space without comparing all vectors, over the first ``rows`` rows of the index.

    ``kind`` is the name of a file in kinds/, ``effort`` what that kind calls nprobe or efSearch, for up to ten hits,
    and ``far_effort`` for more; for more than ``most`` hits all vectors are compared. Of ``candidates`` * k candidates
    the k nearest are found by their exact distances. ``location`` is a file of the folder, or the address of a store
    elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    location: str
    rows: int
    effort: int = 1
    far_effort: int = 1
    most: int = 100
    candidates: int = 1


class IndexInfo(BaseModel):
    """What index.json says.

    Attributes:
        count: clips, without those that were removed.
        dims: length of the vectors of each space.
        metrics: "cosine" or "l2" for each space.
        encoder: name of the encoder, for people.
        data: where the clips came from first, for people.
        generation: grows by one with every change.
        encoder_folder: where in the index the files of the encoder are.
        segments: the clips, in the order of their rows.
        removed: file of the sorted numbers of the rows that no longer count, or None.
        structures: of the spaces that have one; a space without is searched exactly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["kineme index"] = "kineme index"
    schema_: int = Field(default=SCHEMA, validation_alias="schema", serialization_alias="schema")
    count: int
    dims: Mapping[Space, int]
    metrics: Mapping[Space, Metric]
    encoder: str
    data: str
    generation: int
    encoder_folder: str
    segments: tuple[SegmentEntry, ...]
    removed: str | None = None
    structures: Mapping[Space, StructureEntry] = {}

    @property
    def rows(self) -> int:
        """Rows of all segments, those that were removed among them."""
        return sum(segment.count for segment in self.segments)


def read_info(folder: Path) -> IndexInfo:
    """What an index folder holds.

    Raises:
        RetrievalError: not an index, or one of another schema.
    """
    content = _read(folder)
    if content.get("schema") != SCHEMA:
        raise RetrievalError(f"{folder}: {_other_schema(folder, content)}")
    try:
        return IndexInfo.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RetrievalError(
            f"{folder / INFO_FILE}: {where}: {first['msg']}: it does not fit schema {SCHEMA}; build the index again"
        ) from None


def is_index(folder: Path) -> bool:
    """Whether an index of any schema stands at ``folder``."""
    try:
        _read(folder)
    except RetrievalError:
        return False
    return True


def commit(folder: Path, info: IndexInfo) -> None:
    """Make ``folder`` the index that ``info`` says, whose files are all on the disk; then remove what it does not name.

    Must be called by the holder of the folder's lock.
    """
    outdated = _schema(folder) == 1
    sync(folder)
    with replacing(folder / INFO_FILE) as partial:
        partial.write_text(info.model_dump_json(indent=2, by_alias=True) + "\n", encoding="utf-8")
    kept = {segment_folder(folder, segment.name) for segment in info.segments}
    kept |= {folder / name for name in (info.encoder_folder, info.removed) if name}
    kept |= {folder / structure.location for structure in info.structures.values()}
    remove_files(folder, "[0-9]" * 6 + "*", kept)
    for name in _FILES_ONCE if outdated else ():
        _remove(folder.glob(name))


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that died was about to put in the place of index.json, or of the report."""
    for pattern in _UNFINISHED:
        _remove(folder.glob(pattern))


def remove_files(folder: Path, name: str, kept: Collection[Path] = ()) -> None:
    """Remove the files that changes of these names (a glob pattern) wrote, but for those that are kept."""
    for pattern in _FILES:
        _remove(path for path in folder.glob(pattern.format(name)) if path not in kept)


def segment_folder(folder: Path, name: str) -> Path:
    """Where a segment is."""
    return folder / "segments" / name


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _schema(folder: Path) -> object:
    """Of the index that stands there; None where there is none."""
    try:
        return _read(folder).get("schema")
    except RetrievalError:
        return None


def _read(folder: Path) -> dict[str, Any]:
    path = folder / INFO_FILE
    if not path.is_file():
        raise RetrievalError(f"{folder} is not an index: it has no {INFO_FILE}; make one with: kineme index")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RetrievalError(f"{path}: not JSON ({error}); copy or build the index again") from None
    if not isinstance(content, dict) or content.get("kind") != IndexInfo.model_fields["kind"].default:
        raise RetrievalError(f"{path}: not written by kineme index; name an index folder")
    return content


def _other_schema(folder: Path, content: Mapping[str, Any]) -> str:
    schema = content.get("schema")
    if schema == 1:
        again = f"kineme index {folder / 'encoder'} --data {content.get('data')} --out {folder} --force"
        return f"schema 1, made by an earlier version; this one reads {SCHEMA}: build it again with: {again}"
    return f"schema {schema!r}, this version reads {SCHEMA}; take the version of kineme that made it"
