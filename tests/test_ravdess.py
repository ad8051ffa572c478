"""RAVDESS: file names to words, landmarks by file, detector and framing, and the alignment of faces to them."""

from __future__ import annotations

import csv
import math
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_runs import run, samples
from numpy.typing import NDArray
from PIL import Image
from video_files import write_sound, write_video

from kineme.shards.codec import decode_clip, encode_clip
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.rejects import read_rejects
from kineme.shards.sample import Frames
from kineme.shards.sampling import Sampling
from kineme.shards.sources.alignment import (
    TEMPLATE,
    Similarity,
    align_frame,
    align_points,
    face_similarity,
    fit_similarity,
)
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.landmarks import FileLandmarks, detect_face, detector_installed, fill_gaps, five_points
from kineme.shards.sources.ravdess import FRAMING, AlignedFace, RavdessSource
from kineme.shards.sources.registry import find_source

NAME = "01-01-06-01-02-01-12"
needs_detector = pytest.mark.skipif(not detector_installed(), reason="no face detector: pip install 'kineme[faces]'")


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def _similarity(scale: float, angle: float, x: float, y: float) -> Similarity:
    matrix = scale * np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    return Similarity(matrix, np.array([x, y]))


def _landmarks(picture: Frames) -> NDArray[np.float64]:
    """Of a picture framed as RAVDESS is."""
    return np.array(FRAMING) * (picture.shape[1], picture.shape[0]) - 0.5


def _items(root: Path, **options: str) -> dict[str, SourceItem]:
    return {item.source: item for item in find_source("ravdess", options).items(root)}


def _stills(data_dir: Path) -> list[Frames]:
    paths = sorted((data_dir / "ravdess").glob("Actor_*.png"))
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def _write_still(path: Path, still: Frames, frames: int = 25) -> None:
    """A video of one picture that a bar of its frame's number runs through the bottom of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.repeat(still[None, :, : still.shape[1] // 2 * 2], frames, axis=0)
    for number in range(frames):
        pictures[number, -4:, : 10 * number] = 0
    path.write_bytes(encode_clip(pictures, 30)[0])


# ---- alignment


@given(
    st.floats(0.05, 20), st.floats(-math.pi, math.pi), st.floats(-500, 500), st.floats(-500, 500), st.integers(0, 1000)
)
def test_a_known_transform_is_found_again(scale: float, angle: float, x: float, y: float, seed: int) -> None:
    points = np.random.default_rng(seed).normal(0, 30, (5, 2))
    known = _similarity(scale, angle, x, y)
    found = fit_similarity(points, known(points))
    np.testing.assert_allclose(found.matrix, known.matrix, atol=1e-7 * scale)
    np.testing.assert_allclose(found.shift, known.shift, atol=1e-6 * max(1, scale))
    assert found.scale == pytest.approx(scale)


@given(st.integers(0, 10_000))
def test_it_is_the_least_squares_one(seed: int) -> None:
    """Against the linear least-squares problem in a, b, x, y, written out row by row."""
    rng = np.random.default_rng(seed)
    source, target = rng.normal((3, -2), 1, (5, 2)), rng.normal(0, 1, (5, 2))
    rows, wanted = [], []
    for (px, py), (qx, qy) in zip(source, target, strict=True):
        rows += [(px, -py, 1, 0), (py, px, 0, 1)]
        wanted += [qx, qy]
    a, b, x, y = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    found = fit_similarity(source, target)
    np.testing.assert_allclose(found.matrix, [(a, -b), (b, a)], atol=1e-9)
    np.testing.assert_allclose(found.shift, (x, y), atol=1e-9)


def test_points_in_one_place_are_no_face() -> None:
    with pytest.raises(UnreadableError, match="one place"):
        face_similarity(np.full((5, 2), 7.0), 96)
    with pytest.raises(UnreadableError, match="finite"):
        face_similarity(np.full((5, 2), np.nan), 96)


def test_landmarks_come_to_lie_on_the_template() -> None:
    points = _similarity(3.0, 0.4, 200, 90)(TEMPLATE * 96) - 0.5
    np.testing.assert_allclose(align_points(points, face_similarity(points, 96)), TEMPLATE * 96 - 0.5, atol=1e-9)


def test_whole_pixels_are_moved_bit_exact_and_turned_to_a_rounding() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    np.testing.assert_array_equal(align_frame(picture, _similarity(1, 0, -7, -3), 40), picture[3:43, 7:47])
    turned = align_frame(picture, _similarity(1, math.pi / 2, 40, 0), 40)
    np.testing.assert_allclose(turned.astype(int), np.rot90(picture[:40, :40], -1).astype(int), atol=1)


def test_beyond_the_picture_its_border_is_repeated() -> None:
    picture = np.full((30, 40, 3), (10, 200, 30), np.uint8)
    picture[:, 0] = (250, 0, 0)
    square = align_frame(picture, _similarity(1, 0, 12, 5), 32)
    assert (square[:, :12] == (250, 0, 0)).all()
    assert (square[:, 13:] == (10, 200, 30)).all()


def test_a_face_far_outside_is_refused() -> None:
    with pytest.raises(UnreadableError, match="within its 40x30 px"):
        align_frame(np.zeros((30, 40, 3), np.uint8), _similarity(1, 0, 500, 0), 32)


@pytest.mark.parametrize(("scale", "angle"), [(0.16, 0.1), (0.45, -0.3), (0.9, 0.05), (1.7, 0.2)])
def test_a_smooth_picture_is_what_it_was_at_the_point_it_came_from(scale: float, angle: float) -> None:
    """Every pixel of the square against the picture's own formula at the place it came from."""

    def colour(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return 128 + 60 * np.sin(x / 60) + 50 * np.cos(y / 45)

    rows, columns = np.mgrid[:360, :640]
    grey = colour(columns + 0.5, rows + 0.5)
    picture = np.rint(np.repeat(grey[..., None], 3, axis=-1)).astype(np.uint8)
    there = _similarity(scale, angle, 0, 0)
    centred = Similarity(there.matrix, np.array([24.0, 24.0]) - there.matrix @ (320, 180))
    square = align_frame(picture, centred, 48)
    y, x = np.mgrid[:48, :48] + 0.5
    back = (np.stack([x, y], axis=-1) - centred.shift) @ np.linalg.inv(centred.matrix).T
    np.testing.assert_allclose(square[..., 0], colour(back[..., 0], back[..., 1]), atol=4)


def test_fine_patterns_become_grey_and_not_moire() -> None:
    checks = np.indices((720, 1280)).sum(axis=0) % 2 * 255
    picture = np.repeat(checks[..., None], 3, axis=-1).astype(np.uint8)
    square = align_frame(picture, face_similarity(_landmarks(picture), 96), 96)
    assert np.abs(square.astype(int) - 127).max() <= 3


# ---- names


def test_the_2452_of_the_thesis_out_of_all_files_of_the_set(tmp_path: Path) -> None:
    """Speech: 8 emotions, neutral in one intensity; song: 6 of them; actor 18 does not sing. All in 3 modalities."""
    for actor, modality, channel in product(range(1, 25), (1, 2, 3), (1, 2)):
        if channel == 2 and actor == 18:
            continue
        kind = {1: "Video", 2: "Video", 3: "Audio"}[modality]
        folder = tmp_path / f"{kind}_{('Speech', 'Song')[channel - 1]}_Actor_{actor:02}" / f"Actor_{actor:02}"
        folder.mkdir(parents=True, exist_ok=True)
        for emotion, intensity, statement, take in product(range(1, 9 if channel == 1 else 7), (1, 2), (1, 2), (1, 2)):
            if (emotion, intensity) != (1, 2):
                fields = (modality, channel, emotion, intensity, statement, take, actor)
                (folder / ("-".join(f"{field:02}" for field in fields) + (".wav" if modality == 3 else ".mp4"))).touch()
    items = RavdessSource().items(tmp_path)
    taken = [item for item in items if isinstance(item.opener, AlignedFace)]
    assert (len(items), len(taken)) == (3 * 2452, 2452)
    assert {item.labels["modality"] for item in taken} == {"full-AV"}
    assert {item.labels["actor"] for item in taken if item.split == "test"} == {21, 22, 23, 24}
    assert {(item.labels["actor"] % 2, item.labels["sex"]) for item in taken} == {(1, "male"), (0, "female")}  # type: ignore[operator]
    assert RavdessSource().present(tmp_path)


def test_a_name_is_spelled_out(tmp_path: Path) -> None:
    _touch(tmp_path / f"{NAME}.mp4")
    _touch(tmp_path / "02-02-01-02-01-02-23.mp4")
    first, second = RavdessSource(landmarks="framing").items(tmp_path)
    assert dict(first.labels) == {
        "modality": "full-AV", "channel": "speech", "emotion": "fearful", "intensity": "normal", "statement": "dogs",
        "repetition": 1, "actor": 12, "sex": "female", "landmarks": "framing",
    }  # fmt: skip
    assert dict(second.labels) == {
        "modality": "video-only", "channel": "song", "emotion": "neutral", "intensity": "strong", "statement": "kids",
        "repetition": 2, "actor": 23, "sex": "male", "landmarks": "framing",
    }  # fmt: skip
    assert (first.split, second.split) == ("train", "test")
    (other, _) = find_source("ravdess", {"test_actors": "3,10-12"}).items(tmp_path)
    assert other.split == "test"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("landmarks", "eyes", "auto, file, detector, framing"),
        ("align_px", "0", "from 8 to 1024"),
        ("align_px", "96.5", "from 8 to 1024"),
        ("keypoints", "yes", "true or false"),
        ("test_actors", "25", "1 to 24"),
        ("test_actors", "5-3", "1 to 24"),
        ("test_actors", "a", "1 to 24"),
    ],
)
def test_a_wrong_option_is_one_line(option: str, value: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_source("ravdess", {option: value})


def test_a_folder_without_such_names(tmp_path: Path) -> None:
    _touch(tmp_path / "holiday.mp4")
    assert not RavdessSource().present(tmp_path)
    with pytest.raises(DataError, match="no file is named like"):
        RavdessSource().items(tmp_path)


# ---- landmarks


def _write_openface(path: Path, points: NDArray[np.float64], failed: tuple[int, ...] = ()) -> None:
    """Points (F, 68, 2) as OpenFace writes them: blanks in the header, 3D points called alike but for the case."""
    names = [f"{axis}_{number}" for axis in "xy" for number in range(68)]
    solid = [f"{axis}_{number}" for axis in "XYZ" for number in range(68)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", *(f" {name}" for name in ("face_id", "confidence", "success", *names, *solid))])
        for number, row in enumerate(points, 1):
            success = int(number - 1 not in failed)
            where = row if success else np.zeros_like(row)
            writer.writerow([number, 0, 0.98, success, *where.T.ravel().round(3), *np.zeros(204)])


def _sixty_eight(five: NDArray[np.float64]) -> NDArray[np.float64]:
    """68 points with the eyes as rings about theirs, the nose and the corners of the mouth on theirs."""
    ring = 5 * np.stack([np.cos(np.arange(6) * math.pi / 3), np.sin(np.arange(6) * math.pi / 3)], axis=-1)
    points = np.random.default_rng(0).uniform(0, 500, (68, 2))
    points[36:42], points[42:48] = five[0] + ring, five[1] + ring
    points[30], points[48], points[54] = five[2:]
    return points


def test_five_of_68_points() -> None:
    five = np.random.default_rng(1).uniform(0, 500, (5, 2))
    np.testing.assert_allclose(five_points(_sixty_eight(five)), five)


def test_gaps_are_filled_in_time() -> None:
    line = np.arange(12.0)[:, None, None] * np.ones((12, 5, 2))
    holed = line.copy()
    holed[[0, 4, 5, 11]] = np.nan
    filled = fill_gaps(holed)
    np.testing.assert_allclose(filled[1:11], line[1:11])
    np.testing.assert_allclose(filled[[0, 11]], line[[1, 10]])


def test_a_tracking_file_is_found_by_name_and_used(tmp_path: Path) -> None:
    """Also for the copy without sound, which has none of its own."""
    picture = np.random.default_rng(0).integers(0, 256, (72, 128, 3), np.uint8)
    moves = np.arange(25.0)[:, None, None] * (0.3, 0.1)
    points = _landmarks(picture) + moves
    root, out = tmp_path / "root", tmp_path / "out"
    _write_still(root / "Actor_12" / f"02{NAME[2:]}.mp4", picture)
    tracking = root / "FacialTracking_Actors_01-24" / f"{NAME}.csv"
    tracking.parent.mkdir()
    _write_openface(tracking, np.stack([_sixty_eight(row) for row in points]), failed=(7,))
    source = find_source("ravdess", {"keypoints": "true"})
    run(root, out, IngestSettings(96, Sampling(8, 3)), source)
    clips = samples(out)
    assert {clip.record.labels["landmarks"] for clip in clips} == {"file"}
    similarity = face_similarity(np.median(np.delete(points, 7, axis=0), axis=0), 96)
    wanted = align_points(points, similarity)
    keypoints = clips[0].keypoints
    assert keypoints is not None
    np.testing.assert_allclose(keypoints, wanted[:24:3], atol=2e-3)
    clip = decode_clip(clips[0].mp4)
    still = align_frame(picture, similarity, 96)
    np.testing.assert_allclose(clip[0, :60].astype(int), still[:60].astype(int), atol=1)
    whole = source.items(root)[0].opener.tracks().keypoints
    assert whole is not None
    np.testing.assert_allclose(whole, wanted, atol=2e-3)


def test_files_beside_the_video(tmp_path: Path) -> None:
    five = np.random.default_rng(0).uniform(0, 90, (5, 2))
    np.save(tmp_path / "one.npy", five)
    np.save(tmp_path / "many.npy", np.stack([_sixty_eight(five)] * 3))
    columns = [f"{axis}_{number}" for number in range(5) for axis in "xy"]
    (tmp_path / "five.csv").write_text(f"{','.join(columns)}\n{','.join(map(str, five.ravel().tolist()))}\n")
    for name, rows in (("one.npy", 1), ("many.npy", 3), ("five.csv", 1)):
        found = FileLandmarks(tmp_path / name).find(_no_reader, 1)
        np.testing.assert_allclose(found, np.repeat(five[None], rows, axis=0))


def _no_reader() -> Footage:
    raise AssertionError("a file of landmarks needs no video")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x_0,y_0\n1,2\n", "no column x_1"),
        ("a.csv", "", "not a CSV file of landmarks"),
        ("a.csv", ",".join(f"{a}_{n}" for n in range(5) for a in "xy") + "\n1,2,3\n", "not a CSV file of landmarks"),
        ("a.csv", ",".join(f"{a}_{n}" for n in range(5) for a in "xy") + "\n" + "b," * 10 + "\n", "not a CSV file"),
        ("a.npy", "hello", "not a NumPy array file"),
    ],
)
def test_a_wrong_landmarks_file_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        FileLandmarks(tmp_path / name).find(_no_reader, 1)
    assert "\n" not in str(caught.value)


def test_landmarks_of_another_shape_or_without_a_face(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 7, 2)))
    with pytest.raises(DataError, match=r"\(4, 7, 2\)"):
        FileLandmarks(tmp_path / "a.npy").find(_no_reader, 1)
    _write_openface(tmp_path / "b.csv", np.ones((3, 68, 2)), failed=(0, 1, 2))
    with pytest.raises(UnreadableError, match="no frame with a face"):
        FileLandmarks(tmp_path / "b.csv").find(_no_reader, 1)


def test_what_cannot_be_used_is_rejected_with_a_reason(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    good = root / f"{NAME}.mp4"
    root.mkdir()
    write_video(good, 40, size=(72, 128))
    np.save(good.with_name(f"{NAME}.landmarks.npy"), _landmarks(np.zeros((72, 128, 3), np.uint8)))
    write_video(root / f"02{NAME[2:]}.mp4", 40, size=(72, 128), seed=1)
    write_video(root / "01-01-01-01-01-01-01.mp4", 40, size=(72, 128), seed=2)
    for name in ("holiday.mp4", "01-01-09-01-01-01-01.mp4", "01-01-01-01-01-01-25.mp4", "03-01-01-01-01-01-02.wav"):
        _touch(root / name)
    write_sound(root / "03-01-01-01-01-01-03.mp4")
    run(root, out, IngestSettings(96, Sampling(8, 3)), RavdessSource(landmarks="file"))
    assert {clip.record.source for clip in samples(out)} == {good.name}
    rejects = {reject.path: reject.reason for reject in read_rejects(out)}
    expected = {
        f"02{NAME[2:]}.mp4": f"duplicate of {NAME}.mp4",
        "01-01-01-01-01-01-01.mp4": "no landmarks file",
        "holiday.mp4": "not the seven numbers",
        "01-01-09-01-01-01-01.mp4": "emotion 09; 01 to 08",
        "01-01-01-01-01-01-25.mp4": "actor 25; 01 to 24",
        "03-01-01-01-01-01-02.wav": "audio-only",
        "03-01-01-01-01-01-03.mp4": "audio-only",
    }
    assert rejects.keys() == expected.keys()
    assert all(expected[name] in rejects[name] for name in expected), rejects


def test_keypoints_need_landmarks_of_frames(tmp_path: Path) -> None:
    _touch(tmp_path / f"{NAME}.mp4")
    with pytest.raises(DataError, match="landmarks=framing"):
        find_source("ravdess", {"keypoints": "true", "landmarks": "framing"})
    if not detector_installed():
        (item,) = _items(tmp_path, keypoints="true").values()
        with pytest.raises(UnreadableError, match="landmarks file"):
            item.opener.sha256()
        with pytest.raises(DataError, match="kineme\\[faces\\]"):
            _items(tmp_path, landmarks="detector")


def test_a_changed_landmarks_file_changes_the_stamp(tmp_path: Path) -> None:
    _touch(tmp_path / f"{NAME}.mp4")
    beside = tmp_path / f"{NAME}.landmarks.npy"
    np.save(beside, np.zeros((5, 2)))
    before = _items(tmp_path)[f"{NAME}.mp4"].opener.stamp()
    later = before.modified_ns + 10**9
    os.utime(beside, ns=(later, later))
    assert _items(tmp_path)[f"{NAME}.mp4"].opener.stamp() == (before.bytes, later)


# ---- the 24 real stills


def _eyes_off(stills: list[Frames], landmarks: list[NDArray[np.float64]], truth: list[NDArray[np.float64]]) -> float:
    """Mean distance of the eyes from the template's, as a part of the distance between the eyes."""
    off = []
    for still, points, eyes in zip(stills, landmarks, truth, strict=True):
        assert align_frame(still, face_similarity(points, 96), 96).shape == (96, 96, 3)
        aligned = align_points(eyes, face_similarity(points, 96)) + 0.5
        off.append(np.linalg.norm(aligned[:2] - TEMPLATE[:2] * 96, axis=1).mean() / 24)
    return float(np.mean(off))


def test_the_fixed_framing_puts_a_face_into_the_square(data_dir: Path, tmp_path: Path) -> None:
    """Background in the upper corners, a face in the middle: skin is redder than it is blue, the wall is not."""
    for number, still in enumerate(_stills(data_dir)[::4], 1):
        _write_still(tmp_path / "in" / f"01-01-01-01-01-01-{number:02}.mp4", still)
    run(tmp_path / "in", tmp_path / "out", IngestSettings(96, Sampling(8, 3)), RavdessSource(landmarks="framing"))
    clips = samples(tmp_path / "out")
    assert len(clips) == 12
    for clip in clips:
        assert clip.record.labels["landmarks"] == "framing"
        assert clip.record.fps == pytest.approx(10)
        frame = decode_clip(clip.mp4)[0].astype(int)
        redness = frame[..., 0] - frame[..., 2]
        assert redness[45:85, 38:58].mean() > 25
        assert np.abs(redness[:15, :12]).mean() < 20


@needs_detector
def test_the_detector_aligns_every_still_and_the_framing_nearly(data_dir: Path) -> None:
    stills = _stills(data_dir)
    assert len(stills) == 24
    truth = []
    for still in stills:
        found = detect_face(still)
        assert found is not None
        truth.append(found)
    assert _eyes_off(stills, truth, truth) < 0.04
    assert 0.05 < _eyes_off(stills, [_landmarks(still) for still in stills], truth) < 0.25
    fractions = np.array(
        [(eyes + 0.5) / (still.shape[1], still.shape[0]) for still, eyes in zip(stills, truth, strict=True)]
    )
    np.testing.assert_allclose(np.median(fractions, axis=0), FRAMING, atol=6e-3)


@needs_detector
def test_the_detector_in_an_ingest(data_dir: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    still = _stills(data_dir)[4]
    _write_still(root / f"{NAME}.mp4", np.roll(still, 40, axis=1))
    _write_still(root / "01-01-01-01-01-01-02.mp4", np.full((224, 398, 3), 200, np.uint8))
    run(root, out, IngestSettings(96, Sampling(8, 3)), find_source("ravdess", {"keypoints": "true"}))
    clips = samples(out)
    assert {clip.record.labels["landmarks"] for clip in clips} == {"detector"}
    keypoints = clips[0].keypoints
    assert keypoints is not None
    assert keypoints.shape == (8, 5, 2)
    assert np.abs(keypoints - (TEMPLATE * 96 - 0.5)).max() < 4
    (reject,) = read_rejects(out)
    assert (reject.path, "finds no face" in reject.reason) == ("01-01-01-01-01-01-02.mp4", True)
