"""What an ingest makes of good and bad files, of decoders that die, of full disks, and of real data."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ingest_runs import SETTINGS, Listed, contents, run, samples
from video_files import CrashingVideo, HangingVideo, write_sound, write_video

from kineme.shards.decode_pool import DecodePool, Limits
from kineme.shards.decode_video import Task, Unusable
from kineme.shards.errors import DataError
from kineme.shards.geometry import square_frame
from kineme.shards.ingest import IngestSettings
from kineme.shards.reader import decode_sample
from kineme.shards.rejects import read_rejects
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import FetchOptions, SourceItem
from kineme.shards.sources.moving_digits import MovingDigitsSource
from kineme.shards.sources.openers import VideoFile
from kineme.shards.sources.sprites import SpriteSequence, SpritesSource
from kineme.shards.verify import verify


def test_bad_files_cost_only_themselves(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    write_video(root / "good.mp4", 10)
    write_video(root / "wide.mkv", 10, size=(40, 72), codec="libx264", fps=10, seed=1)
    write_video(root / "new\nline, ünï.v2.avi", 10, codec="mpeg4", fps=10, seed=2)
    (root / "copy.mp4").write_bytes((root / "good.mp4").read_bytes())
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no video\n" * 100)
    (root / "truncated.mp4").write_bytes((root / "good.mp4").read_bytes()[:2000])
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    write_sound(root / "sound.mp4")
    write_video(root / "short.mp4", 7, seed=3)
    report = run(root, tmp_path / "out", workers=2)
    reasons = {reject.path: reject.reason for reject in read_rejects(tmp_path / "out")}
    assert list(reasons) == sorted(reasons)
    assert reasons.pop("good.mp4") == "duplicate of copy.mp4"
    for name, reason in {
        "empty.mp4": "0 bytes",
        "text.mp4": "not a video FFmpeg can read",
        "truncated.mp4": "not a video FFmpeg can read",
        "loop.mp4": "symbolic links",
        "sound.mp4": "no video stream",
        "short.mp4": "7 sampled frames are fewer than the 8 of a clip",
    }.items():
        assert reason in reasons.pop(name)
    assert not reasons
    stored = samples(tmp_path / "out")
    assert {sample.record.source for sample in stored} == {"copy.mp4", "wide.mkv", "new\nline, ünï.v2.avi"}
    assert {sample.record.width for sample in stored} == {sample.record.height for sample in stored} == {32}
    assert len({sample.record.key for sample in stored}) == len(stored) == 6
    assert report.rates == {25.0: 1, 10.0: 2}
    assert verify(tmp_path / "out") == []


def test_nothing_usable_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    with pytest.raises(DataError, match="holds no video"):
        run(root, tmp_path / "out")
    (root / "empty.mp4").touch()
    with pytest.raises(DataError, match=r"none of the 1 videos could be used; empty\.mp4: empty: 0 bytes"):
        run(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="does not exist"):
        run(tmp_path / "nothing", tmp_path / "out")


def test_shards_inside_the_source_are_no_videos(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 8)
    out = tmp_path / "shards"
    out.mkdir()
    run(tmp_path, out)
    (out / "stray.mp4").write_bytes((tmp_path / "a.mp4").read_bytes() + b"x")
    assert run(tmp_path, out).unchanged
    with pytest.raises(DataError, match="not empty"):
        run(out, tmp_path)


def test_labels_keypoints_and_actions_follow_their_frames(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    write_video(root / "a.mp4", 20, size=(64, 96), codec="libx264")
    keypoints = np.random.default_rng(0).uniform(0, 64, (20, 3, 2)).astype(np.float32)
    actions = np.arange(40, dtype=np.float64).reshape(20, 2)
    np.save(root / "a.keypoints.npy", keypoints)
    np.save(root / "a.actions.npy", actions)
    (root / "labels.csv").write_text("path,split,kind\na.mp4,test,wave\ngone.mp4,train,bow\n")
    report = run(root, tmp_path / "out", replace(SETTINGS, sampling=Sampling(clip_frames=4, frame_step=3)))
    assert [reject.path for reject in report.rejects] == ["gone.mp4"]
    stored = samples(tmp_path / "out")
    for sample, taken in zip(stored, ([0, 3, 6, 9], [9, 12, 15, 18]), strict=True):
        assert sample.keypoints is not None
        assert sample.actions is not None
        expected = (keypoints[taken] - [16, 0] + 0.5) * 0.5 - 0.5
        np.testing.assert_allclose(sample.keypoints, expected, atol=1e-4)
        np.testing.assert_array_equal(sample.actions, actions[taken])
        assert (sample.record.labels, sample.record.split) == ({"kind": "wave"}, "test")
    assert [sample.record.end_s for sample in stored] == pytest.approx([12 / 25, 20 / 25])
    assert stored[0].record.fps == pytest.approx(25 / 3)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("a.keypoints.npy", np.zeros((9, 1, 2)), "9 rows of keypoints for a video of at least 10 frames"),
        ("a.actions.npy", np.zeros((11, 2)), "11 rows of actions for a video of 10 frames"),
        ("a.keypoints.npy", np.zeros((10, 2)), r"\(F, K, 2\)"),
        ("a.actions.npy", np.array([["x"]] * 10), r"\(F, A\)"),
    ],
)
def test_sidecars_that_do_not_fit_reject_the_video(tmp_path: Path, name: str, array: np.ndarray, reason: str) -> None:
    root = tmp_path / "in"
    root.mkdir()
    write_video(root / "a.mp4", 10)
    np.save(root / name, array)
    with pytest.raises(DataError, match=reason):
        run(root, tmp_path / "out")


def test_a_rate_for_all(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    pictures = write_video(root / "a.mp4", 30, fps=25)
    run(root, tmp_path / "out", replace(SETTINGS, sampling=Sampling(clip_frames=5, fps=10)))
    first = samples(tmp_path / "out")[0]
    assert (first.record.fps, first.record.start_s, first.record.end_s) == (10, 0, 0.5)
    # 0, 0.1, 0.2, 0.3, 0.4 s, where frames start every 0.04 s; of two as near, the earlier.
    np.testing.assert_array_equal(decode_sample(first), [pictures[index] for index in (0, 2, 5, 7, 10)])


def _in_order(pool: DecodePool, openers: Sequence[VideoFile]) -> list[object]:
    ends: list[object] = []
    for video in pool.decode([Task(SourceItem(str(n), opener), Sampling(8), 32) for n, opener in enumerate(openers)]):
        ends.append(video.end if isinstance(video.end, Unusable) else len(list(video.clips())))
        video.drop()
    return ends


def test_a_decoder_that_hangs_or_crashes_costs_one_video(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    good = VideoFile(videos / "v1.mp4")
    openers = [good, HangingVideo(videos / "v1.mp4"), CrashingVideo(videos / "v1.mp4"), good]
    with DecodePool(2, Limits(silence_s=4), tmp_path) as pool:
        first, hung, crashed, last = _in_order(pool, openers)
    assert (first, last) == (3, 3)
    assert hung == Unusable("no frame was decoded for 4 s; see --deadline", "slow")
    assert crashed == Unusable("the decoder process died (SIGSEGV)", "died")


def test_workers_end_with_their_parent(videos: Path, tmp_path: Path) -> None:
    """Even one that hangs, when the parent is killed and cannot end it."""
    code = (
        "import os, signal, time; from pathlib import Path; from kineme.shards.decode_pool import DecodePool, Limits;"
        "from kineme.shards.decode_video import Task; from kineme.shards.sampling import Sampling;"
        "from kineme.shards.sources.base import SourceItem; from video_files import HangingVideo;"
        f"pool = DecodePool(1, Limits(), Path({str(tmp_path)!r})).__enter__();"
        "pool._give(pool._workers[0], 0, Task(SourceItem('x', HangingVideo(Path"
        f"({str(videos / 'v1.mp4')!r}))), Sampling(8), 32)); time.sleep(2);"
        "print(pool._workers[0].process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    child = Path("/proc") / ended.stdout.strip()
    for _ in range(100):
        if not child.exists() or "Z" in (child / "stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its parent")


def test_a_long_video_waits_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kineme.shards.decode_pool._SPOOL_BYTES", 1000)
    root = tmp_path / "in"
    root.mkdir()
    pictures = write_video(root / "a.mp4", 200)
    run(root, tmp_path / "out")
    assert [path.name[:5] for path in sorted((tmp_path / "out").iterdir())] == [
        "inven", "manif", "rejec", "shard", "shard"
    ]  # fmt: skip
    frames = np.concatenate([decode_sample(sample) for sample in samples(tmp_path / "out")])
    np.testing.assert_array_equal(frames, pictures)


def test_a_full_disk_is_reported_and_can_be_gone_on_from(videos: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, shard_videos=1)
    run(videos, tmp_path / "whole", settings)
    limit = max(path.stat().st_size for path in (tmp_path / "whole").iterdir()) - 1
    code = (
        f"import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from pathlib import Path; from kineme.shards.ingest import *; from kineme.shards.engine_local import *;"
        "from kineme.shards.sampling import Sampling;"
        "from kineme.shards.sources.folder import FolderSource\n"
        f"try: ingest(FolderSource(), Path({str(videos)!r}), Path({str(tmp_path / 'out')!r}),"
        "IngestSettings(size=32, sampling=Sampling(clip_frames=8), shard_videos=1), LocalEngine(1))\n"
        "except OSError as error: print('said', error.strerror)"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout == "said File too large\n", ended.stderr
    assert not list((tmp_path / "out").glob(".*"))
    run(videos, tmp_path / "out", settings)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_output_that_cannot_be_written(videos: Path) -> None:
    with pytest.raises(OSError, match="/proc/kineme"):
        run(videos, Path("/proc/kineme/shards"))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 129}, {"shard_videos": 0}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(DataError, match="--"):
        IngestSettings(**wrong)


def test_moving_digits_end_to_end(tmp_path: Path) -> None:
    source = MovingDigitsSource()
    source.fetch(tmp_path / "in", FetchOptions(clips=4))
    report = run(tmp_path / "in", tmp_path / "out", IngestSettings(), source=source)
    assert (report.manifest.dataset, report.manifest.clips, report.rejects) == ("moving-digits", 4, [])
    for sample in samples(tmp_path / "out"):
        original = (tmp_path / "in" / sample.record.source).with_suffix(".keypoints.npy")
        np.testing.assert_array_equal(sample.keypoints, np.load(original))
        assert set(sample.record.labels) == {"digits", "directions", "speeds", "wall_hit"}


def test_sprites_are_stored_bit_exact(data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "sprites"
    # As they are stored: by split.
    items = sorted(SpritesSource().items(root)[:: 11_664 // 60], key=lambda item: item.split)
    out = tmp_path / "out"
    run(
        root,
        out,
        IngestSettings(sampling=Sampling(clip_frames=8)),
        source=Listed("sprites", given=tuple(items)),
        workers=2,
    )
    stored = samples(out)
    assert len(stored) == len(items) >= 60
    for sample, item in zip(stored, items, strict=True):
        assert isinstance(item.opener, SpriteSequence)
        np.testing.assert_array_equal(decode_sample(sample), item.opener.compose())
        assert sample.record.labels == item.labels
        assert (sample.record.source, sample.record.split, sample.record.fps) == (item.source, item.split, 8.0)


def test_real_codecs_end_as_their_notes_say(data_dir: Path, tmp_path: Path) -> None:
    report = run(data_dir / "codecs", tmp_path, IngestSettings(sampling=Sampling(clip_frames=3)), workers=2)
    assert [reject.path for reject in report.rejects] == ["corrupted.mp4"]
    assert "frame 28 of 50" in report.rejects[0].reason
    assert report.manifest.videos == 6
    assert verify(tmp_path) == []
    # The rotated one is stored upright: the same as decord's upright frames, squared.
    import decord

    upright = decord.VideoReader(str(data_dir / "codecs" / "video_90.mov"))[0].asnumpy()
    stored = next(sample for sample in samples(tmp_path) if sample.record.source == "video_90.mov")
    np.testing.assert_array_equal(decode_sample(stored)[0], square_frame(upright, 64))


def test_weizmann_videos_are_stored_bit_exact(data_dir: Path, tmp_path: Path) -> None:
    paths = sorted((data_dir / "weizmann" / "videos").iterdir())[:4]
    given = tuple(SourceItem(path.name, VideoFile(path)) for path in paths)
    run(data_dir, tmp_path, IngestSettings(), source=Listed(given=given), workers=2)
    import decord

    stored = samples(tmp_path)
    for path in paths:
        frames = decord.VideoReader(str(path))[:].asnumpy()
        clips = [decode_sample(sample) for sample in stored if sample.record.source == path.name]
        np.testing.assert_array_equal(np.concatenate(clips[:-1]), frames[: 16 * (len(clips) - 1)])
        np.testing.assert_array_equal(clips[-1], frames[-16:])
