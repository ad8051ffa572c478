"""An ingest of a folder that has grown or changed: only what is new is read, and what is stored stays as it is."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ingest_runs import SETTINGS, Listed, contents, run, samples
from video_files import write_video

from kineme.shards.errors import DataError
from kineme.shards.ingest import Progress
from kineme.shards.inventory import INVENTORY, read_entries
from kineme.shards.rejects import read_rejects
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.openers import VideoFile, hash_files
from kineme.shards.verify import verify

SMALL = replace(SETTINGS, shard_videos=2)


@pytest.fixture
def folder(videos: Path, tmp_path: Path) -> Path:
    """A copy of the videos that a test may change."""
    return Path(shutil.copytree(videos, tmp_path / "in"))


def _shards(out: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(out.glob("shard-*"))}


def test_only_new_files_are_read_and_old_shards_are_untouched(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out, SMALL)
    before = _shards(out)
    write_video(folder / "a new one.mp4", 12, seed=50)
    write_video(folder / "z.mp4", 12, seed=51)
    read: list[int] = []
    report = run(folder, out, SMALL, progress=lambda progress: read.append(progress.total))
    assert read == [2, 2]
    assert (report.added, report.changed, report.vanished, report.unchanged) == (2, [], [], False)
    after = _shards(out)
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["shard-000004.parquet", "shard-000004.tar"]
    assert verify(out) == []
    stored = {sample.record.source for sample in samples(out)}
    assert stored == {path.name for path in folder.iterdir()} - {"v3.mp4"}
    assert (report.manifest.videos, report.manifest.rejects) == (8, 1)
    assert run(folder, out, SMALL).unchanged


def test_growth_that_is_stopped_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "whole", SMALL)
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    for number in range(5):
        write_video(folder / f"w{number}.mp4", 9, seed=60 + number)
    run(folder, tmp_path / "whole", SMALL)

    def stop(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", SMALL, progress=stop)
    run(folder, tmp_path / "out", SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_files_that_came_while_an_ingest_was_stopped_are_added_after_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, out, SMALL, progress=stop)
    write_video(folder / "a.mp4", 12, seed=70)
    (folder / "v6.mp4").unlink()
    report = run(folder, out, SMALL)
    # v6 was planned for and is gone by the time the ingest goes on; then it is no longer listed.
    assert {reject.path for reject in report.rejects} == {"v3.mp4"}
    assert "a.mp4" in {sample.record.source for sample in samples(out)}
    assert verify(out) == []


def test_changed_and_vanished_files_are_reported_and_their_clips_stay(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    before = contents(out)
    (folder / "v0.mp4").unlink()
    write_video(folder / "v1.mp4", 22, seed=80)
    same_size = folder / "v2.mp4"
    status = same_size.stat()
    data = bytearray(same_size.read_bytes())
    data[-1] ^= 1
    same_size.write_bytes(data)
    os.utime(same_size, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    report = run(folder, out)
    assert (report.changed, report.vanished, report.added) == (["v1.mp4", "v2.mp4"], ["v0.mp4"], 0)
    assert contents(out) == before


def test_a_new_time_alone_is_no_change(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    before = _shards(tmp_path / "out")
    os.utime(folder / "v2.mp4", ns=(1, 1))
    report = run(folder, tmp_path / "out")
    assert (report.changed, report.vanished, report.added) == ([], [], 0)
    assert _shards(tmp_path / "out") == before
    assert verify(tmp_path / "out") == []
    assert run(folder, tmp_path / "out").unchanged


def test_another_label_is_a_change(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    (folder / "labels.csv").write_text("path,kind\nv1.mp4,walk\n")
    # Without labels.csv the videos had none, so only the one that has a label now is another.
    assert run(folder, tmp_path / "out").changed == ["v1.mp4"]


def test_a_reject_that_was_mended_is_read_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    assert [reject.path for reject in read_rejects(out)] == ["v3.mp4"]
    write_video(folder / "v3.mp4", 12, seed=90)
    report = run(folder, out)
    assert (report.added, report.rejects, report.manifest.rejects) == (1, [], 0)
    assert {sample.record.source for sample in samples(out)} == {path.name for path in folder.iterdir()}


def test_a_reject_that_was_removed_is_forgotten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    (folder / "v3.mp4").unlink()
    report = run(folder, out)
    assert (report.rejects, report.vanished, report.manifest.rejects) == ([], [], 0)
    assert verify(out) == []


@pytest.mark.parametrize("later", [False, True])
def test_of_two_files_with_the_same_bytes_one_is_kept(folder: Path, tmp_path: Path, later: bool) -> None:
    out = tmp_path / "out"
    if later:
        run(folder, out, SMALL)
    shutil.copy(folder / "v4.mp4", folder / "w.mp4")
    report = run(folder, out, SMALL)
    assert ("w.mp4", "duplicate of v4.mp4") in report.rejects
    assert "w.mp4" not in {sample.record.source for sample in samples(out)}
    entries = {entry.source: entry for entry in read_entries(out / INVENTORY)}
    assert entries["w.mp4"].sha256 == entries["v4.mp4"].sha256
    assert entries["w.mp4"].shard is None
    assert verify(out) == []
    assert run(folder, out, SMALL).unchanged


def test_nothing_but_duplicates_of_what_is_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    before = _shards(out)
    shutil.copy(folder / "v4.mp4", folder / "w.mp4")
    report = run(folder, out)
    assert (report.added, _shards(out)) == (0, before)


@dataclass(frozen=True)
class LoggedVideo(VideoFile):
    """A video that writes its name down whenever its bytes are read."""

    log: Path = Path()

    def sha256(self) -> str:
        with self.log.open("a") as file:
            file.write(self.path.name + "\n")
        return hash_files([self.path])


def test_planning_reads_only_files_of_equal_size(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is read once, where it is decoded; those that may be duplicates once more."""
    shutil.copy(folder / "v4.mp4", folder / "w.mp4")
    log = tmp_path / "log"
    given = tuple(SourceItem(path.name, LoggedVideo(path, log=log)) for path in sorted(folder.iterdir()))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    run(folder, tmp_path / "out", source=Listed(given=given))
    sizes = [path.stat().st_size for path in folder.iterdir()]
    alike = {path.name for path in folder.iterdir() if sizes.count(path.stat().st_size) > 1}
    read = log.read_text().split()
    expected = sorted([path.name for path in folder.iterdir() if path.name != "w.mp4"] + list(alike))
    assert sorted(read) == expected


def test_a_shard_holds_one_split(folder: Path, tmp_path: Path) -> None:
    rows = "".join(f"v{number}.mp4,{'test' if number % 2 else 'train'}\n" for number in range(7))
    (folder / "labels.csv").write_text("path,split\n" + rows)
    report = run(folder, tmp_path / "out")
    splits = {sample.record.source: sample.record.split for sample in samples(tmp_path / "out")}
    assert {splits[f"v{number}.mp4"] for number in (1, 5)} == {"test"}
    assert [entry.clips for entry in report.manifest.shards] == [5, 8]


def test_a_full_shard_by_bytes(folder: Path, tmp_path: Path) -> None:
    size = max(path.stat().st_size for path in folder.iterdir())
    report = run(folder, tmp_path / "out", replace(SETTINGS, shard_bytes=size))
    assert 3 <= len(report.manifest.shards) < 6
    with pytest.raises(DataError, match="shard_bytes"):
        run(folder, tmp_path / "out", replace(SETTINGS, shard_bytes=size + 1))
