"""Changes of an index that meet something: another change, a reader, damage, a full disk, files of somebody else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clustered_index import clustered_index
from made_up_clips import make_index, make_records, make_vectors

from kineme.retrieval.atomic import built_beside, locked
from kineme.retrieval.budget import Budget
from kineme.retrieval.changes import Built
from kineme.retrieval.choosing import structures
from kineme.retrieval.commits import IndexInfo
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.growing import add_clips, check_free, compact, remove_clips, remove_where
from kineme.retrieval.index import open_index
from kineme.retrieval.index_report import read_report
from kineme.retrieval.search import search
from kineme.retrieval.segments import new_array

LABELS = [{"number": number} for number in range(6)]


def test_clips_that_came_meanwhile_are_left_out(tmp_path: Path) -> None:
    """Two add the same videos at once: what one has encoded in vain costs the other clips nothing."""
    index = make_index(tmp_path / "index", LABELS)
    records = make_records([*LABELS, {}, {}])[4:]
    added = add_clips(index.folder, make_vectors([record.key for record in records]), records, [], present="skip")
    assert (added.new, added.replaced, added.skipped) == (2, 0, 2)
    after = open_index(index.folder)
    assert after.keys == [*index.keys, *(record.key for record in records[2:])]
    np.testing.assert_array_equal(after.vector(index.keys[5], "motion"), index.vector(index.keys[5], "motion"))
    again = add_clips(index.folder, make_vectors([record.key for record in records]), records, [], present="skip")
    assert (again.new, again.skipped, again.info) == (0, 4, after.info)


def test_vectors_of_another_encoder_do_not_come_in(tmp_path: Path) -> None:
    before = make_index(tmp_path / "index", LABELS).info
    make_index(tmp_path / "index", LABELS, overwrite=True)
    (record,) = make_records([*LABELS, {}])[6:]
    vectors = make_vectors([record.key])
    with pytest.raises(RetrievalError, match="was built anew meanwhile, with an encoder of its own"):
        add_clips(tmp_path / "index", vectors, [record], [], encoder_folder=before.encoder_folder)
    now = open_index(tmp_path / "index").info
    assert add_clips(tmp_path / "index", vectors, [record], [], encoder_folder=now.encoder_folder).new == 1


def test_clips_are_removed_by_what_is_true_of_them_now(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", LABELS)
    remove_clips(index.folder, index.keys[:1])
    removed = remove_where(index.folder, "number < 2")
    assert (removed.count, removed.info.count) == (1, 4)
    assert remove_where(index.folder, "number < 2").info == removed.info


def test_a_label_may_have_the_name_of_a_row_number(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", [{"rowid": 9 - number, "a": number} for number in range(10)])
    assert index.filter.rows("a < 3").tolist() == [0, 1, 2]
    assert index.filter.rows("label_rowid < 3").tolist() == [7, 8, 9]
    assert remove_where(index.folder, "a < 3").count == 3
    assert open_index(index.folder).keys == index.keys[3:]


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", LABELS)
    mine = ["notes-000002.txt", "encoder-notes", "removed-by-me.npy", "mine.faiss", "keys.json", ".hidden-000002"]
    for name in mine:
        (index.folder / name).touch()
    remove_clips(index.folder, index.keys[:1])
    compact(index.folder)
    assert all((index.folder / name).exists() for name in mine)


def test_a_reader_comes_through_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between what it has looked for and what it reads, the index is written anew."""
    index = make_index(tmp_path / "index", LABELS)
    read = pq.read_table

    def written_anew_first(*arguments: object, **options: object) -> pa.Table:
        monkeypatch.setattr(pq, "read_table", read)
        remove_clips(index.folder, index.keys[:1])
        compact(index.folder)
        return read(*arguments, **options)

    monkeypatch.setattr(pq, "read_table", written_anew_first)
    assert open_index(index.folder).keys == index.keys[1:]


def test_what_searches_is_built_again_where_it_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    clustered_index(folder, 5000, "cosine")
    compact(folder, structures(Budget(kind="ivf")))
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:1000]), lambda path: path.unlink()):
        damage(next(folder.glob("motion-*.faiss")))
        with pytest.raises(RetrievalError, match=r"compact|build it again"):
            open_index(folder)
        compact(folder, structures(Budget(kind="ivf")))
        index = open_index(folder)
        assert search(index, index.vector(index.keys[7], "motion"), by="motion", k=1)[0].score == pytest.approx(1)


def test_the_report_is_of_the_index_that_stands(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    clustered_index(folder, 5000, "cosine")
    build = structures(Budget(kind="hnsw", recall=0.5))
    compact(folder, build)
    before = read_report(folder)
    assert before is not None

    def half(at: Path, info: IndexInfo) -> Built:
        build(at, info)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(folder, half)
    assert read_report(folder) == before
    (folder / "index_report.json").write_bytes(b"\xff\xfe")
    assert read_report(folder) is None
    compact(folder, build)
    assert read_report(folder) is not None
    make_index(folder, LABELS, overwrite=True)
    assert read_report(folder) is None


def test_numbers_of_removed_rows_that_are_damaged(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", LABELS)
    remove_clips(index.folder, index.keys[:1])
    (index.folder / "removed-000002.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(RetrievalError, match=r"removed-000002\.npy: unreadable"):
        open_index(index.folder)


def test_a_disk_without_room_is_an_error_before_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        assert size == os.fstat(descriptor).st_size
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    index = make_index(tmp_path / "index", LABELS)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: .*motion\.npy"):
        new_array(tmp_path / "motion.npy", (1000, 8))
    (tmp_path / "motion.npy").unlink()
    (record,) = make_records([*LABELS, {}])[6:]
    with pytest.raises(OSError, match="No space left"):
        add_clips(index.folder, make_vectors([record.key]), [record], [])
    assert sorted(tmp_path.rglob("*")) == before


def test_room_is_taken_on_the_disk_at_once(tmp_path: Path) -> None:
    array = new_array(tmp_path / "array.npy", (100_000, 8))
    assert (tmp_path / "array.npy").stat().st_blocks * 512 >= array.nbytes


def test_an_index_may_be_built_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    make_index(tmp_path / "link", LABELS)
    assert (tmp_path / "link").is_symlink()
    assert open_index(tmp_path / "disk").count == 6


def test_a_folder_that_cannot_be_replaced_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_free(tmp_path, overwrite=False)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(RetrievalError, match="is a mount point, which no new folder can replace; name a folder in it"):
        check_free(tmp_path, overwrite=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RetrievalError, match="is the folder you are in"):
        check_free(Path(), overwrite=False)


def test_what_a_dead_build_left_goes_with_the_next(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".index.1.partial", tmp_path / ".index.2.partial"
    for left in (dead, alive):
        (left / "segments").mkdir(parents=True)
    with locked(alive):
        make_index(tmp_path / "index", LABELS)
    assert not dead.exists()
    assert alive.exists()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_is_replaced_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """Also where the system cannot let two folders change places."""
    if not at_once:
        monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    folder = tmp_path / "out"
    for content in ("one", "two"):
        with built_beside(folder, replace=True) as partial:
            (partial / "file").write_text(content)
            if folder.exists():
                assert (folder / "file").read_text() == "one"
        assert (folder / "file").read_text() == content
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(OSError) as refused, built_beside(folder):  # noqa: PT011
        pass
    assert refused.value.errno in (errno.ENOTEMPTY, errno.EEXIST)
    assert (folder / "file").read_text() == "two"
