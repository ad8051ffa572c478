"""An index in formats that other programs read. An export appears whole or not at all.

    parquet     one file, a row a clip: the metadata, each label a column, motion and appearance as lists of float32
    npy         a folder: motion.npy and appearance.npy (N, D), keys.json, metadata.parquet; rows in the same order
    fiftyone    a folder as FiftyOne's FiftyOneDataset importer reads it (fiftyone_layout.py)

Vectors are as the encoder gave them. They are read and written in blocks: memory does not grow with the index. What an
export is of stands in export.json, or under `DESCRIPTION` in the metadata of the parquet file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kineme.retrieval.atomic import built_beside, replacing
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.fiftyone_layout import Block, Videos, write_fiftyone
from kineme.retrieval.index import Index
from kineme.retrieval.metadata import BUILT_IN, label_columns
from kineme.retrieval.segments import Rows, new_array
from kineme.retrieval.vectors import SPACES

Format = Literal["parquet", "npy", "fiftyone"]
FORMATS: tuple[Format, ...] = get_args(Format)
DESCRIPTION = b"kineme"
DESCRIPTION_FILE = "export.json"
_KIND = "kineme export"
_BLOCK_BYTES, _BLOCK_ROWS = 32 * 2**20, 65_536
_FILES: Mapping[Format, frozenset[str]] = {
    "npy": frozenset((DESCRIPTION_FILE, "keys.json", "metadata.parquet", *(f"{space}.npy" for space in SPACES))),
    "fiftyone": frozenset((DESCRIPTION_FILE, "metadata.json", "samples.json")),
}


@dataclass(frozen=True)
class _Part:
    """The clips of an index that are exported."""

    index: Index
    rows: Rows
    table: pa.Table
    description: Mapping[str, Any]

    def blocks(self) -> Iterator[Block]:
        """The clips some at a time, in the order of the rows."""
        size = _block_rows(sum(self.index.info.dims.values()))
        for start in range(0, len(self.rows), size):
            parts = self.index.parts(self.rows[start : start + size])
            vectors = {
                space: np.concatenate([segment.encoded(space, here) for segment, here in parts]) for space in SPACES
            }
            yield Block(self.table.slice(start, size), vectors)


def export_index(
    index: Index,
    out: Path,
    form: Format,
    *,
    where: str | None = None,
    videos: Videos | None = None,
    overwrite: bool = False,
) -> int:
    """Write an index, or a part of it, for other programs.

    Args:
        index: an open index.
        out: the file, or for npy and fiftyone the folder, to make.
        form: "parquet", "npy" or "fiftyone".
        where: boolean SQL expression over the metadata; only clips for which it is true are exported.
        videos: where the videos are and what is known of them; fiftyone alone makes use of it.
        overwrite: replace an export of the same form at ``out``, which stays what it is until the new one is complete.

    Returns:
        The number of clips.

    Raises:
        RetrievalError: ``out`` is taken, the filter is bad or keeps no clip, or a video is not where it should be.
    """
    _check_target(out, form, overwrite=overwrite)
    part = _part(index, form, where)
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        with replacing(out) as partial:
            _write_parquet(partial, part)
    else:
        with built_beside(out, replace=overwrite) as folder:
            _write_json(folder / DESCRIPTION_FILE, part.description)
            if form == "npy":
                _write_npy(folder, part)
            else:
                write_fiftyone(folder, part.description, part.table.schema, part.blocks(), videos)
    return len(part.rows)


def _part(index: Index, form: Format, where: str | None) -> _Part:
    rows = index.live_rows if where is None else index.filter.rows(where)
    if not len(rows):
        what = "holds no clips" if where is None else f"has no clip that passes the filter {where!r}"
        raise RetrievalError(f"{index.folder} {what}: there is nothing to export")
    # Vectors stand beside the labels here: a label of the name of a space has to give way.
    columns = label_columns(index.label_columns.values(), taken=(*BUILT_IN.names, *SPACES))
    table = index.table if len(rows) == index.count else index.table.take(np.searchsorted(index.live_rows, rows))
    column_of = {label: column for column, label in columns.items()}
    renamed = table.rename_columns([*BUILT_IN.names, *(column_of[label] for label in index.label_columns.values())])
    description = {
        "kind": _KIND,
        "schema": 1,
        "format": form,
        "clips": len(rows),
        "where": where,
        "encoder": index.info.encoder,
        "data": index.info.data,
        "generation": index.info.generation,
        "dims": dict(index.info.dims),
        "metrics": dict(index.info.metrics),
        "labels": columns,
    }
    return _Part(index, rows, renamed, description)


def _block_rows(dims: int) -> int:
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * dims)))


def _write_parquet(path: Path, part: _Part) -> None:
    dims = part.index.info.dims
    vectors = [pa.field(space, pa.list_(pa.float32(), dims[space]), nullable=False) for space in SPACES]
    schema = pa.schema([*part.table.schema, *vectors], {DESCRIPTION: json.dumps(part.description)})
    with pq.ParquetWriter(path, schema, use_dictionary=part.table.column_names) as writer:
        for block in part.blocks():
            lists = [pa.FixedSizeListArray.from_arrays(block.vectors[space].ravel(), dims[space]) for space in SPACES]
            table = pa.table([*block.table.columns, *lists], schema=schema)
            writer.write_table(table, row_group_size=len(table))


def _write_npy(folder: Path, part: _Part) -> None:
    arrays = {
        space: new_array(folder / f"{space}.npy", (len(part.rows), part.index.info.dims[space])) for space in SPACES
    }
    start = 0
    for block in part.blocks():
        for space in SPACES:
            arrays[space][start : start + len(block.table)] = block.vectors[space]
        start += len(block.table)
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
    _write_json(folder / "keys.json", part.table.column("key").to_pylist())
    pq.write_table(part.table, folder / "metadata.parquet")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_target(out: Path, form: Format, *, overwrite: bool) -> None:
    if form not in FORMATS:
        raise RetrievalError(f"format {form!r}: one of {', '.join(FORMATS)} expected")
    if not out.exists() or (form != "parquet" and out.is_dir() and not any(out.iterdir())):
        return
    there = _format_of(out)
    if there is None:
        raise RetrievalError(f"{out} exists and is not an export: it is left alone; name another path")
    if there != form:
        raise RetrievalError(f"{out} is an export as {there}, not as {form}: it is left alone; name another path")
    if not overwrite:
        raise RetrievalError(f"{out} already holds an export; add --force to replace it, or name another path")
    if form != "parquet":
        own = sorted({path.name for path in out.iterdir()} - _FILES[form])
        if own:
            raise RetrievalError(f"{out} holds {own[0]}, which is not of the export: move it, or name another path")


def _format_of(path: Path) -> Format | None:
    """What form of export stands at a path; None if it is something else."""
    try:
        if path.is_dir():
            content = json.loads((path / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        else:
            content = json.loads((pq.read_schema(path).metadata or {})[DESCRIPTION])
        return content["format"] if content["kind"] == _KIND and content["format"] in FORMATS else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None
