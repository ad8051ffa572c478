"""From folders of videos to shards: the same bytes whatever happens on the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ingest_runs import SETTINGS, contents, run, samples
from video_files import write_video

from kineme.shards.errors import DataError
from kineme.shards.ingest import Progress
from kineme.shards.journal import JOURNAL
from kineme.shards.reader import decode_sample
from kineme.shards.rejects import read_rejects
from kineme.shards.verify import verify


def test_every_frame_is_stored_exactly(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pictures = write_video(tmp_path / "in" / "a b.mp4", 20)
    report = run(tmp_path / "in", tmp_path / "out")
    assert (report.manifest.videos, report.manifest.clips, report.rates) == (1, 3, {25.0: 1})
    stored = samples(tmp_path / "out")
    assert verify(tmp_path / "out") == []
    for sample, start in zip(stored, (0, 8, 12), strict=True):
        np.testing.assert_array_equal(decode_sample(sample), pictures[start : start + 8])
        assert (sample.record.start_s, sample.record.end_s) == pytest.approx((start / 25, (start + 8) / 25))
        assert (sample.record.source, sample.record.split, sample.record.fps) == ("a b.mp4", "train", 25.0)
    assert [sample.record.key[-7:] for sample in stored] == ["-000000", "-000001", "-000002"]


def test_the_bytes_do_not_depend_on_the_workers_nor_on_the_folder(videos: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, shard_videos=2)
    run(videos, tmp_path / "one", settings)
    run(videos, tmp_path / "three", settings, workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    names = sorted(contents(tmp_path / "one"))
    assert names == [
        *("inventory.parquet", "manifest.json", "rejects.parquet"),
        *(f"shard-00000{n}.{kind}" for n in range(4) for kind in ("parquet", "tar")),
    ]
    (reject,) = read_rejects(tmp_path / "one")
    assert reject.path == "v3.mp4"
    assert "3 sampled frames are fewer than the 8 of a clip" in reject.reason
    assert "--clip-frames" in reject.reason


class StoppedError(Exception):
    """As if the process ended here."""


@pytest.mark.parametrize("after", [1, 4, 6])
def test_an_interrupted_ingest_goes_on_to_the_same_bytes(videos: Path, tmp_path: Path, after: int) -> None:
    settings = replace(SETTINGS, shard_videos=2)
    run(videos, tmp_path / "whole", settings)

    with pytest.raises(StoppedError):
        run(videos, tmp_path / "out", settings, progress=_stop_after(after))
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob(".*"))
    seen: list[int] = []
    report = run(videos, tmp_path / "out", settings, progress=lambda progress: seen.append(progress.done))
    assert len(seen) == 7 - 2 * ((after - 1) // 2)
    assert report.rates == {25.0: 6}
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_killed_ingest_goes_on_to_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, shard_videos=1)
    run(videos, tmp_path / "whole", settings)
    code = (
        "import os, signal; from pathlib import Path; from kineme.shards.ingest import *;"
        "from kineme.shards.engine_local import LocalEngine;"
        "from kineme.shards.sampling import Sampling; from kineme.shards.sources.folder import FolderSource;"
        f"ingest(FolderSource(), Path({str(videos)!r}), Path({str(tmp_path / 'out')!r}),"
        "IngestSettings(size=32, sampling=Sampling(clip_frames=8), shard_videos=1), LocalEngine(2),"
        "progress=lambda p: os.kill(os.getpid(), signal.SIGKILL) if p.done == 2 else None)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    out = tmp_path / "out"
    assert (out / JOURNAL).exists()
    # What a kill in the middle of a write leaves: a shard's temporary file, and half a line of the journal.
    (out / ".shard-000002.tar.abc.tmp").write_bytes(b"half")
    with (out / JOURNAL).open("ab") as file:
        file.write(b'{"position": 3, "sh')
    run(videos, out, settings)
    assert contents(out) == contents(tmp_path / "whole")


def test_the_same_command_again_changes_nothing(videos: Path, tmp_path: Path) -> None:
    first = run(videos, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = run(videos, tmp_path)
    assert again.unchanged
    assert again.manifest == first.manifest
    assert again.rejects == first.rejects
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_shards_in_the_way_are_left_alone(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(videos, out)
    before = contents(out)
    with pytest.raises(DataError, match=r"size \(32, now 16\)"):
        run(videos, out, replace(SETTINGS, size=16))
    assert contents(out) == before
    with pytest.raises(StoppedError):
        run(videos, tmp_path / "half", progress=_stop_after(1))
    with pytest.raises(DataError, match=r"unfinished ingest of other size \(32, now 16\)"):
        run(videos, tmp_path / "half", replace(SETTINGS, size=16))
    other = tmp_path / "other"
    other.mkdir()
    write_video(other / "x.mp4", 9)
    with pytest.raises(DataError, match=r"not empty \(holds x\.mp4\)"):
        run(videos, other)
    with pytest.raises(DataError, match="is a file"):
        run(videos, other / "x.mp4")


def _stop_after(videos: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.stage == "ingesting" and progress.done == videos:
            raise StoppedError

    return stop


def test_two_at_once_do_not_mix(videos: Path, tmp_path: Path) -> None:
    def second(_: Progress) -> None:
        with pytest.raises(DataError, match="another kineme ingest"):
            run(videos, tmp_path)

    run(videos, tmp_path, progress=second)
    assert verify(tmp_path) == []


def test_a_finished_shard_that_was_cut_stops_the_resumption(videos: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, shard_videos=1)

    with pytest.raises(StoppedError):
        run(videos, tmp_path, settings, progress=_stop_after(3))
    shard = tmp_path / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(DataError, match=r"shard-000000\.tar: 600 bytes"):
        run(videos, tmp_path, settings)
