"""Search in Milvus: a collection holds the vectors and the metadata of an index as they were when it was built.

The index folder stays the truth. A collection belongs to one generation: the rows of the index are its primary keys, so
nothing is written to Milvus when clips are added (they are compared here until the next `kineme compact`) or removed
(they are left out of what Milvus finds). A build makes a new collection, the commit of the index names it, and after
the commit the one before is dropped. What a reader still needs of a dropped collection is compared here too.

    id                               INT64, the primary key: the row of the clip
    motion, appearance               FLOAT_VECTOR, of length 1 where the metric is cosine
    key, source, start_s, ...        the metadata, as the filters of an index name it
    labels                           JSON, {name: value}, so: labels["action"] == "walk"
"""

from __future__ import annotations

import json
import secrets
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kineme.retrieval.changes import Built, Structures
from kineme.retrieval.commits import IndexInfo, StructureEntry, segment_folder
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.exact import Neighbours
from kineme.retrieval.kinds import standing_structures
from kineme.retrieval.metadata import BUILT_IN
from kineme.retrieval.milvus_store import CollectionName, Store, connect, home_of, one_line, parse_name, parse_store
from kineme.retrieval.segments import Segment, open_segment
from kineme.retrieval.vectors import SPACES, Space, Vectors

NAME = "milvus"
EXACT_ROWS = 100_000
"""Up to so many rows Milvus compares all of them (FLAT); beyond, it builds what it thinks best (AUTOINDEX)."""
_MOST_HITS = 16_384  # Milvus gives no more of a query
_TOGETHER = 64  # queries
# The index compares twice the hits that are wanted with its own vectors: that costs less than to fetch them.
_CANDIDATES = 2
_BATCH_ROWS, _BATCH_BYTES = 1000, 8 * 2**20
_SEARCH_S, _BUILD_S = 30, 3600
_MOST_TEXT = 65_535
_UNBUILT = "mend that and build again, or leave --store out to search the index without Milvus"
_UNSEARCHED = "check that it runs; kineme compact builds the collection anew"
_METRIC_TYPES: Mapping[Metric, str] = {"cosine": "IP", "l2": "L2"}


class MilvusStructure:
    """One space of a collection. Milvus is not asked for anything before the first search."""

    def __init__(self, entry: StructureEntry, metric: Metric) -> None:
        address, _, space = entry.location.partition("#")
        self._store = parse_store(address)
        self._space = space
        self._rows = entry.rows
        self._metric = metric
        self._lock = threading.Lock()
        self._lost = False

    def search(self, queries: Vectors, k: int, room: int | None = None) -> Neighbours:
        """At most ``room``, or else k, rows near each of the queries (Q, D), of length 1 where the metric is cosine.

        Best first, at most 16,384, with scores as this Milvus measures: some give distances squared, some not. A place
        for which nothing was found has row -1 and score -infinity, and so have all, with a warning, once the collection
        is gone or holds other than its rows.

        Raises:
            RetrievalError: Milvus cannot be reached, or refuses.
        """
        k = room or k
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        client = self._opened()
        if client is not None:
            sign = 1 if self._metric == "cosine" else -1
            for start in range(0, len(queries), _TOGETHER):
                answers = self._asked(client, queries[start : start + _TOGETHER], min(k, _MOST_HITS))
                for place, hits in enumerate(answers, start):
                    rows[place, : len(hits)] = [hit["id"] for hit in hits]
                    scores[place, : len(hits)] = [sign * hit["distance"] for hit in hits]
        foreign = rows >= self._rows  # what somebody else has put there
        return Neighbours(np.where(foreign, np.float32(-np.inf), scores), np.where(foreign, -1, rows))

    def _opened(self) -> Any:
        """The client, once the collection is known to be loaded and whole; None if it is not there."""
        with self._lock:
            return None if self._lost else self._loaded

    @cached_property
    def _loaded(self) -> Any:
        file, name = self._store.file, self._store.name
        if file is not None and not file.exists():  # the client would make a new one
            return self._give_up("is not there")
        client = connect(self._store)
        with one_line(self._store, _UNSEARCHED):
            if not client.has_collection(name, timeout=_SEARCH_S):
                return self._give_up("is not there")
            client.load_collection(name, timeout=_BUILD_S)
            counted = client.query(name, filter="", output_fields=["count(*)"], timeout=_SEARCH_S)[0]["count(*)"]
        return client if counted == self._rows else self._give_up(f"holds {counted} of {self._rows} clips")

    def _asked(self, client: Any, queries: Vectors, limit: int) -> list[Any]:
        from pymilvus.exceptions import MilvusException

        with one_line(self._store, _UNSEARCHED):
            try:
                found: list[Any] = client.search(
                    self._store.name,
                    data=list(queries),
                    anns_field=self._space,
                    limit=limit,
                    output_fields=["id"],
                    search_params={"metric_type": _METRIC_TYPES[self._metric], "params": {}},
                    timeout=_SEARCH_S,
                )
            except MilvusException:
                if client.has_collection(self._store.name, timeout=_SEARCH_S):
                    raise
                with self._lock:
                    self._give_up("is not there any more")
                return [[] for _ in queries]
        return found

    def _give_up(self, why: str) -> None:
        self._lost = True
        warnings.warn(
            f"{self._store.location(self._store.name)} {why}: all clips are compared here instead, which is slower; "
            "build it anew with: kineme compact",
            stacklevel=2,
        )


class _Milvus:
    """The kind; what it builds, `milvus_structures` builds."""

    def open(self, path: Path, entry: StructureEntry, metric: Metric) -> MilvusStructure:
        """One space of the collection that ``entry`` names; ``path`` is not looked at."""
        return MilvusStructure(entry, metric)


KIND = _Milvus()


def milvus_structures(url: str) -> Structures:
    """What builds the structures of an index in a Milvus: a collection with both spaces and the metadata.

    Args:
        url: as of `parse_store`.

    Raises:
        RetrievalError: here, before hours of encoding: not such an address, or it does not answer. While building:
            Milvus refuses; nothing of a failed build stays there.
    """
    store = parse_store(url)
    client = connect(store)

    def build(folder: Path, info: IndexInfo) -> Built:
        from pymilvus.exceptions import MilvusException

        if not info.rows:
            return Built({})
        named = _next_name(store, folder, info)
        name, (held,) = str(named), info.segments
        segment = open_segment(segment_folder(folder, held.name), held.count, info.dims, info.metrics)
        with one_line(store, _UNBUILT):
            _drop(client, named, keep=_named(standing_structures(folder)))
            try:
                _create(client, name, info)
                for batch in _batches(segment, info):
                    client.insert(name, batch, timeout=_BUILD_S)
                client.flush(name, timeout=_BUILD_S)
                client.load_collection(name, timeout=_BUILD_S)
            except BaseException:
                with suppress(MilvusException):
                    client.drop_collection(name, timeout=_SEARCH_S)
                raise
        return Built(
            {
                space: StructureEntry(
                    kind=NAME, location=f"{store.location(name)}#{space}", rows=info.rows, candidates=_CANDIDATES
                )
                for space in SPACES
            }
        )

    return build


def store_of(structures: Mapping[Space, StructureEntry]) -> str | None:
    """The address that `milvus_structures` was given for an index; None if none of its structures is in Milvus."""
    for location in _named(structures):
        store = parse_store(location)
        named = parse_name(store.name)
        return store.location(store.name if named is None else named.base)
    return None


def forget(folder: Path, before: Mapping[Space, StructureEntry], now: Mapping[Space, StructureEntry]) -> None:
    """Drop the collections that a committed change has put out of use; call it after the commit.

    Only those of this folder are dropped: not what a copy of it, or anybody else, has in the same Milvus. A collection
    that cannot be dropped is a warning: the index does not need it to be.
    """
    for location in _named(before) - _named(now):
        store = parse_store(location)
        named = parse_name(store.name)
        if named is None or named.home != home_of(folder):
            continue
        try:
            client = connect(store)
            with one_line(store, "drop it there"):
                _drop(client, named, keep=_named(now))
        except RetrievalError as error:
            warnings.warn(f"{location} is out of use but could not be dropped: {error}", stacklevel=2)


def _next_name(store: Store, folder: Path, info: IndexInfo) -> CollectionName:
    home = home_of(folder)
    for location in _named(standing_structures(folder)):
        named = parse_name(parse_store(location).name)
        if named is not None and (named.base, named.home) == (store.name, home):
            return CollectionName(store.name, named.uid, home, info.generation)
    return CollectionName(store.name, secrets.token_hex(6), home, info.generation)


def _drop(client: Any, named: CollectionName, keep: Collection[str]) -> None:
    """Drop all generations of an index, those of builds that died among them, but for those at ``keep``."""
    kept = {parse_store(location).name for location in keep}
    for name in client.list_collections(timeout=_SEARCH_S):
        if named.of_one_index(parse_name(name)) and name not in kept:
            client.drop_collection(name, timeout=_SEARCH_S)


def _named(structures: Mapping[Space, StructureEntry]) -> set[str]:
    """Locations of the collections of these structures."""
    return {entry.location.partition("#")[0] for entry in structures.values() if entry.kind == NAME}


def _create(client: Any, name: str, info: IndexInfo) -> None:
    from pymilvus import DataType

    types = {pa.string(): DataType.VARCHAR, pa.float64(): DataType.DOUBLE, pa.int64(): DataType.INT64}
    schema = client.create_schema(
        auto_id=False, enable_dynamic_field=False, description=f"kineme index, generation {info.generation}"
    )
    indexes = client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for space in SPACES:
        schema.add_field(space, DataType.FLOAT_VECTOR, dim=info.dims[space])
        method = "FLAT" if info.rows <= EXACT_ROWS else "AUTOINDEX"
        indexes.add_index(space, index_type=method, metric_type=_METRIC_TYPES[info.metrics[space]])
    for field in BUILT_IN:
        size = {"max_length": _MOST_TEXT} if field.type == pa.string() else {}
        schema.add_field(field.name, types[field.type], **size)
    schema.add_field("labels", DataType.JSON)
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong", timeout=_BUILD_S)


def _batches(segment: Segment, info: IndexInfo) -> Iterator[list[dict[str, Any]]]:
    """The rows of a segment as Milvus takes them, some at a time."""
    size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // (4 * sum(info.dims.values()))))
    for start in range(0, segment.count, size):
        rows = segment.metadata.slice(start, size).to_pylist()
        vectors = {space: np.array(segment.vectors[space][start : start + size]) for space in SPACES}
        yield [
            {
                **row,
                "id": start + place,
                "labels": json.loads(row["labels"]),
                **{space: vectors[space][place] for space in SPACES},
            }
            for place, row in enumerate(rows)
        ]
