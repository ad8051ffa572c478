"""The Weizmann set: file names to labels, and frames without a person cut at the ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ingest_runs import run, samples
from numpy.typing import NDArray
from video_files import write_video

from kineme.shards.codec import decode_clip, encode_clip
from kineme.shards.errors import DataError
from kineme.shards.ingest import IngestSettings
from kineme.shards.media import UnreadableError, read_with_pyav
from kineme.shards.rejects import read_rejects
from kineme.shards.sample import Frames
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.openers import VideoFile
from kineme.shards.sources.presence import frames_with_person
from kineme.shards.sources.registry import find_source
from kineme.shards.sources.weizmann import ACTIONS, ACTORS, TrimmedVideo, WeizmannSource

CROSSING = ("walk", "run", "skip", "side")


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def _labels(item: SourceItem) -> tuple[object, ...]:
    return item.labels.get("actor"), item.labels.get("action"), item.labels.get("take")


def _kept(frames: Frames) -> range:
    return frames_with_person(lambda: iter(frames))


def _read(path: Path) -> Frames:
    return np.stack([frame.image for frame in read_with_pyav(path).frames])


def _noisy(pictures: NDArray[np.float64], seed: int = 0) -> Frames:
    noise = np.random.default_rng(seed).normal(0, 3, pictures.shape)
    return np.clip(np.rint(pictures + noise), 0, 255).astype(np.uint8)


def _scene(masks: NDArray[np.bool_], seed: int = 0) -> Frames:
    """A person of two tones, cut out by masks (F, H, W), before a wall that gets lighter downwards, with noise."""
    height = masks.shape[1]
    rows = np.linspace(0, 1, height)[None, :, None, None]
    wall = 110 + 60 * rows * np.ones((*masks.shape, 3))
    clothes = np.where(rows < 0.5, np.array([170.0, 60.0, 50.0]), np.array([40.0, 40.0, 90.0])) * np.ones_like(wall)
    return _noisy(np.where(masks[..., None], clothes, wall), seed)


def _crossing(masks: NDArray[np.bool_], empty: int) -> NDArray[np.bool_]:
    """Masks (F, H, W) of a person who crosses, lengthened at both ends until the person is gone, and for longer."""
    centres = [float(np.nonzero(mask)[1].mean()) for mask in masks]
    step = (centres[-1] - centres[0]) / (len(masks) - 1)
    before: list[NDArray[np.bool_]] = []
    after: list[NDArray[np.bool_]] = []
    for ends, mask, way in ((before, masks[0], -1), (after, masks[-1], 1)):
        while not ends or ends[-1].any():
            ends.append(_moved(mask, round(way * step * (len(ends) + 1))))
        ends.extend([np.zeros_like(mask)] * empty)
    return np.stack([*before[::-1], *masks, *after])


def _moved(mask: NDArray[np.bool_], columns: int) -> NDArray[np.bool_]:
    moved = np.zeros_like(mask)
    width = mask.shape[1]
    if abs(columns) < width:
        to, there = (slice(columns, None), slice(None, width - columns))
        if columns < 0:
            to, there = slice(None, columns), slice(-columns, None)
        moved[:, to] = mask[:, there]
    return moved


def _square(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    left = (masks.shape[2] - masks.shape[1]) // 2
    return masks[:, :, left : left + masks.shape[1]]


def test_every_official_name_in_either_layout(tmp_path: Path) -> None:
    for actor in ACTORS:
        for action in ACTIONS:
            if (actor, action) == ("lena", "walk"):
                _touch(tmp_path / action / "lena_walk1.avi")
                _touch(tmp_path / action / "lena_walk2.avi")
            else:
                folder = tmp_path / action if actor < "lena" else tmp_path
                _touch(folder / f"{actor}_{action}.{'mp4' if action == 'run' else 'avi'}")
    items = WeizmannSource().items(tmp_path)
    assert len(items) == 91
    assert sorted(map(_labels, items)) == sorted(
        [(actor, action, 1) for actor in ACTORS for action in ACTIONS] + [("lena", "walk", 2)]
    )
    assert {item.labels["actor"] for item in items if item.split == "test"} == {"shahar"}
    assert [item.source for item in items] == sorted(item.source for item in items)
    assert WeizmannSource().present(tmp_path)


def test_other_names_are_rejected_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    write_video(tmp_path / "walk" / "ira_walk.mp4", 12, size=(16, 16))
    reasons = {
        "bob_walk.avi": "no actor of the set is called bob",
        "ira_fly.avi": "no action of the set is called fly",
        "notes.avi": "not ACTOR_ACTION",
        "ira_walk_fast.avi": "not ACTOR_ACTION",
    }
    for name in reasons:
        _touch(tmp_path / name)
    run(tmp_path, tmp_path / "out", IngestSettings(16, Sampling(8)), WeizmannSource(trim="false"))
    first, _ = samples(tmp_path / "out")
    assert dict(first.record.labels) == {"actor": "ira", "action": "walk", "take": 1}
    rejects = {reject.path: reject.reason for reject in read_rejects(tmp_path / "out")}
    assert rejects.keys() == reasons.keys()
    assert all(reasons[name] in rejects[name] for name in reasons)


def test_what_is_no_such_folder_or_option(tmp_path: Path) -> None:
    _touch(tmp_path / "holiday.mp4")
    assert not WeizmannSource().present(tmp_path)
    with pytest.raises(DataError, match="ACTOR_ACTION"):
        WeizmannSource().items(tmp_path)
    with pytest.raises(DataError, match=r"test_actor=bob: one of daria"):
        find_source("weizmann", {"test_actor": "bob"})
    with pytest.raises(DataError, match="true or false"):
        find_source("weizmann", {"trim": "yes"})


def test_the_test_actor_and_trimming_are_options(tmp_path: Path) -> None:
    for actor in ("daria", "eli"):
        _touch(tmp_path / f"{actor}_walk.avi")
    daria, eli = find_source("weizmann", {"test_actor": "eli", "trim": "false"}).items(tmp_path)
    assert (daria.split, eli.split) == ("train", "test")
    assert isinstance(eli.opener, VideoFile)
    assert isinstance(WeizmannSource().items(tmp_path)[0].opener, TrimmedVideo)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_box_that_crosses(direction: int) -> None:
    masks = np.zeros((60, 72, 90), bool)
    for number in range(60):
        left = 4 * (number - 15)
        masks[number, 20:60, max(0, left) : max(0, left + 10)] = True
    masks = masks[:, :, ::direction]
    visible = np.flatnonzero(_square(masks).any(axis=(1, 2)))
    kept = _kept(_scene(masks))
    assert 0 < visible[0] <= kept.start <= visible[0] + 1
    assert visible[-1] - 1 <= kept.stop - 1 <= visible[-1] < 59


def test_nothing_is_cut_where_all_that_moves_rests_at_the_ends() -> None:
    """The arms are down most of the time, so the background holds the person, and the ends do not differ from it."""
    masks = np.zeros((60, 72, 72), bool)
    masks[:, 20:65, 32:40] = True
    masks[25:40, 22:26, 15:57] = True
    frames = _scene(masks)
    assert _kept(frames) == range(60)
    assert _kept(frames[:, :, 14:58]) == range(60)  # so close a view that the arms reach both sides


def test_nothing_is_cut_from_a_still_or_noisy_or_flashing_video() -> None:
    still = np.full((30, 64, 80, 3), 120.0)
    assert _kept(_noisy(still)) == range(30)
    flash = still.copy()
    flash[12:15] += 80
    assert _kept(_noisy(flash)) == range(30)
    assert _kept(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)) == range(20)
    assert _kept(np.zeros((0, 8, 8, 3), np.uint8)) == range(0)


def test_a_long_video_needs_few_frames_in_memory() -> None:
    """More frames than make up the background: the person is there for a twentieth of them and found all the same."""

    def frames() -> Iterator[Frames]:
        for number in range(900):
            mask = np.zeros((1, 36, 36), bool)
            left = number - 450
            mask[0, 8:30, max(0, left) : max(0, left + 8)] = True
            yield _scene(mask, number)[0]

    kept = frames_with_person(frames)
    assert abs(kept.start - 443) <= 2
    assert abs(kept.stop - 486) <= 2


def test_silhouettes_are_cut_where_their_mask_is_empty() -> None:
    masks = np.zeros((20, 40, 50, 3), np.uint8)
    masks[4:15, 10:30, 20:22] = 255
    masks[8, :, :] = 0  # empty in the middle: kept
    masks[:, 0, 0] = 255  # beside the middle square, which is all that is stored
    assert _kept(masks) == range(4, 15)
    assert _kept(np.zeros_like(masks)) == range(20)


def test_times_start_at_the_first_frame_kept(tmp_path: Path) -> None:
    masks = np.zeros((60, 48, 48), bool)
    for number in range(60):
        left = 3 * (number - 20)
        masks[number, 10:40, max(0, left) : max(0, left + 8)] = True
    frames = _scene(masks)
    kept = _kept(frames)
    (tmp_path / "moshe_run.mp4").write_bytes(encode_clip(frames, 25)[0])
    out = tmp_path / "out"
    run(tmp_path, out, IngestSettings(48, Sampling(8)), WeizmannSource())
    clips = samples(out)
    assert clips[0].record.start_s == 0
    assert clips[-1].record.end_s == pytest.approx(len(kept) / 25)
    assert 15 < len(kept) < 45
    np.testing.assert_array_equal(decode_clip(clips[0].mp4), frames[kept.start : kept.start + 8])
    whole = tmp_path / "whole"
    run(tmp_path, whole, IngestSettings(48, Sampling(8)), WeizmannSource(trim="false"))
    assert samples(whole)[-1].record.end_s == pytest.approx(60 / 25)


def test_a_damaged_video_is_rejected(tmp_path: Path) -> None:
    write_video(tmp_path / "ido_walk.mp4", 20)
    (tmp_path / "ido_run.avi").write_bytes(b"RIFF and nothing more")
    run(tmp_path, tmp_path / "out", IngestSettings(32, Sampling(8)), WeizmannSource())
    (reject,) = read_rejects(tmp_path / "out")
    assert (reject.path, "FFmpeg" in reject.reason) == ("ido_run.avi", True)
    with pytest.raises(UnreadableError):
        TrimmedVideo(VideoFile(tmp_path / "ido_run.avi")).readers()[1]()


def test_real_clips_in_place_are_not_cut(data_dir: Path) -> None:
    items = WeizmannSource().items(data_dir / "weizmann" / "videos")
    assert len(items) == 36
    for item in items[::3]:  # each action, each actor
        frames = _read(data_dir / "weizmann" / "videos" / item.source)
        assert _kept(frames) == range(len(frames)), item.source


def test_the_original_files_are_ingested_whole(data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "weizmann" / "original"
    run(root, tmp_path / "out", IngestSettings(96, Sampling(8)), WeizmannSource())
    clips = samples(tmp_path / "out")
    found = {clip.record.source: clip.record.end_s for clip in clips}
    assert found == {"eli_jack.avi": pytest.approx(51 / 25), "ido_walk.avi": pytest.approx(43 / 25)}
    assert {decode_clip(clip.mp4).shape for clip in clips} == {(8, 96, 96, 3)}


def test_an_original_walk_between_empty_frames(data_dir: Path) -> None:
    walk = _read(data_dir / "weizmann" / "original" / "ido_walk.avi")
    empty = np.median(walk, axis=0)
    noise = walk - empty
    outside = _read(data_dir / "weizmann" / "silhouettes" / "ido_walk.mp4")[..., :1] < 128
    # Two of its pictures of noise, where no person was, on the background.
    grain = np.stack([np.where(outside[number], noise[number], 0) for number in (0, -1)] * 5)
    blank = np.clip(np.rint(empty + grain), 0, 255).astype(np.uint8)
    assert _kept(np.concatenate([blank, walk])) == range(10, 53)
    # He has not reached the right when it ends. No one leaves like that, so nothing is cut there.
    assert _kept(np.concatenate([blank, walk, blank])) == range(10, 63)
    assert _kept(np.concatenate([blank, walk])[::-1]) == range(43)


@pytest.mark.parametrize("action", CROSSING)
def test_real_silhouettes_that_cross_a_scene(data_dir: Path, action: str) -> None:
    """The masks say which frames are empty; a few that show less than a fifth of the person may go with them."""
    paths = sorted((data_dir / "weizmann" / "silhouettes").glob(f"*_{action}*.mp4"))[::5]
    for number, path in enumerate(paths):
        masks = _crossing(_read(path)[..., 0] > 127, empty=12)
        area = _square(masks).sum(axis=(1, 2))
        visible = np.flatnonzero(area)
        kept = _kept(_scene(masks, number))
        assert visible[0] <= kept.start <= visible[0] + 6, path.name
        assert visible[-1] - 6 <= kept.stop - 1 <= visible[-1], path.name
        assert max(*area[: kept.start], *area[kept.stop :]) < 0.2 * area.max(), path.name


def test_every_real_silhouette_is_listed_and_cut_by_its_mask(data_dir: Path) -> None:
    root = data_dir / "weizmann" / "silhouettes"
    items = WeizmannSource().items(root)
    assert len(items) == 93
    assert sum(item.labels["take"] == 2 for item in items) == 3
    for item in items[::9]:
        masks = _read(root / item.source)
        filled = np.flatnonzero((_square(masks[..., 0]) > 127).any(axis=(1, 2)))
        assert _kept(masks) == range(filled[0], filled[-1] + 1)
