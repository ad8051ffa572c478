"""An index whose vectors are searched in Milvus: Milvus Lite, in this process, in a real file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_clips import make_frames, make_index, make_records, make_vectors
from typer.testing import CliRunner

from kineme.pipeline.cli import app
from kineme.retrieval.commits import StructureEntry, commit, read_info
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import Metric
from kineme.retrieval.growing import add_clips, build_index, compact, remove_clips
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.kinds.milvus import MilvusStructure, milvus_structures, store_of
from kineme.retrieval.milvus_store import connect, parse_name, parse_store
from kineme.retrieval.previews import Picture
from kineme.retrieval.search import search
from kineme.retrieval.vectors import SPACES, ClipVectors, Space

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

LABELS: list[dict[str, Any]] = [
    {"action": ("walk", "run", "jump")[number % 3], "number": number} for number in range(60)
]
METRICS: Mapping[Space, Metric] = {"motion": "l2", "appearance": "cosine"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"milvus://{tmp_path}/vectors.db"


def client_of(url: str) -> Any:
    return connect(parse_store(url))


def collections(url: str) -> list[str]:
    return sorted(client_of(url).list_collections())


def build(folder: Path, url: str | None, *, seed: int = 0, count: int = 60, overwrite: bool = False) -> Index:
    """An index of made-up clips, searched in Milvus or exactly."""
    folder.parent.mkdir(exist_ok=True)
    records = make_records(LABELS[:count])
    recipe = folder.parent / "recipe.yaml"
    recipe.write_text("model: made-up\n", encoding="utf-8")
    return build_index(
        folder,
        make_vectors([record.key for record in records], seed=seed),
        records,
        encoder="made-up",
        encoder_files={"recipe.yaml": recipe},
        data="made-up shards",
        pictures=[Picture(record.key, make_frames(number)) for number, record in enumerate(records)],
        metrics=METRICS,
        structures=None if url is None else milvus_structures(url),
        overwrite=overwrite,
    )


def assert_same_answers(index: Index, exact: Index, k: int = 12) -> None:
    """The same clips with the same scores, for queries that are clips and for one that is none."""
    for space in SPACES:
        asked = np.concatenate([exact.space(space)[:7], np.full((1, exact.info.dims[space]), 0.3, np.float32)])
        found, wanted = index.nearest(asked, space, k), exact.nearest(asked, space, k)
        for mine, theirs in zip(found.rows, wanted.rows, strict=True):
            assert [clip.key for clip in index.clips(mine)] == [clip.key for clip in exact.clips(theirs)]
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)


def test_it_answers_as_the_exact_search_does_in_both_metrics(tmp_path: Path, url: str) -> None:
    index, exact = build(tmp_path / "in milvus", url), build(tmp_path / "exact", None)

    assert {entry.kind for entry in index.info.structures.values()} == {"milvus"}
    assert all(isinstance(index.structures[space], MilvusStructure) for space in SPACES)
    assert_same_answers(index, exact)
    assert_same_answers(index, exact, k=500)


def test_beyond_some_rows_milvus_chooses_its_own_index(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kineme.retrieval.kinds.milvus.EXACT_ROWS", 59)
    index, exact = build(tmp_path / "in milvus", url), build(tmp_path / "exact", None)

    (name,) = collections(url)
    assert client_of(url).describe_index(name, "motion")["index_type"] == "AUTOINDEX"
    assert_same_answers(index, exact)


def test_what_milvus_finds_is_what_comes_back(tmp_path: Path, url: str) -> None:
    """The structure itself, without the exact search that could hide its mistakes."""
    index, exact = build(tmp_path / "in milvus", url), build(tmp_path / "exact", None)

    for space in SPACES:
        queries = exact.space(space)[:5]
        if METRICS[space] == "cosine":
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        found, wanted = index.structures[space].search(queries, 70), exact.nearest(queries, space, 60)
        assert (found.rows[:, :60] == wanted.rows).all()
        assert (np.diff(found.scores[:, :60]) <= 0).all()
        assert (found.rows[:, 60:] == -1).all()


def test_the_collection_holds_the_metadata_for_other_programs(tmp_path: Path, url: str) -> None:
    index = build(tmp_path / "index", url)
    (name,) = collections(url)

    rows = client_of(url).query(name, filter='labels["action"] == "run" and end_s > 0.5', output_fields=["key", "id"])

    assert {row["key"]: row["id"] for row in rows} == {
        index.clip(row).key: row for row in index.filter.rows("action = 'run'").tolist()
    }


def test_filters_exclusions_additions_and_removals_need_no_write_to_milvus(tmp_path: Path, url: str) -> None:
    index, exact = build(tmp_path / "index", url, count=40), build(tmp_path / "exact", None, count=40)
    before = collections(url)
    records = make_records(LABELS)[40:]
    more = make_vectors([record.key for record in records], seed=5)
    pictures = [Picture(record.key, make_frames(number)) for number, record in enumerate(records)]
    for folder in (index.folder, exact.folder):
        add_clips(folder, more, records, pictures)
        remove_clips(folder, [exact.keys[number] for number in (0, 3, 17, 39)])
    index, exact = open_index(index.folder), open_index(exact.folder)

    assert collections(url) == before
    assert_same_answers(index, exact)
    query = exact.space("motion")[2]
    for where in ("action = 'walk'", "number >= 39", "number = 41"):
        hits = search(index, query, by="motion", k=9, where=where)
        assert [hit.key for hit in hits] == [hit.key for hit in search(exact, query, by="motion", k=9, where=where)]
    assert index.keys[5] not in [hit.key for hit in search(index, query, by="motion", k=50, exclude=[index.keys[5]])]


def test_compacting_makes_a_new_collection_and_drops_the_one_before(tmp_path: Path, url: str) -> None:
    index = build(tmp_path / "index", url)
    (first,) = collections(url)
    remove_clips(index.folder, index.keys[:7])

    compact(index.folder, milvus_structures(url))
    compacted = open_index(index.folder)

    (second,) = collections(url)
    old, new = parse_name(first), parse_name(second)
    assert old is not None
    assert old.of_one_index(new)
    assert (old.generation, new and new.generation) == (1, 3)
    assert compacted.info.structures["motion"].location == f"{url}/{second}#motion"
    exact = build(tmp_path / "exact", None)
    remove_clips(exact.folder, exact.keys[:7])
    assert_same_answers(compacted, open_index(exact.folder))


def test_an_index_that_was_open_answers_on_when_its_collection_is_dropped(tmp_path: Path, url: str) -> None:
    index, exact = build(tmp_path / "index", url), build(tmp_path / "exact", None)
    assert_same_answers(index, exact)
    compact(index.folder, milvus_structures(url))

    with pytest.warns(UserWarning, match=r"kineme_\w+ is not there any more: .*kineme compact"):
        assert_same_answers(index, exact)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so once
        assert_same_answers(index, exact)


def test_compacting_without_the_store_leaves_it_clean(tmp_path: Path, url: str) -> None:
    index = build(tmp_path / "index", url)
    compact(index.folder)

    assert collections(url) == []
    assert open_index(index.folder).info.structures == {}


def test_building_over_an_index_replaces_its_collection(tmp_path: Path, url: str) -> None:
    build(tmp_path / "index", url)
    (first,) = collections(url)
    again = build(tmp_path / "index", url, seed=3, overwrite=True)

    (second,) = collections(url)
    assert first != second
    assert_same_answers(again, build(tmp_path / "exact", None, seed=3))


def test_two_indexes_and_a_strangers_collection_live_in_one_milvus(tmp_path: Path, url: str) -> None:
    client = client_of(url)
    for name in ("kineme", "strangers", "kineme_0123456789ab_1_000001"):
        client.create_collection(name, dimension=4)
        client.insert(name, [{"id": 1, "vector": [1.0, 0.0, 0.0, 0.0]}])
    strangers = set(collections(url))
    one, other = build(tmp_path / "one", url), build(tmp_path / "other", url, seed=8)

    compact(one.folder, milvus_structures(url))
    compact(one.folder, milvus_structures(f"{url}/mine"))
    compact(one.folder)

    assert_same_answers(open_index(other.folder), build(tmp_path / "exact", None, seed=8))
    (left,) = set(collections(url)) - strangers
    assert left in other.info.structures["motion"].location
    assert all(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"] == 1 for name in strangers)


def test_a_copy_of_an_index_drops_nothing_of_the_original(tmp_path: Path, url: str) -> None:
    original = build(tmp_path / "original", url)
    shutil.copytree(original.folder, tmp_path / "copy")

    compact(tmp_path / "copy", milvus_structures(url))
    remove_clips(tmp_path / "copy", [original.keys[0]])
    compact(tmp_path / "copy")

    exact = build(tmp_path / "exact", None)
    assert_same_answers(open_index(original.folder), exact)
    assert_same_answers(original, exact)
    assert len(collections(url)) == 1


def test_a_renamed_index_still_owns_its_collection(tmp_path: Path, url: str) -> None:
    index = build(tmp_path / "index", url)
    moved = index.folder.rename(tmp_path / "moved")
    compact(moved, milvus_structures(url))
    assert len(collections(url)) == 1


def test_what_a_build_that_died_has_left_goes_with_the_next(tmp_path: Path, url: str) -> None:
    index = build(tmp_path / "index", url)
    (first,) = collections(url)
    named = parse_name(first)
    assert named is not None
    client_of(url).create_collection(str(named)[:-1] + "2", dimension=4)  # of the generation that comes next
    client_of(url).create_collection(str(named)[:-1] + "9", dimension=4)

    compact(index.folder, milvus_structures(url))

    (left,) = collections(url)
    assert left in open_index(index.folder).info.structures["motion"].location


@pytest.mark.parametrize("delay_s", [0.0, 0.4, 0.8])
def test_a_compaction_that_is_killed_leaves_an_index_that_answers(tmp_path: Path, url: str, delay_s: float) -> None:
    index, exact = build(tmp_path / "index", None), build(tmp_path / "exact", None)
    code = (
        "import sys; from pathlib import Path; from kineme.retrieval.growing import compact;"
        "from kineme.retrieval.kinds.milvus import milvus_structures; build = milvus_structures(sys.argv[2]);"
        "[(compact(Path(sys.argv[1]), build), print('compacted', flush=True)) for _ in range(100)]"
    )
    command = [sys.executable, "-c", code, str(index.folder), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "compacted\n"
        time.sleep(delay_s)
        other.kill()

    assert_same_answers(open_index(index.folder), exact)
    compact(index.folder, milvus_structures(url))
    assert len(collections(url)) == 1
    assert_same_answers(open_index(index.folder), exact)


def test_a_build_that_fails_leaves_nothing_in_milvus_and_the_index_as_it_was(tmp_path: Path, url: str) -> None:
    index, exact = build(tmp_path / "index", url), build(tmp_path / "exact", None)
    before = collections(url)
    (record,) = make_records([{}])
    far = replace(record, key="f" * 16 + "-000000", source="x" * 70_000)  # longer than Milvus takes
    for folder in (index.folder, exact.folder):
        add_clips(folder, make_vectors([far.key], seed=4), [far], [])

    with pytest.raises(RetrievalError, match=f"^milvus://{tmp_path}/vectors.db: .*source") as raised:
        compact(index.folder, milvus_structures(url))

    assert "\n" not in str(raised.value)
    assert collections(url) == before
    assert_same_answers(open_index(index.folder), open_index(exact.folder))


def test_collections_that_lost_clips_are_not_believed(tmp_path: Path, url: str) -> None:
    index, exact = build(tmp_path / "index", url), build(tmp_path / "exact", None)
    (name,) = collections(url)
    client_of(url).delete(name, ids=[1, 2, 3])

    with pytest.warns(UserWarning, match="holds 57 of 60 clips"):
        assert_same_answers(index, exact)


def test_rows_that_somebody_else_put_into_the_collection_are_no_answer(tmp_path: Path, url: str) -> None:
    index, exact = build(tmp_path / "index", url), build(tmp_path / "exact", None)
    (name,) = collections(url)
    (row,) = client_of(url).query(name, filter="id == 7", output_fields=["*"])
    client_of(url).delete(name, ids=[7])
    client_of(url).insert(name, [{**row, "id": 10**9}])

    found = index.structures["motion"].search(exact.space("motion")[7:8], 60)
    assert found.rows.max() == 59
    assert 7 not in found.rows
    assert 10**9 not in [row for space in SPACES for row in index.nearest(exact.space(space)[7:8], space, 60).rows[0]]


def test_a_copy_without_its_file_is_searched_here_and_makes_no_file(tmp_path: Path, url: str) -> None:
    index, exact = build(tmp_path / "index", url), build(tmp_path / "exact", None)
    file = tmp_path / "elsewhere.db"
    text = (index.folder / "index.json").read_text(encoding="utf-8")
    (index.folder / "index.json").write_text(text.replace("vectors.db", file.name), encoding="utf-8")

    with pytest.warns(UserWarning, match="is not there: all clips are compared here instead"):
        assert_same_answers(open_index(index.folder), exact)
    assert not file.exists()


def test_nothing_is_asked_of_milvus_before_a_search(tmp_path: Path) -> None:
    """Keys, metadata, filters, pictures, additions and removals do without it; a search says that it needs it."""
    index = make_index(tmp_path / "index", LABELS)
    compact(index.folder)
    folder = _pointed_at(index.folder, "milvus://127.0.0.1:9/gone")

    opened = open_index(folder)
    remove_clips(folder, opened.keys[:1])
    assert len(opened.filter.rows("action = 'walk'")) == 20
    with pytest.raises(RetrievalError, match=r"^milvus://127.0.0.1:9: .*check the address.*KINEME_MILVUS_TOKEN$"):
        search(opened, opened.space("motion")[0], by="motion")


def _pointed_at(folder: Path, url: str) -> Path:
    """An index as if its structures were in that collection."""
    info = read_info(folder)
    entries = {space: StructureEntry(kind="milvus", location=f"{url}#{space}", rows=60) for space in SPACES}
    commit(folder, info.model_copy(update={"structures": entries}))
    return folder


def test_the_commands_build_search_export_compact_and_leave_the_store(digits: Path, tmp_path: Path, url: str) -> None:
    folder, data = str(tmp_path / "index"), str(digits / "shards")
    settings = ["--encoder", "motion-histogram", "--set", "frame_size=32", "--set", "clip_frames=8"]

    run_command("index", *settings, "--data", data, "--out", folder, "--store", f"{url}/digits")
    index = open_index(Path(folder))
    (first,) = collections(url)
    assert first.startswith("digits_")
    hits = json.loads(run_command("query", folder, index.keys[3], "-k", "5", "--json"))
    exact = search(index, index.vector(index.keys[3], "motion"), by="motion", k=5, exclude=[index.keys[3]])
    assert [hit["key"] for hit in hits] == [hit.key for hit in exact]
    run_command("remove", folder, index.keys[0])
    run_command("export", folder, "--out", str(tmp_path / "out.parquet"))
    run_command("compact", folder)
    (second,) = collections(url)
    assert second.startswith("digits_")
    assert second != first
    run_command("compact", folder, "--store", f"{url}/others")
    assert collections(url)[0].startswith("others_")
    run_command("compact", folder, "--no-store")
    assert collections(url) == []
    assert open_index(Path(folder)).count == index.count - 1


def run_command(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_address_of_an_index_is_known_from_it(tmp_path: Path, url: str) -> None:
    assert store_of(build(tmp_path / "one", url).info.structures) == f"{url}/kineme"
    assert store_of(build(tmp_path / "two", f"{url}/walks").info.structures) == f"{url}/walks"
    assert store_of(build(tmp_path / "three", None).info.structures) is None


def test_an_index_of_no_clips_has_no_collection(tmp_path: Path, url: str) -> None:
    index = build(tmp_path / "index", url)
    remove_clips(index.folder, index.keys)
    assert open_index(index.folder).nearest(index.space("motion")[:1], "motion", 3).rows.shape == (1, 0)

    compact(index.folder, milvus_structures(url))

    assert collections(url) == []
    assert open_index(index.folder).count == 0


def test_vectors_of_no_length_are_found_like_others(tmp_path: Path, url: str) -> None:
    records = make_records(LABELS[:5])
    zero = np.zeros((5, 6), np.float32)
    zero[1:] = make_vectors([record.key for record in records], seed=2).motion[1:]
    vectors = ClipVectors([record.key for record in records], zero, np.ones((5, 5), np.float32))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: made-up\n", encoding="utf-8")
    built = [
        build_index(
            tmp_path / name,
            vectors,
            records,
            encoder="made-up",
            encoder_files={"recipe.yaml": recipe},
            data="made-up",
            pictures=[],
            structures=structures,
        )
        for name, structures in (("in milvus", milvus_structures(url)), ("exact", None))
    ]
    assert_same_answers(*built, k=5)
