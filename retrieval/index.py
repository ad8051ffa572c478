"""The index folder: vectors, FAISS files, metadata, previews and the encoder, whole in one place.

    index.json          schema, count, dimensions and metric of each space, encoder, data; written last
    keys.json, motion.npy, appearance.npy       the vectors as they were encoded (vectors.py)
    motion.faiss, appearance.faiss              IndexIDMap2 over a flat index; ids are row numbers
    metadata.parquet    one row a clip: what METADATA lists, then each label as a column of its own
    previews.parquet    a small film strip of every clip (previews.py)
    encoder/            the files the encoder needs

Copy the folder to another machine and query it there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kineme.retrieval.atomic import built_beside, replacing
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import METRICS, Metric
from kineme.retrieval.filters import MetadataFilter
from kineme.retrieval.metadata import ClipMetadata, StoredClip, from_row, label_columns, to_table
from kineme.retrieval.previews import read_previews, write_previews
from kineme.retrieval.vectors import SPACES, ClipVectors, Frames, Space, Vectors

SCHEMA = 1
KIND = "kineme index"
INFO_FILE = "index.json"
METADATA_FILE = "metadata.parquet"
PREVIEWS_FILE = "previews.parquet"
ENCODER_FOLDER = "encoder"


@dataclass(frozen=True)
class IndexInfo:
    """What index.json says.

    Args:
        count: clips N.
        dims: length of the vectors of each space.
        metrics: "cosine" or "l2" for each space.
        encoder: name of the encoder, for people.
        data: where the clips came from, for people.
        label_columns: metadata column -> label name.
    """

    count: int
    dims: Mapping[str, int]
    metrics: Mapping[str, Metric]
    encoder: str
    data: str
    label_columns: Mapping[str, str]
    kind: str = KIND
    schema: int = SCHEMA


@dataclass(frozen=True)
class Index:
    """An open index folder. Nothing in it is changed by searching; vectors stay on disk until they are used."""

    folder: Path
    info: IndexInfo
    vectors: ClipVectors
    metadata: pa.Table
    faiss: Mapping[Space, Any]

    @property
    def count(self) -> int:
        """Clips in the index."""
        return self.info.count

    @property
    def encoder_folder(self) -> Path:
        """The files of the encoder that made the vectors."""
        return self.folder / ENCODER_FOLDER

    @cached_property
    def filter(self) -> MetadataFilter:
        """SQL filters over the metadata."""
        return MetadataFilter(self.metadata)

    def clip(self, row: int) -> StoredClip:
        """The metadata of one row."""
        return from_row(self.metadata.slice(row, 1).to_pylist()[0], self.info.label_columns)

    def vector(self, key: str, by: Space) -> Vectors:
        """The (D,) vector of a clip of the index, as it was encoded.

        Raises:
            RetrievalError: no such key.
        """
        if key not in self.vectors.rows:
            raise RetrievalError(f"{key!r} is no key of the index {self.folder}; query --json prints keys")
        return np.array(self.vectors.space(by)[self.vectors.rows[key]])

    def previews(self, keys: Sequence[str]) -> dict[str, Frames]:
        """Small film strips (T <= 8, H, W, 3) uint8 of clips of the index, longer side at most 64 px."""
        return read_previews(self.folder / PREVIEWS_FILE, keys)


def build_index(
    folder: Path,
    vectors: ClipVectors,
    clips: Sequence[ClipMetadata],
    *,
    encoder: str,
    encoder_files: Mapping[str, Path],
    data: str,
    previews: Iterable[tuple[str, Frames]],
    metrics: Mapping[Space, Metric] | None = None,
    overwrite: bool = False,
) -> Index:
    """Build an index folder beside its final place and rename it there whole.

    Args:
        folder: where it will stand; must not exist, be empty, or (with ``overwrite``) hold an index, which stays in
            place until the new one is complete.
        vectors: of N clips.
        clips: their metadata, in the same order.
        encoder: name of the encoder.
        encoder_files: name inside encoder/ (may have folders) -> file to copy.
        data: where the clips came from.
        previews: (key, frames (T, H, W, 3) uint8) of every clip once, in any order; read one at a time.
        metrics: of each space; "cosine" where not given.
        overwrite: replace an index that is there.

    Raises:
        RetrievalError: the folder is taken, the parts disagree, or a name would leave encoder/.
    """
    check_free(folder, overwrite=overwrite)
    if not vectors.keys:
        raise RetrievalError("no clips to index: 0 vectors; check the shards and the split")
    if [clip.key for clip in clips] != vectors.keys:
        raise RetrievalError(f"{len(clips)} clips do not match {len(vectors.keys)} vectors key by key; encode again")
    metric_of: dict[str, Metric] = {space: (metrics or {}).get(space, "cosine") for space in SPACES}
    for metric in metric_of.values():
        if metric not in METRICS:
            raise RetrievalError(f"metric {metric!r}: one of {', '.join(METRICS)} expected")
    columns = label_columns(clips)
    dims: dict[str, int] = {space: vectors.space(space).shape[1] for space in SPACES}
    info = IndexInfo(len(clips), dims, metric_of, encoder, data, columns)

    with built_beside(folder) as partial:
        vectors.save(partial)
        for space in SPACES:
            faiss.write_index(_faiss_index(vectors.space(space), metric_of[space]), str(partial / f"{space}.faiss"))
        pq.write_table(to_table(clips, columns), partial / METADATA_FILE)
        _copy_encoder(encoder_files, partial / ENCODER_FOLDER)
        _check_previews(write_previews(partial / PREVIEWS_FILE, previews), vectors.keys)
        with replacing(partial / INFO_FILE) as file:
            file.write_text(json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return open_index(folder)


def open_index(folder: Path) -> Index:
    """Open an index folder.

    Raises:
        RetrievalError: not an index, another schema, a piece missing, or pieces that disagree in size.
    """
    info = _read_info(folder)
    for name in (METADATA_FILE, PREVIEWS_FILE, ENCODER_FOLDER, *(f"{space}.faiss" for space in SPACES)):
        if not (folder / name).exists():
            raise RetrievalError(f"{folder}: {name} is missing from this index; copy it again or build it again")
    vectors = ClipVectors.load(folder)
    try:
        metadata = pq.read_table(folder / METADATA_FILE)
        searchers = {space: faiss.read_index(str(folder / f"{space}.faiss")) for space in SPACES}
    except (pa.ArrowException, RuntimeError) as error:
        raise RetrievalError(f"{folder}: a file is unreadable ({error}); copy or build the index again") from None
    _check_sizes(folder, info, vectors, metadata, searchers)
    return Index(folder, info, vectors, metadata, searchers)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Say now, before hours of encoding, whether an index can be built at ``folder``.

    Raises:
        RetrievalError: it is taken by something that is not an index, or by an index and ``overwrite`` is false.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not _is_index(folder):
        raise RetrievalError(f"{folder} exists and is not an index: it is left alone; name another folder")
    if not overwrite:
        raise RetrievalError(f"{folder} already holds an index; add --force to replace it, or name another folder")


def normalised(vectors: Vectors) -> Vectors:
    """Rows of (N, D) at length 1; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit


def _faiss_index(vectors: Vectors, metric: Metric) -> Any:
    flat = faiss.IndexFlatIP(vectors.shape[1]) if metric == "cosine" else faiss.IndexFlatL2(vectors.shape[1])
    index = faiss.IndexIDMap2(flat)
    rows = normalised(vectors) if metric == "cosine" else np.ascontiguousarray(vectors)
    index.add_with_ids(rows, np.arange(len(rows), dtype=np.int64))
    return index


def _copy_encoder(files: Mapping[str, Path], folder: Path) -> None:
    folder.mkdir()
    for name, source in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RetrievalError(f"encoder file name {name!r} leaves the encoder folder; use a relative name")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)


def _check_previews(written: list[str], keys: list[str]) -> None:
    if sorted(written) != sorted(keys):
        raise RetrievalError(
            f"{len(written)} previews for {len(keys)} clips: one of each expected; read the shards again"
        )


def _is_index(folder: Path) -> bool:
    try:
        _read_info(folder, any_schema=True)
    except RetrievalError:
        return False
    return True


def _read_info(folder: Path, *, any_schema: bool = False) -> IndexInfo:
    path = folder / INFO_FILE
    if not path.is_file():
        raise RetrievalError(f"{folder} is not an index: it has no {INFO_FILE}; make one with: kineme index")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RetrievalError(f"{path}: not JSON ({error}); copy or build the index again") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise RetrievalError(f"{path}: not written by kineme index; name an index folder")
    if content.get("schema") != SCHEMA and not any_schema:
        raise RetrievalError(
            f"{path}: schema {content.get('schema')!r}, this version reads {SCHEMA}; build the index again"
        )
    try:
        return IndexInfo(**content)
    except TypeError as error:
        if any_schema:
            return IndexInfo(0, {}, {}, "", "", {})
        raise RetrievalError(f"{path}: fields do not fit schema {SCHEMA} ({error}); build the index again") from None


def _check_sizes(folder: Path, info: IndexInfo, vectors: ClipVectors, metadata: pa.Table, searchers: Any) -> None:
    if vectors.keys != metadata.column("key").to_pylist():
        raise RetrievalError(f"{folder}: keys of vectors and metadata differ; copy or build the index again")
    for space in SPACES:
        expected = (info.count, info.dims[space])
        found = {
            f"{space}.npy": vectors.space(space).shape,
            f"{space}.faiss": (searchers[space].ntotal, searchers[space].d),
        }
        for name, shape in found.items():
            if shape != expected:
                raise RetrievalError(f"{folder}: {name} is {shape}, {INFO_FILE} says {expected}; build the index again")
