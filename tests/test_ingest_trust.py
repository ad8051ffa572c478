"""Nothing is lost: killed at any moment, on a full disk, by a decoder that eats memory; every flipped byte is found."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from ingest_runs import SETTINGS, Listed, contents, run

from kineme.shards.decode_pool import Limits
from kineme.shards.errors import DataError
from kineme.shards.journal import JOURNAL
from kineme.shards.media import Footage
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.openers import VideoFile
from kineme.shards.verify import verify

SMALL = replace(SETTINGS, shard_videos=1)
KILLS = 20

_INGEST = """
import os, signal, sys
from pathlib import Path
from kineme.shards.engine_local import LocalEngine
from kineme.shards.ingest import IngestSettings, ingest
from kineme.shards.sampling import Sampling
from kineme.shards.sources.folder import FolderSource

moments = 0
def count(event, arguments):
    # Every file of the shards folder that is opened, renamed or removed, and every clip read: the moments of an ingest.
    global moments
    if event != "pickle.find_class" and sys.argv[2] not in str(arguments):
        return
    moments += 1
    if moments == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
settings = IngestSettings(size=32, sampling=Sampling(clip_frames=8), shard_videos=1)
try:
    ingest(FolderSource(), Path(sys.argv[1]), Path(sys.argv[2]), settings, LocalEngine(1))
except OSError as error:
    print(error.strerror)
    raise SystemExit(2)
print(moments)
"""


def _ingest(videos: Path, out: Path, kill_at: int = -1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _INGEST, str(videos), str(out), str(kill_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _finished(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the files of every shard that the journal calls finished."""
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)[1:] if (out / JOURNAL).exists() else []
    entries = [json.loads(line)["entry"] for line in lines if line.endswith(b"\n")]
    paths = [out / f"{entry['name']}.{suffix}" for entry in entries if entry for suffix in ("tar", "parquet")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "whole", SMALL)
    whole = contents(tmp_path / "whole")
    moments = int(_ingest(videos, tmp_path / "counted").stdout)
    assert moments > 5 * KILLS
    kept = 0
    for kill_at in sorted(random.Random(1).sample(range(1, moments), KILLS)):
        out = tmp_path / f"killed at {kill_at}"
        assert _ingest(videos, out, kill_at).returncode == -9
        finished = _finished(out) if out.exists() else {}
        run(videos, out, SMALL)
        assert contents(out) == whole
        after = {name: ((out / name).stat().st_ino, (out / name).stat().st_mtime_ns) for name in finished}
        assert after == finished
        kept += len(finished)
        shutil.rmtree(out)
    assert kept > KILLS  # there was much to lose


def test_a_full_disk_stops_it_and_it_goes_on_when_there_is_room(videos: Path, tmp_path: Path) -> None:
    """On a real file system of few bytes, which only its own mount namespace sees."""
    run(videos, tmp_path / "whole", SMALL)
    needed = sum(len(data) for data in contents(tmp_path / "whole").values())
    inside = (
        'mount -t tmpfs -o size="$1" none "$2" && { "$3" -c "$4" "$5" "$2/out" -1; code=$?; ls -A "$2/out"; '
        'cp -a "$2/out" "$6"; exit $code; }'
    )
    disk, rest = tmp_path / "disk", tmp_path / "rest"
    disk.mkdir()
    stopped = 0
    for part in (0.2, 0.5, 0.8):
        arguments = [str(int(part * needed)), str(disk), sys.executable, _INGEST, str(videos), str(rest)]
        unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh", *arguments]
        ended = subprocess.run(unshare, capture_output=True, text=True, check=False)
        if "unshare" in ended.stderr or "mount" in ended.stderr:
            pytest.skip(f"no file system of its own can be mounted here: {ended.stderr.strip()}")
        assert ended.returncode == 2, ended.stderr
        assert ended.stdout.startswith("No space left on device\n")
        finished = _finished(rest)
        run(videos, rest, SMALL)
        assert contents(rest) == contents(tmp_path / "whole")
        assert {name: (rest / name).stat().st_mtime_ns for name in finished} == {
            name: time for name, (_, time) in finished.items()
        }
        stopped += len(finished)
        shutil.rmtree(rest)
    assert stopped


@dataclass(frozen=True)
class HungryVideo(VideoFile):
    """Its reader takes ever more memory."""

    def readers(self) -> Sequence[Callable[[], Footage]]:
        def read() -> Footage:
            taken = []
            while True:
                taken.append(np.ones(1 << 24))

        return (read,)


def test_a_decoder_that_eats_memory_costs_one_video(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    given = (SourceItem("bad", HungryVideo(videos / "v1.mp4")), SourceItem("good", VideoFile(videos / "v2.mp4")))
    report = run(videos, tmp_path / "out", source=Listed(given=given), limits=Limits(memory_bytes=1 << 30))
    assert [(reject.path, reject.reason) for reject in report.rejects] == [
        ("bad", "its frames do not fit into memory; see --memory-gb")
    ]
    assert report.manifest.videos == 1


@pytest.mark.parametrize("limits", [{"silence_s": 0}, {"memory_bytes": 1000}])
def test_impossible_limits_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(DataError, match="--"):
        Limits(**limits)


def test_verify_finds_every_flipped_byte(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path, SMALL)
    assert verify(tmp_path) == []
    paths = sorted(tmp_path.iterdir())
    assert {"manifest.json", "rejects.parquet", "inventory.parquet"} < {path.name for path in paths}
    draw = random.Random(7)
    # Small files as often as large ones, so that each kind is met many times.
    for path in draw.choices(paths, k=200):
        data = path.read_bytes()
        place = draw.randrange(len(data))
        flipped = bytearray(data)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        assert _is_found(tmp_path), f"byte {place} of {path.name}"
        path.write_bytes(data)
    assert verify(tmp_path) == []


def _is_found(folder: Path) -> bool:
    try:
        return verify(folder) != []
    except DataError:  # not even the manifest can be read
        return True


def test_a_missing_file_is_found(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    (tmp_path / "inventory.parquet").unlink()
    assert verify(tmp_path) == ["inventory.parquet: missing"]
