"""An index that grows: whatever was added, replaced, removed and compacted, it is what a fresh build would be."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_steps import CLIPS, clips_at, step
from made_up_clips import make_frames, make_index, make_records

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.growing import add_clips, build_index, compact, remove_clips
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.previews import Picture
from kineme.retrieval.search import search
from kineme.retrieval.vectors import SPACES, ClipVectors
from kineme.shards.sample import ClipRecord

VALUES = ("walk", 3, 2.5, True)
METRICS = {"motion": "cosine", "appearance": "l2"}


def parts(numbers: Sequence[int], version: int) -> tuple[ClipVectors, list[ClipRecord], list[Picture]]:
    """Clips by number: their vectors, labels and pictures follow from (number, version). Some vectors are alike."""
    records = [
        replace(record, labels={"value": VALUES[(number + version) % 4], f"label {number % 3}": number})
        for number, record in ((number, make_records([{}] * (number + 1))[number]) for number in numbers)
    ]
    draws = [np.random.default_rng([number % 5, version]) for number in numbers]
    motion, appearance = (
        np.array([draw.standard_normal(dim) for draw in draws], np.float32).reshape(-1, dim) for dim in (4, 3)
    )
    pictures = [
        Picture(record.key, make_frames(number + version), bytes([version] * number))
        for number, record in zip(numbers, records, strict=True)
    ]
    return ClipVectors([record.key for record in records], motion, appearance), records, pictures


def build(folder: Path, clips: Mapping[int, int]) -> Index:
    """A fresh index of {number: version}, in that order."""
    single = [parts([number], version) for number, version in clips.items()]
    return build_index(
        folder,
        ClipVectors(
            [vectors.keys[0] for vectors, _, _ in single],
            *(np.concatenate([vectors.space(space) for vectors, _, _ in single]) for space in SPACES),
        ),
        [records[0] for _, records, _ in single],
        encoder="made-up",
        encoder_files={},
        data="made-up",
        pictures=[pictures[0] for _, _, pictures in single],
        metrics=METRICS,
    )


def assert_same(index: Index, fresh: Index) -> None:
    assert index.keys == fresh.keys
    assert index.clips(index.live_rows) == fresh.clips(fresh.live_rows)
    assert index.table.equals(fresh.table)
    for key in fresh.keys:
        assert index.picture(key) == fresh.picture(key)
        assert index.clip(index.row_of(key)).key == key
    for space in SPACES:
        np.testing.assert_array_equal(index.space(space), fresh.space(space))
        query = np.random.default_rng(1).standard_normal(fresh.info.dims[space]).astype(np.float32)
        np.testing.assert_allclose(index.scores(query, space), fresh.scores(query, space), atol=1e-6)
        numbered = [column for column in fresh.label_columns if column.startswith("label")]
        for where in (None, "cast(value as varchar) in ('walk', '3')", f'"{numbered[0]}" >= 4'):
            for k in (1, 3, 50):
                ours, theirs = (search(each, query, by=space, k=k, where=where) for each in (index, fresh))
                np.testing.assert_allclose([hit.score for hit in ours], [hit.score for hit in theirs], atol=1e-6)
                # Of clips that are equally near, any may be the last that is still shown.
                assert {hit.key for hit in ours if hit.score > ours[-1].score + 1e-6} == {
                    hit.key for hit in theirs if hit.score > theirs[-1].score + 1e-6
                }


NUMBERS = st.lists(st.integers(0, 14), unique=True, min_size=1, max_size=6)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "add", "replace", "remove", "compact"]), NUMBERS), max_size=7)


@settings(max_examples=25, deadline=None)
@given(first=NUMBERS, steps=STEPS)
def test_it_is_what_a_fresh_build_would_be(first: list[int], steps: list[tuple[str, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "index"
        clips = dict.fromkeys(first, 0)
        build(folder, clips)
        for version, (what, numbers) in enumerate(steps, start=1):
            if what == "compact":
                compact(folder)
                assert len(open_index(folder).segments) == 1
            elif what == "remove":
                gone = [number for number in numbers if number in clips]
                remove_clips(folder, [parts([number], 0)[0].keys[0] for number in gone])
                clips = {number: made for number, made in clips.items() if number not in gone}
            else:
                new = numbers if what == "replace" else [number for number in numbers if number not in clips]
                info = add_clips(
                    folder, *parts(new, version), present="replace" if what == "replace" else "refuse"
                ).info
                clips = {number: made for number, made in clips.items() if number not in new}
                clips |= dict.fromkeys(new, version)
                assert info.count == len(clips)
        index = open_index(folder)
        assert index.count == len(clips)
        if clips:
            assert_same(index, build(Path(root) / "fresh", clips))
        else:
            assert search(index, np.ones(4, np.float32), by="motion", k=3) == []


def test_one_by_one_makes_few_segments(tmp_path: Path) -> None:
    build(tmp_path / "index", {0: 0})
    for number in range(1, 40):
        add_clips(tmp_path / "index", *parts([number], 0))
        assert len(open_index(tmp_path / "index").segments) <= 7
    assert_same(open_index(tmp_path / "index"), build(tmp_path / "fresh", dict.fromkeys(range(40), 0)))


def test_a_large_segment_is_not_written_again_for_a_small_one(tmp_path: Path) -> None:
    build(tmp_path / "index", dict.fromkeys(range(40), 0))
    before = (tmp_path / "index" / "segments" / "000001" / "motion.npy").stat()
    add_clips(tmp_path / "index", *parts([50], 0))
    remove_clips(tmp_path / "index", [parts([3], 0)[0].keys[0]])
    assert (tmp_path / "index" / "segments" / "000001" / "motion.npy").stat() == before


def test_clips_that_are_there_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    build(tmp_path / "index", {0: 0, 1: 0})
    with pytest.raises(RetrievalError, match="holds 1 of these 2 clips already"):
        add_clips(tmp_path / "index", *parts([1, 2], 1))
    with pytest.raises(RetrievalError, match="'absent' is no key"):
        remove_clips(tmp_path / "index", [parts([0], 0)[0].keys[0], "absent"])
    with pytest.raises(RetrievalError, match=r"motion vectors of 9 dimensions: those of .* have 4"):
        add_clips(tmp_path / "index", ClipVectors([], np.ones((0, 9), np.float32), np.ones((0, 3), np.float32)), [], [])
    assert open_index(tmp_path / "index").info.generation == 1


def test_a_change_that_fails_leaves_no_file(tmp_path: Path) -> None:
    build(tmp_path / "index", {0: 0, 1: 0})
    before = sorted(tmp_path.rglob("*"))
    vectors, records, _ = parts([2, 3], 0)
    with pytest.raises(RetrievalError, match="1 previews for 2 clips"):
        add_clips(tmp_path / "index", vectors, records, parts([2], 0)[2])
    assert sorted(tmp_path.rglob("*")) == before


def test_an_open_index_does_not_see_changes(tmp_path: Path) -> None:
    opened = build(tmp_path / "index", {0: 0, 1: 0})
    remove_clips(tmp_path / "index", opened.keys[:1])
    add_clips(tmp_path / "index", *parts([0, 1, 2], 5), present="replace")
    compact(tmp_path / "index")
    assert_same(opened, build(tmp_path / "fresh", {0: 0, 1: 0}))
    assert open_index(tmp_path / "index").count == 3


def test_what_a_dead_change_left_is_cleared(tmp_path: Path) -> None:
    build(tmp_path / "index", {0: 0})
    for name in ("segments/000002/half", "encoder-000002/half", "segments/000007/half"):
        (tmp_path / "index" / name).mkdir(parents=True)
    (tmp_path / "index" / ".index.json.77.partial").touch()
    add_clips(tmp_path / "index", *parts([1], 0))
    assert_same(open_index(tmp_path / "index"), build(tmp_path / "fresh", {0: 0, 1: 0}))
    names = sorted(path.name for path in (tmp_path / "index").iterdir())
    assert names == ["encoder-000001", "index.json", "segments"]


def test_two_writers_wait_for_one_another(tmp_path: Path) -> None:
    """Four processes add clips of their own at once; none is lost."""
    make_index(tmp_path / "index", [{}])
    writers = [
        subprocess.Popen([sys.executable, Path(__file__).with_name("index_steps.py"), tmp_path / "index", str(start)])
        for start in (100, 200, 300, 400)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    index = open_index(tmp_path / "index")
    assert (index.count, index.info.generation) == (1 + 4 * 5, 1 + 4 * 5)


def test_killed_at_any_moment_it_is_the_old_index_or_the_new(tmp_path: Path) -> None:
    """A process changes an index without pause and is killed -9, twenty times; its state is always a whole one."""
    folder, moments, seen = tmp_path / "index", random.Random(0), set()
    step(folder, 0)
    for _ in range(20):
        script = [sys.executable, Path(__file__).with_name("index_steps.py"), folder]
        with subprocess.Popen(script, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(moments.uniform(0, 0.4))
            except subprocess.TimeoutExpired:
                process.kill()
        index = open_index(folder)
        seen.add(index.info.generation)
        expected = clips_at(index.info.generation)
        assert {index.keys[row]: int(index.space("motion")[row, 0]) for row in range(index.count)} == expected
        assert all(index.film(key) == bytes([version % 256]) for key, version in expected.items())
        for key in index.keys:
            assert search(index, index.vector(key, "motion"), by="motion", k=1)[0].score == pytest.approx(0, abs=1e-3)
    assert len(seen) > 10
    assert max(seen) > 3 * len(CLIPS)
