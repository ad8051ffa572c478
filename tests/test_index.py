"""The index folder: whole or absent, and honest about what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest
from made_up_clips import make_frames, make_index, make_records, make_vectors

from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.growing import build_index
from kineme.retrieval.index import open_index
from kineme.retrieval.previews import Picture, PictureWriter, open_pictures, small_strip
from kineme.retrieval.search import search
from kineme.retrieval.vectors import normalised

LABELS = [{"action": "walk", "hair": 1}, {"action": "jump", "hair": 2}, {"action": "walk"}]


def test_a_built_index_opens_as_it_was_built(tmp_path: Path) -> None:
    built = make_index(tmp_path / "index", LABELS, metrics={"appearance": "l2"})
    index = open_index(tmp_path / "index")
    assert index.info == built.info
    assert index.info.metrics == {"motion": "cosine", "appearance": "l2"}
    assert index.info.dims == {"motion": 6, "appearance": 5}
    assert (index.info.encoder, index.info.data, index.count) == ("made-up", "made-up shards", 3)
    assert [index.clip(row).labels for row in range(3)] == LABELS
    assert index.clip(1).source == "videos/1.mp4"
    assert (index.encoder_folder / "checkpoints" / "last.ckpt").read_text() == "model: made-up\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_folder_can_be_moved(tmp_path: Path) -> None:
    make_index(tmp_path / "index", LABELS)
    shutil.move(tmp_path / "index", tmp_path / "elsewhere, with a space")
    index = open_index(tmp_path / "elsewhere, with a space")
    key = index.keys[2]
    assert search(index, index.vector(key, "motion"), by="motion", k=1)[0].key == key


def test_vectors_come_back_as_they_were_encoded(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", LABELS, metrics={"appearance": "l2"})
    encoded = make_vectors(index.keys)
    np.testing.assert_allclose(index.space("motion"), encoded.motion, rtol=1e-6)
    np.testing.assert_array_equal(index.space("appearance"), encoded.appearance)
    np.testing.assert_allclose(index.vector(index.keys[1], "motion"), encoded.motion[1], rtol=1e-6)
    (segment,) = index.segments
    np.testing.assert_array_equal(segment.vectors["motion"], normalised(encoded.motion))


def test_labels_are_columns_and_never_clash(tmp_path: Path) -> None:
    labels = [
        {"action": "walk", "Key": "a", "key": "b", "two words": 1, "mixed": "x", "number": 1},
        {"label_key": "c", "mixed": 3, "number": 0.5, "Action": "Jump"},
    ]
    index = make_index(tmp_path / "index", labels)
    assert index.label_columns == {
        "Action": "Action",
        "label_Key": "Key",
        "label_action": "action",
        "label_label_key": "key",
        "label_label_label_key": "label_key",
        "mixed": "mixed",
        "number": "number",
        "two words": "two words",
    }
    assert index.clip(0).labels == labels[0]
    assert index.clip(1).labels == labels[1]
    assert index.filter.rows("mixed = '3'").tolist() == [1]
    assert index.filter.rows('"two words" = 1 and number = 1').tolist() == [0]
    assert index.filter.rows("label_action is null").tolist() == [1]
    stored = tmp_path / "index" / "segments" / "000001" / "metadata.parquet"
    rows = duckdb.sql(f"SELECT key, num_frames FROM '{stored}'").fetchall()
    assert rows == [(key, 8) for key in index.keys]


def test_an_index_is_replaced_only_when_asked(tmp_path: Path) -> None:
    make_index(tmp_path / "index", LABELS)
    with pytest.raises(RetrievalError, match="--force"):
        make_index(tmp_path / "index", LABELS[:2])
    assert open_index(tmp_path / "index").count == 3
    make_index(tmp_path / "index", LABELS[:2], overwrite=True)
    assert open_index(tmp_path / "index").count == 2


def test_what_is_not_an_index_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "index.json").write_text('{"kind": "something else"}')
    (tmp_path / "file").write_text("precious")
    for name in ("precious", "file"):
        with pytest.raises(RetrievalError, match="not an index"):
            make_index(tmp_path / name, LABELS, overwrite=True)
    assert (tmp_path / "precious" / "index.json").read_text() == '{"kind": "something else"}'
    assert (tmp_path / "file").read_text() == "precious"


def test_an_empty_folder_may_be_built_in(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    assert make_index(tmp_path / "index", LABELS).count == 3


@pytest.mark.parametrize("there_before", [False, True])
def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path, there_before: bool) -> None:
    if there_before:
        make_index(tmp_path / "index", LABELS)
    before = sorted(tmp_path.rglob("*"))
    records = make_records(LABELS)
    with pytest.raises(RetrievalError, match="2 previews for 3 clips"):
        build_index(
            tmp_path / "index",
            make_vectors([record.key for record in records]),
            records,
            encoder="made-up",
            encoder_files={},
            data="made-up",
            pictures=(Picture(record.key, make_frames(0)) for record in records[:2]),
            overwrite=True,
        )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": make_records(LABELS)[::-1]}, "do not match"),
        ({"vectors": make_vectors([]), "clips": []}, "no clips to index"),
        ({"encoder_files": {"../escape": Path(__file__)}}, "leaves the encoder folder"),
        ({"encoder_files": {"/escape": Path(__file__)}}, "leaves the encoder folder"),
        ({"metrics": {"motion": "manhattan"}}, "one of cosine, l2"),
    ],
)
def test_parts_that_disagree_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    records = make_records(LABELS)
    parts = {
        "vectors": make_vectors([record.key for record in records]),
        "clips": records,
        "encoder": "made-up",
        "encoder_files": {},
        "data": "made-up",
        "pictures": (Picture(record.key, make_frames(0)) for record in records),
    }
    with pytest.raises(RetrievalError, match=message):
        build_index(tmp_path / "index", **(parts | change))
    assert list(tmp_path.iterdir()) == []


PIECES = ("metadata.parquet", "motion.npy", "motion-norms.npy", "appearance.npy", "pictures.npy")


@pytest.mark.parametrize("name", [*(f"segments/000001/{piece}" for piece in PIECES), "encoder-000001"])
def test_a_missing_piece_is_named(tmp_path: Path, name: str) -> None:
    make_index(tmp_path / "index", LABELS)
    path = tmp_path / "index" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(RetrievalError, match=f"{Path(name).name} is missing"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize("name", ["index.json", *(f"segments/000001/{piece}" for piece in PIECES)])
def test_a_piece_cut_short_is_one_line(tmp_path: Path, name: str) -> None:
    make_index(tmp_path / "index", LABELS)
    whole = (tmp_path / "index" / name).read_bytes()
    (tmp_path / "index" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RetrievalError, match="again"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99, this version reads 2"),
        ({"schema": 1, "data": "my shards"}, "again with: kineme index .*/encoder --data my shards --out .* --force"),
        ({"kind": "other"}, "not written by kineme index"),
        ({"colour": "red"}, "colour: .* does not fit schema 2"),
        ({"count": 4}, "3 rows less 0 removed are not the 4 clips"),
        ({"segments": [{"name": "000001", "count": 4}], "count": 4}, "has 3 rows for 4 clips"),
        ({"dims": {"motion": 6, "appearance": 9}}, r"appearance.npy is \(3, 5\)"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    make_index(tmp_path / "index", LABELS)
    path = tmp_path / "index" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RetrievalError, match=message):
        open_index(tmp_path / "index")


def test_an_index_of_the_first_schema_is_replaced_as_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    make_index(folder, LABELS)
    (folder / "encoder-000001").rename(folder / "encoder")
    shutil.rmtree(folder / "segments")
    content = json.loads((folder / "index.json").read_text()) | {"schema": 1}
    (folder / "index.json").write_text(json.dumps(content))
    (folder / "previews.parquet").write_bytes(b"old")
    (folder / "notes.txt").write_text("somebody's own")
    assert make_index(folder, LABELS, overwrite=True).count == 3
    assert sorted(path.name for path in folder.iterdir()) == ["encoder-000001", "index.json", "notes.txt", "segments"]


@pytest.mark.parametrize("name", PIECES)
def test_pieces_of_two_indexes_do_not_mix(tmp_path: Path, name: str) -> None:
    for count in (3, 2):
        make_index(tmp_path / str(count), LABELS[:count])
    shutil.copy(tmp_path / "2" / "segments" / "000001" / name, tmp_path / "3" / "segments" / "000001" / name)
    with pytest.raises(RetrievalError, match="build the index again"):
        open_index(tmp_path / "3")


def test_a_folder_that_is_no_index(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RetrievalError, match="not an index"):
            open_index(folder)


def test_previews_of_drawn_clips_are_exact(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", LABELS)
    strips = index.previews([index.keys[2], index.keys[0]])
    np.testing.assert_array_equal(strips[index.keys[0]], make_frames(0))
    np.testing.assert_array_equal(strips[index.keys[2]], make_frames(2))
    with pytest.raises(RetrievalError, match="'absent' is no key"):
        index.previews(["absent"])


def test_an_index_may_have_no_pictures(tmp_path: Path) -> None:
    records = make_records(LABELS)
    vectors = make_vectors([record.key for record in records])
    index = build_index(
        tmp_path / "index", vectors, records, encoder="made-up", encoder_files={}, data="made-up", pictures=[]
    )
    assert index.film(index.keys[0]) == b""
    with pytest.raises(RetrievalError, match="indexed without pictures"):
        index.previews(index.keys)


@pytest.mark.parametrize("twice", [True, False])
def test_a_picture_is_of_one_clip(tmp_path: Path, twice: bool) -> None:
    picture = Picture("a" if twice else "b", make_frames(0))
    with (
        pytest.raises(RetrievalError, match="comes twice" if twice else "is of none"),
        PictureWriter(tmp_path, 1) as writer,
    ):
        writer.write_all({"a": 0}, [picture] * 2)


def test_filmed_previews_are_close_and_small(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(float)
    noise = np.random.default_rng(0).normal(0, 12, (8, 64, 64, 3))
    film = np.clip(smooth[None, :, :, None] + noise + 60, 0, 255).astype(np.uint8)
    with PictureWriter(tmp_path, 2) as writer:
        writer.write_all({"film": 1}, [Picture("film", film, b"an mp4")])
    pictures = open_pictures(tmp_path)
    assert pictures.strip(0) is None
    strip = pictures.strip(1)
    assert strip.shape == film.shape
    assert np.abs(strip.astype(int) - film).mean() < 12
    stored = pictures.stored(1)
    assert (stored.strip[:2], stored.film) == (b"\xff\xd8", b"an mp4")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((20, 64, 48, 3), (8, 64, 48, 3)), ((3, 120, 160, 3), (3, 48, 64, 3)), ((1, 16, 16, 3), (1, 16, 16, 3))],
)
def test_a_strip_is_small(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    frames = np.broadcast_to(np.arange(shape[0], dtype=np.uint8)[:, None, None, None], shape)
    strip = small_strip(frames)
    assert strip.shape == expected
    assert strip[0].max() == 0
    assert strip[-1].min() == shape[0] - 1


def test_a_strip_wants_colour_frames() -> None:
    with pytest.raises(RetrievalError, match=r"uint8 \(T, H, W, 3\) expected"):
        small_strip(np.zeros((3, 8, 8), dtype=np.uint8))
