"""An index in the formats of other programs, read back by their own means."""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_up_clips import make_frames, make_records, make_vectors
from typer.testing import CliRunner
from video_files import write_video

from kineme.pipeline.cli import app
from kineme.pipeline.errors import RunError
from kineme.pipeline.video_facts import video_facts
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.export import FORMATS, Format, export_index
from kineme.retrieval.fiftyone_layout import VideoFacts, Videos, frame_support
from kineme.retrieval.growing import add_clips, build_index, remove_clips
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.previews import Picture
from kineme.retrieval.vectors import SPACES

LABELS: list[dict[str, Any]] = [
    {"action": "walk", "speed": 1.5, "people": 1, "indoors": True, "motion": "up"},
    {"action": "run", "people": 2, "motion": "down"},
    {"action": "walk", "speed": 2, "dataset": "theirs"},
    {"camera.name": "left"},
    {"action": "jump"},
]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Five clips in two segments, and two that were removed from them."""
    records = [replace(record, start_s=0.4, end_s=1.2) for record in make_records([*LABELS, {"gone": 1}, {"gone": 2}])]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: made-up\n", encoding="utf-8")
    first, later = [*records[:3], records[5]], [records[3], records[6], records[4]]
    pictures = [Picture(record.key, make_frames(number)) for number, record in enumerate(records)]
    build_index(
        tmp_path / "index",
        make_vectors([record.key for record in first]),
        first,
        encoder="made-up",
        encoder_files={"recipe.yaml": recipe},
        data="made-up shards",
        pictures=[*pictures[:3], pictures[5]],
        metrics={"motion": "l2"},
    )
    # A third of the size and it would be taken into the first.
    add_clips(tmp_path / "index", make_vectors([record.key for record in later], seed=1), later, [])
    remove_clips(tmp_path / "index", [records[5].key, records[6].key])
    return open_index(tmp_path / "index")


def contents(path: Path) -> dict[str, bytes]:
    """Every file at or below a path."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path.parent).as_posix(): file.read_bytes() for file in files}


def test_parquet_has_a_row_a_clip_with_labels_and_vectors_as_columns(index: Index, tmp_path: Path) -> None:
    assert export_index(index, tmp_path / "new folder" / "clips.parquet", "parquet") == 5

    table = pq.read_table(tmp_path / "new folder" / "clips.parquet")
    assert table.column("key").to_pylist() == index.keys
    assert table.column("action").to_pylist() == ["walk", "run", "walk", None, "jump"]
    assert table.column("speed").to_pylist() == [1.5, None, 2.0, None, None]
    assert table.column("label_motion").to_pylist() == ["up", "down", None, None, None]
    assert table.column("label_dataset").to_pylist() == [None, None, "theirs", None, None]
    assert table.column("dataset").to_pylist() == ["made-up"] * 5
    assert "gone" not in table.column_names
    for space in SPACES:
        kind = table.schema.field(space).type
        assert (str(kind.value_type), kind.list_size) == ("float", index.info.dims[space])
        np.testing.assert_array_equal(np.stack(table.column(space).to_numpy()), index.space(space))
    said = json.loads(table.schema.metadata[b"kineme"])
    assert (said["clips"], said["encoder"], said["generation"], said["metrics"]["motion"]) == (5, "made-up", 3, "l2")
    assert said["labels"]["label_motion"] == "motion"


def test_npy_has_arrays_in_the_order_of_the_keys(index: Index, tmp_path: Path) -> None:
    export_index(index, tmp_path / "arrays", "npy")

    assert json.loads((tmp_path / "arrays" / "keys.json").read_text(encoding="utf-8")) == index.keys
    assert pq.read_table(tmp_path / "arrays" / "metadata.parquet").column("key").to_pylist() == index.keys
    for space in SPACES:
        np.testing.assert_array_equal(np.load(tmp_path / "arrays" / f"{space}.npy"), index.space(space))


@pytest.mark.parametrize("form", FORMATS)
def test_blocks_of_any_size_make_the_same_export(
    index: Index, tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_index(index, tmp_path / "one", form)
    monkeypatch.setattr("kineme.retrieval.export._BLOCK_ROWS", 2)
    export_index(index, tmp_path / "many", form)

    if form == "parquet":
        assert [pq.ParquetFile(tmp_path / name).num_row_groups for name in ("one", "many")] == [1, 3]
        assert pq.read_table(tmp_path / "one").equals(pq.read_table(tmp_path / "many"))
    else:
        one, many = contents(tmp_path / "one"), contents(tmp_path / "many")
        assert list(one.values()) == list(many.values())


@pytest.mark.parametrize("form", FORMATS)
def test_a_filter_exports_a_part(index: Index, tmp_path: Path, form: Format) -> None:
    assert export_index(index, tmp_path / "part", form, where="action = 'walk' or \"camera.name\" = 'left'") == 3

    wanted = [index.keys[0], index.keys[2], index.keys[3]]
    if form == "parquet":
        table = pq.read_table(tmp_path / "part")
        keys, motion = table.column("key").to_pylist(), np.stack(table.column("motion").to_numpy())
    elif form == "npy":
        keys = json.loads((tmp_path / "part" / "keys.json").read_text(encoding="utf-8"))
        motion = np.load(tmp_path / "part" / "motion.npy")
    else:
        samples = samples_of(tmp_path / "part")
        keys, motion = [sample["key"] for sample in samples], np.stack([unpacked(one["motion"]) for one in samples])
    assert keys == wanted
    np.testing.assert_array_equal(motion, index.space("motion")[[0, 2, 3]])


def samples_of(folder: Path) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = json.loads((folder / "samples.json").read_text(encoding="utf-8"))["samples"]
    return samples


def unpacked(vector: dict[str, Any]) -> np.ndarray:
    """As FiftyOne's VectorField reads it."""
    data = zlib.decompress(base64.b64decode(vector["$binary"]["base64"]))
    array: np.ndarray = np.load(io.BytesIO(data))
    return array


def test_fiftyone_without_videos_has_relative_paths_and_no_frames(index: Index, tmp_path: Path) -> None:
    export_index(index, tmp_path / "fo", "fiftyone")

    dataset = json.loads((tmp_path / "fo" / "metadata.json").read_text(encoding="utf-8"))
    fields = {field["name"]: field for field in dataset["sample_fields"]}
    assert (dataset["media_type"], dataset["version"]) == ("video", "1.0.0")
    assert fields["action"]["embedded_doc_type"] == "fiftyone.core.labels.Classification"
    assert [field["db_field"] for field in fields["action"]["fields"]] == [
        "_id",
        "tags",
        "label",
        "confidence",
        "logits",
    ]
    for name, kind in {
        "motion": "Vector",
        "speed": "Float",
        "people": "Int",
        "indoors": "Boolean",
        "key": "String",
    }.items():
        assert fields[name]["ftype"] == f"fiftyone.core.fields.{kind}Field"
    assert "clip" not in fields
    first, _, third, fourth, _ = samples_of(tmp_path / "fo")
    # Each document has the fields that are declared, but for those that the importer sets.
    declared = set(fields) - {"id", "_dataset_id", "created_at", "last_modified_at"}
    assert set(first) == declared | {"_id"}
    assert first["filepath"] == first["source"] == "videos/0.mp4"
    assert (first["_media_type"], first["tags"], first["metadata"]) == ("video", ["test"], None)
    assert first["action"] == {"_id": first["action"]["_id"], "_cls": "Classification", "tags": [], "label": "walk"}
    assert (first["speed"], first["people"], first["indoors"], first["label_motion"]["label"]) == (1.5, 1, True, "up")
    assert (third["dataset_name"], third["label_dataset"]["label"]) == ("made-up", "theirs")
    assert (fourth["action"], fourth["camera_name"]["label"]) == (None, "left")
    assert dataset["info"]["kineme"]["labels"]["camera_name"] == "camera.name"
    for space in SPACES:
        np.testing.assert_array_equal(unpacked(first[space]), index.vector(index.keys[0], space))
    ids = [sample["_id"]["$oid"] for sample in samples_of(tmp_path / "fo")]
    assert len(set(ids)) == 5
    assert all(len(text) == 24 and int(text, 16) for text in ids)


def test_fiftyone_with_videos_has_their_facts_and_the_frames_of_the_clips(index: Index, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for clip in index.clips(index.live_rows):
        write_video(tmp_path / clip.source, 40, (32, 48), fps=25)

    export_index(index, tmp_path / "fo", "fiftyone", videos=Videos(tmp_path, video_facts))

    sample = samples_of(tmp_path / "fo")[1]
    assert sample["filepath"] == str(tmp_path.resolve() / "videos/1.mp4")
    assert sample["metadata"] == {
        "_cls": "VideoMetadata",
        "frame_width": 48,
        "frame_height": 32,
        "frame_rate": 25.0,
        "total_frame_count": 40,
        "duration": pytest.approx(1.6),
    }
    # 0.4 to 1.2 s at 25 frames a second: the eleventh frame begins at 0.4 s, the thirtieth ends at 1.2 s.
    assert sample["clip"]["support"] == [11, 30]
    assert (sample["clip"]["_cls"], sample["clip"]["label"]) == ("TemporalDetection", sample["key"])


@pytest.mark.parametrize(
    ("start_s", "end_s", "frames"),
    [(0.0, 0.04, [1, 1]), (0.0, 1.6, [1, 40]), (0.02, 0.1, [1, 3]), (0.32, 0.64, [9, 16]), (1.2, 9.0, [31, 40])],
)
def test_frames_of_a_span(start_s: float, end_s: float, frames: list[int]) -> None:
    assert frame_support(start_s, end_s, VideoFacts(25.0, 40, 1.6, 32, 32)) == frames
    assert frame_support(round(start_s, 6) + 4e-7, end_s + 4e-7, VideoFacts(25.0, 40, 1.6, 32, 32)) == frames


def test_a_video_that_is_not_where_it_should_be(index: Index, tmp_path: Path) -> None:
    videos = Videos(tmp_path / "wrong", video_facts)
    with pytest.raises(RetrievalError, match=r"wrong/videos/0.mp4: there is no such video; .*--video-root"):
        export_index(index, tmp_path / "fo", "fiftyone", videos=videos)
    assert not (tmp_path / "fo").exists()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "0.mp4").write_text("no video", encoding="utf-8")
    with pytest.raises(RetrievalError, match=r"videos/0.mp4: not a video FFmpeg can read"):
        export_index(index, tmp_path / "fo", "fiftyone", videos=Videos(tmp_path, video_facts))


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_replaced_only_when_told_and_then_whole(index: Index, tmp_path: Path, form: Format) -> None:
    out = tmp_path / "out"
    export_index(index, out, form)
    before = contents(out)

    with pytest.raises(RetrievalError, match="already holds an export; add --force"):
        export_index(index, out, form, where="action = 'run'")
    assert contents(out) == before
    export_index(index, out, form, where="action = 'run'", overwrite=True)
    export_index(index, tmp_path / "fresh", form, where="action = 'run'")

    assert list(contents(out).values()) == list(contents(tmp_path / "fresh").values())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_fails_leaves_what_was_there(
    index: Index, tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_index(index, out, form)
    before = contents(out)
    monkeypatch.setattr("kineme.retrieval.export._BLOCK_ROWS", 2)
    parts = Index.parts

    def parts_of_a_dying_disk(self: Index, rows: np.ndarray) -> Any:
        if rows[0] > 2:
            raise OSError(5, "Input/output error")
        return parts(self, rows)

    monkeypatch.setattr(Index, "parts", parts_of_a_dying_disk)
    for target in (out, tmp_path / "new"):
        with pytest.raises(OSError, match="Input/output"):
            export_index(index, target, form, overwrite=True)

    assert contents(out) == before
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_is_no_export_is_left_alone(index: Index, tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_text("mine", encoding="utf-8")
    pq.write_table(index.table, tmp_path / "table.parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "export.json").write_text("[]", encoding="utf-8")
    for name in ("notes.parquet", "table.parquet", "folder", "index"):
        for form in FORMATS:
            before = contents(tmp_path / name)
            with pytest.raises(RetrievalError, match="is not an export: it is left alone"):
                export_index(index, tmp_path / name, form, overwrite=True)
            assert contents(tmp_path / name) == before


def test_an_export_of_another_form_or_with_files_of_the_user_is_left_alone(index: Index, tmp_path: Path) -> None:
    export_index(index, tmp_path / "out", "npy")
    with pytest.raises(RetrievalError, match="is an export as npy, not as fiftyone"):
        export_index(index, tmp_path / "out", "fiftyone", overwrite=True)
    (tmp_path / "out" / "plot.png").write_bytes(b"mine")
    with pytest.raises(RetrievalError, match=r"holds plot\.png, which is not of the export"):
        export_index(index, tmp_path / "out", "npy", overwrite=True)
    assert (tmp_path / "out" / "plot.png").read_bytes() == b"mine"


def test_an_empty_folder_may_be_the_target(index: Index, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_index(index, tmp_path / "empty", "npy")
    assert (tmp_path / "empty" / "motion.npy").is_file()


def test_nothing_to_export_is_said(index: Index, tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="no clip that passes the filter \"action = 'swim'\""):
        export_index(index, tmp_path / "out.parquet", "parquet", where="action = 'swim'")
    remove_clips(index.folder, index.keys)
    with pytest.raises(RetrievalError, match="holds no clips"):
        export_index(open_index(index.folder), tmp_path / "out.parquet", "parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_the_command(index: Index, tmp_path: Path) -> None:
    out = tmp_path / "clips.parquet"
    done = CliRunner().invoke(app, ["export", str(index.folder), "--out", str(out), "--where", "people > 0"])
    assert (done.exit_code, done.output) == (0, f"{out}: 2 clips exported as parquet\n")
    assert pq.read_table(out).num_rows == 2

    (tmp_path / "videos").mkdir()
    for clip in index.clips(index.live_rows):
        write_video(tmp_path / clip.source, 40)
    fo = ["export", str(index.folder), "--out", str(tmp_path / "fo"), "--format", "fiftyone"]
    done = CliRunner().invoke(app, [*fo, "--video-root", str(tmp_path)])
    assert done.exit_code == 0
    assert len(samples_of(tmp_path / "fo")) == 5


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--video-root", "."], "parquet holds no videos"),
        (["--format", "fiftyone", "--video-root", "absent"], "there is no such folder"),
    ],
)
def test_video_roots_that_make_no_sense(index: Index, tmp_path: Path, arguments: list[str], why: str) -> None:
    done = CliRunner().invoke(app, ["export", str(index.folder), "--out", str(tmp_path / "out"), *arguments])
    assert isinstance(done.exception, RunError)
    assert why in str(done.exception)
