"""RAVDESS: file names to words, landmarks by file, detector and framing, and faces aligned by them."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from face_files import framed_landmarks, sixty_eight, write_openface
from ingest_runs import run, samples
from numpy.typing import NDArray
from PIL import Image
from video_files import write_sound, write_video

from kineme.shards.codec import decode_clip, encode_clip
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings
from kineme.shards.media import UnreadableError
from kineme.shards.rejects import read_rejects
from kineme.shards.sample import Frames
from kineme.shards.sampling import Sampling
from kineme.shards.sources.alignment import TEMPLATE, align_frame, align_points, face_similarity
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.landmarks import detect_face, detector_installed
from kineme.shards.sources.ravdess import FRAMING, AlignedFace, RavdessSource
from kineme.shards.sources.registry import find_source

NAME = "01-01-06-01-02-01-12"
needs_detector = pytest.mark.skipif(not detector_installed(), reason="no face detector: pip install 'kineme[faces]'")


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


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


def test_a_tracking_file_is_found_by_name_and_used(tmp_path: Path) -> None:
    """Also for the copy without sound, which has none of its own."""
    picture = np.random.default_rng(0).integers(0, 256, (72, 128, 3), np.uint8)
    moves = np.arange(25.0)[:, None, None] * (0.3, 0.1)
    points = framed_landmarks(picture) + moves
    root, out = tmp_path / "root", tmp_path / "out"
    _write_still(root / "Actor_12" / f"02{NAME[2:]}.mp4", picture)
    tracking = root / "FacialTracking_Actors_01-24" / f"{NAME}.csv"
    tracking.parent.mkdir()
    write_openface(tracking, np.stack([sixty_eight(row) for row in points]), failed=(7,))
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


def test_what_cannot_be_used_is_rejected_with_a_reason(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    good = root / f"{NAME}.mp4"
    root.mkdir()
    write_video(good, 40, size=(72, 128))
    np.save(good.with_name(f"{NAME}.landmarks.npy"), framed_landmarks(np.zeros((72, 128, 3), np.uint8)))
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
    assert 0.05 < _eyes_off(stills, [framed_landmarks(still) for still in stills], truth) < 0.25
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
