"""The BAIR robot pushing set, from files written here in its official format and from ten real sequences."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from ingest_runs import run, samples
from PIL import Image
from tfrecord_files import bytes_list, example, float_list, int64_list, record

from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.training import train
from kineme.shards.codec import decode_clip
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings
from kineme.shards.media import UnreadableError
from kineme.shards.sampling import Sampling
from kineme.shards.sources.bair import FPS, BairSource
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.registry import find_source

SETTINGS = IngestSettings(size=64, sampling=Sampling(clip_frames=30))


class Sequence30:
    """One sequence of the set, drawn at random."""

    def __init__(self, seed: int, frames: int = 30) -> None:
        rng = np.random.default_rng(seed)
        self.aux1 = rng.integers(256, size=(frames, 64, 64, 3), dtype=np.uint8)
        self.main = rng.integers(256, size=(frames, 64, 64, 3), dtype=np.uint8)
        self.actions = rng.standard_normal((frames, 4)).astype(np.float32)
        self.positions = rng.standard_normal((frames, 3)).astype(np.float32)

    def features(self) -> dict[str, bytes]:
        features = {}
        for t in range(len(self.aux1)):
            features[f"{t}/action"] = float_list(self.actions[t].tolist())
            features[f"{t}/image_main/encoded"] = bytes_list([self.main[t].tobytes()])
            features[f"{t}/endeffector_pos"] = float_list(self.positions[t].tolist())
            features[f"{t}/image_aux1/encoded"] = bytes_list([self.aux1[t].tobytes()])
        return features

    def tracks(self) -> np.ndarray:
        return np.concatenate([self.actions, self.positions], axis=1)

    def write_images(self, folder: Path, actions: bool = True, titles: bool = False) -> None:
        folder.mkdir(parents=True)
        for t, image in enumerate(self.aux1):
            Image.fromarray(image).save(folder / f"{t}.png")
        if actions:
            np.savetxt(folder / "actions.csv", self.actions, delimiter=",", header="dx,dy,r,g" * titles, comments="")
            np.savetxt(folder / "endeffector_positions.csv", self.positions, delimiter=",")


@pytest.fixture(scope="module")
def sequences() -> list[Sequence30]:
    return [Sequence30(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def official(sequences: list[Sequence30], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training sequences in two files, one test sequence."""
    root = tmp_path_factory.mktemp("bair")
    files = {"train/traj_256_to_511": (0, 1), "train/traj_1024_to_1279": (2,), "test/traj_0_to_255": (3,)}
    for name, numbers in files.items():
        path = root / "softmotion30_44k" / f"{name}.tfrecords"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(record(example(sequences[number].features())) for number in numbers))
    return root


def frames_of(item: SourceItem) -> np.ndarray:
    (reader,) = item.opener.readers()
    return np.stack([frame.image for frame in reader().frames])


def read_all(item: SourceItem) -> None:
    item.opener.sha256()
    item.opener.tracks()
    frames_of(item)


def reject_reason(item: SourceItem) -> str:
    with pytest.raises((UnreadableError, DataError)) as caught:
        read_all(item)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("deeper", ["", "softmotion30_44k"])
def test_official_records(official: Path, sequences: list[Sequence30], deeper: str) -> None:
    source = BairSource()
    assert source.present(official / deeper)
    assert not source.repeats
    items = source.items(official / deeper)
    assert [(item.source, item.split) for item in items] == [
        ("test/traj_0_to_255.tfrecords/0", "test"),
        ("train/traj_256_to_511.tfrecords/0", "train"),
        ("train/traj_256_to_511.tfrecords/1", "train"),
        ("train/traj_1024_to_1279.tfrecords/0", "train"),
    ]
    for item, number in zip(items, (3, 0, 1, 2), strict=True):
        np.testing.assert_array_equal(frames_of(item), sequences[number].aux1)
        actions = item.opener.tracks().actions
        assert actions is not None
        assert actions.dtype == np.float32
        np.testing.assert_array_equal(actions, sequences[number].tracks())
        whole = example(sequences[number].features())
        assert item.opener.sha256() == hashlib.sha256(whole).hexdigest()
        assert item.opener.stamp().bytes == len(whole)
    alone = source.items(official / "softmotion30_44k" / "train")
    assert [(item.source, item.split) for item in alone] == [
        (item.source.removeprefix("train/"), "train") for item in items[1:]
    ]


def test_either_camera(official: Path, sequences: list[Sequence30]) -> None:
    items = find_source("bair", {"camera": "main"}).items(official)
    np.testing.assert_array_equal(frames_of(items[1]), sequences[0].main)
    with pytest.raises(DataError, match="aux1 or main"):
        find_source("bair", {"camera": "aux2"})


def test_damage_costs_the_sequences_it_hits(official: Path, sequences: list[Sequence30], tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    whole = (official / "softmotion30_44k/train/traj_256_to_511.tfrecords").read_bytes()
    flipped = bytearray(whole)
    flipped[2000] ^= 1
    (tmp_path / "train" / "a.tfrecords").write_bytes(flipped)
    (tmp_path / "train" / "b.tfrecords").write_bytes(whole[:-100])
    (tmp_path / "train" / "c.tfrecords").write_bytes(b"")
    (tmp_path / "train" / "d.tfrecords").write_bytes(b"this is not a file of records at all")
    (tmp_path / "train" / "e.tfrecords").write_bytes(record(b"nor is this an example"))
    (tmp_path / "train" / "f.tfrecords").symlink_to(tmp_path / "nowhere")
    report = run(tmp_path, tmp_path / "out", SETTINGS, BairSource())
    reasons = {reject.path.removeprefix("train/"): reject.reason for reject in report.rejects}
    assert reasons.keys() == {f"{file}.tfrecords/{n}" for file, n in zip("abcdef", (0, 1, 0, 0, 0, 0), strict=True)}
    assert "damaged: the data of this record" in reasons["a.tfrecords/0"]
    assert "cut short" in reasons["b.tfrecords/1"]
    assert "empty" in reasons["c.tfrecords/0"]
    assert "damaged: the length" in reasons["d.tfrecords/0"]
    assert "not a tf.train.Example" in reasons["e.tfrecords/0"]
    assert "No such file" in reasons["f.tfrecords/0"]
    assert {sample.record.source for sample in samples(tmp_path / "out")} == {
        "train/a.tfrecords/1", "train/b.tfrecords/0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("1/image_aux1/encoded", None, "no 1/image_aux1/encoded"),
        ("1/image_aux1/encoded", bytes_list([bytes(100)]), "not one image"),
        ("1/image_aux1/encoded", float_list([1.0]), "not one image"),
        ("2/action", None, "2/action"),
        ("2/action", float_list([1.0, 2.0, 3.0]), "2/action"),
        ("0/endeffector_pos", int64_list([1, 2, 3]), "0/endeffector_pos"),
        ("0/endeffector_pos", float_list([1.0, float("nan"), 3.0]), "not finite"),
    ],
)
def test_a_record_that_lacks_something_is_rejected(tmp_path: Path, key: str, value: bytes | None, reason: str) -> None:
    features = Sequence30(0, frames=3).features()
    del features[key]
    if value is not None:
        features[key] = value
    (tmp_path / "x.tfrecords").write_bytes(record(example(features)))
    (item,) = BairSource().items(tmp_path)
    assert item.split == "test"
    assert reason in reject_reason(item)


def test_records_end_to_end(official: Path, sequences: list[Sequence30], tmp_path: Path) -> None:
    report = run(official, tmp_path / "out", SETTINGS, BairSource(), workers=2)
    assert (report.manifest.videos, report.manifest.clips, report.manifest.rejects) == (4, 4, 0)
    assert report.rates == {FPS: 4}
    for sample, number in zip(samples(tmp_path / "out"), (3, 0, 1, 2), strict=True):
        assert sample.record.split == ("test" if number == 3 else "train")
        assert sample.record.num_frames == 30
        assert sample.keypoints is None
        np.testing.assert_array_equal(decode_clip(sample.mp4), sequences[number].aux1)
        assert sample.actions is not None
        np.testing.assert_array_equal(sample.actions, sequences[number].tracks())


@pytest.mark.parametrize("prior", ["fixed", "learned"])
def test_the_recipe_trains_and_is_measured_on_official_records(official: Path, tmp_path: Path, prior: str) -> None:
    """The recipe as shipped, but narrow and short."""
    run(official, tmp_path / "shards", SETTINGS, BairSource(), workers=1)
    narrow = ["model.width=2", "model.feature_dim=8", "model.hidden_dim=8", "model.latent_dim=4"]
    short = ["data.batch_size=1", "data.workers=0", "data.held_out=0", "training.epochs=1"]
    recipe = load_recipe("frame-predictor/bair", [*narrow, *short, f"model.learned_prior={prior == 'learned'}"])
    train(recipe, tmp_path / "shards", tmp_path / "run", accelerator="cpu")
    metrics = evaluate_run(tmp_path / "run", tmp_path / "shards", options={"samples": "2"})["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["clips"] == 1
    assert 0 < metrics["prediction/psnr"] <= metrics["prediction/psnr_best_of_n"]


def test_numbered_images_with_actions(sequences: list[Sequence30], tmp_path: Path) -> None:
    base = tmp_path / "processed_data"
    # Some conversions keep the file's whole name for the folder.
    sequences[0].write_images(base / "train" / "traj_512_to_767.tfrecords" / "2", titles=True)
    sequences[1].write_images(base / "train" / "traj_512_to_767.tfrecords" / "10")
    sequences[2].write_images(base / "validate" / "traj_256_to_511.tfrecords" / "0", actions=False)
    sequences[3].write_images(base / "test" / "traj_0_to_255" / "1")
    assert BairSource().present(tmp_path)
    report = run(tmp_path, tmp_path / "out", SETTINGS, BairSource())
    assert report.rejects == []
    assert report.rates == {FPS: 4}
    found = {sample.record.source: sample for sample in samples(tmp_path / "out")}
    for name, split, number in (
        ("train/traj_512_to_767.tfrecords/2", "train", 0),
        ("train/traj_512_to_767.tfrecords/10", "train", 1),
        ("validate/traj_256_to_511.tfrecords/0", "validation", 2),
        ("test/traj_0_to_255/1", "test", 3),
    ):
        sample = found[name]
        assert sample.record.split == split
        np.testing.assert_array_equal(decode_clip(sample.mp4), sequences[number].aux1)
        if number == 2:
            assert sample.actions is None
        else:
            np.testing.assert_allclose(sample.actions, sequences[number].tracks(), rtol=1e-6)
    with pytest.raises(DataError, match="camera"):
        BairSource(camera="main").items(tmp_path)


def test_of_a_split_with_actions_what_has_none_is_rejected(tmp_path: Path) -> None:
    sequence = Sequence30(0, frames=3)
    sequence.write_images(tmp_path / "train" / "traj_0" / "0")
    for number, wrong in enumerate(("actions.csv", "endeffector_positions.csv"), 1):
        sequence.write_images(tmp_path / "train" / "traj_0" / str(number))
        (tmp_path / "train" / "traj_0" / str(number) / wrong).unlink()
    items = BairSource().items(tmp_path)
    assert items[0].opener.tracks().actions is not None
    assert all("others of its split" in reject_reason(item) for item in items[1:])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("1,2,3,4\n1,2,3\n1,2,3,4\n", "frame 1"),
        ("1,2,3,4\n1,2,3,4\n1,2,3,inf\n", "frame 2"),
        ("1,2,3,4\n1,2,3,4\n", "one a frame"),
        ("\xff\xfe", "not"),
    ],
)
def test_actions_that_do_not_fit_are_a_reason(tmp_path: Path, rows: str, reason: str) -> None:
    Sequence30(0, frames=3).write_images(tmp_path / "0")
    (tmp_path / "0" / "actions.csv").write_bytes(rows.encode("latin-1"))
    (item,) = BairSource().items(tmp_path)
    assert reason in reject_reason(item)


def test_one_row_too_few_is_rejected_on_ingest(tmp_path: Path) -> None:
    sequence = Sequence30(0, frames=4)
    sequence.write_images(tmp_path / "videos" / "0")
    sequence.write_images(tmp_path / "videos" / "1")
    for name in ("actions.csv", "endeffector_positions.csv"):
        path = tmp_path / "videos" / "0" / name
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (tmp_path / "videos" / "1" / "0.png").write_bytes((tmp_path / "videos" / "1" / "3.png").read_bytes())
    report = run(tmp_path / "videos", tmp_path / "out", IngestSettings(sampling=Sampling(clip_frames=4)), BairSource())
    assert [reject.path for reject in report.rejects] == ["0"]
    assert "3 rows of actions" in report.rejects[0].reason


def test_what_is_no_bair_is_refused(tmp_path: Path) -> None:
    source = BairSource()
    assert not source.present(tmp_path)
    with pytest.raises(DataError, match="no sequence"):
        source.items(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        source.items(tmp_path / "nowhere")


def test_the_ten_real_sequences(data_dir: Path, tmp_path: Path) -> None:
    """Row 0 and column 0 of these are black; nothing is known of the actions."""
    if not (data_dir / "bair").is_dir():
        pytest.skip(f"no bair at {data_dir}")
    report = run(data_dir / "bair", tmp_path / "out", SETTINGS, BairSource(), workers=2)
    assert report.rejects == []
    found = samples(tmp_path / "out")
    assert len(found) == 10
    for sample in found:
        assert (sample.record.split, sample.record.num_frames, sample.record.fps) == ("test", 30, FPS)
        assert sample.actions is None
        frames = decode_clip(sample.mp4)
        for t in (0, 9, 10, 29):
            with Image.open(data_dir / "bair" / sample.record.source / f"{t}.png") as image:
                np.testing.assert_array_equal(frames[t], np.asarray(image.convert("RGB")))
        assert not frames[:, 0].any()
        assert not frames[:, :, 0].any()
