"""The cache of decoded shards: built once by whoever comes first, checked, bounded, and safe from kills."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from shard_factory import make_frames, make_sample, make_shards, write_shards

from kineme.shards.cache import build_cache
from kineme.shards.cache_files import cached_shard_bytes
from kineme.shards.errors import DataError
from kineme.shards.loader import ClipLoader, clip_loader
from kineme.shards.manifest import Manifest, ShardEntry
from kineme.shards.sample import Sample


def load(folder: Path, cache: Path, **options: object) -> ClipLoader:
    return clip_loader(folder, **{"batch_size": 2, "clip_frames": 6, "cache": cache, **options})  # type: ignore[arg-type]


def keys(loader: ClipLoader) -> list[str]:
    return [record.key for batch in loader for record in batch.records]


def entries_of(folder: Path) -> list[ShardEntry]:
    return Manifest.load(folder).shards


def disk_bytes(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*") if path.suffix in (".npy", ".jsonl"))


def cached(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.is_dir()}


def test_it_is_built_once_and_shared(tmp_path: Path) -> None:
    make_shards(tmp_path, (2, 3, 1))
    entries = entries_of(tmp_path)
    seen: list[tuple[int, int]] = []
    use = build_cache(tmp_path, entries, tmp_path / "cache", workers=2, progress=lambda *n: seen.append(n))
    folders = [folder for folder in use.folders if folder is not None]
    assert seen[-1] == (6, 6)
    assert len(seen) == len(folders) == 3
    before = [path.stat().st_mtime_ns for folder in folders for path in sorted(folder.iterdir())]
    again = build_cache(tmp_path, entries, tmp_path / "cache", progress=lambda *n: seen.append(n))
    assert again.folders == folders
    assert [path.stat().st_mtime_ns for folder in folders for path in sorted(folder.iterdir())] == before
    assert len(seen) == 3
    np.testing.assert_array_equal(np.load(folders[1] / "frames.npy")[6:12], make_frames(3))


@pytest.mark.parametrize("extras", [True, False])
def test_the_size_is_known_before(extras: bool, tmp_path: Path) -> None:
    write_shards(tmp_path, [[make_sample(n, extras=extras) for n in range(3)], [make_sample(3, extras=extras)]])
    expected = [cached_shard_bytes(tmp_path, entry) for entry in entries_of(tmp_path)]
    build_cache(tmp_path, entries_of(tmp_path), tmp_path / "cache")
    assert [disk_bytes(tmp_path / "cache" / entry.sha256) for entry in entries_of(tmp_path)] == expected


def test_an_altered_shard_is_not_cached(tmp_path: Path) -> None:
    make_shards(tmp_path, (2, 2))
    tar = tmp_path / "shard-000001.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-000001\.tar: its sha256"):
        load(tmp_path, tmp_path / "cache", workers=2)
    assert [path for path in (tmp_path / "cache").iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize("name", ["frames.npy", "actions.npy", "keypoints.npy", "records.jsonl", "index.npy"])
@pytest.mark.parametrize("workers", [0, 2])
def test_damage_in_the_cache(name: str, workers: int, tmp_path: Path) -> None:
    """Found when the clip is first touched, whatever file it is in; the mend that is named mends it."""
    samples = make_shards(tmp_path, (2, 3))
    loader = load(tmp_path, tmp_path / "cache", workers=workers)
    folder = tmp_path / "cache" / entries_of(tmp_path)[1].sha256
    data = bytearray((folder / name).read_bytes())
    # In the second clip: behind the header, a third into the rest and a little more.
    place = 128 + 2 * (len(data) - 128) // 5 if name != "records.jsonl" else len(data) // 2
    data[place] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{folder.name}: .*damaged .clip {samples[3].record.key}.* delete") as caught:
        list(loader)
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder)
    assert len(keys(load(tmp_path, tmp_path / "cache"))) == 5


@pytest.mark.parametrize("name", ["frames.npy", "records.jsonl", "index.npy"])
def test_a_file_gone_from_the_cache(name: str, tmp_path: Path) -> None:
    make_shards(tmp_path, (2,))
    loader = load(tmp_path, tmp_path / "cache")
    (tmp_path / "cache" / entries_of(tmp_path)[0].sha256 / name).unlink()
    with pytest.raises(DataError, match=r"this cached shard is damaged .* delete the folder") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fitting", range(4))
def test_the_bound(fitting: int, tmp_path: Path) -> None:
    samples = make_shards(tmp_path, (2, 1, 3))
    sizes = [cached_shard_bytes(tmp_path, entry) for entry in entries_of(tmp_path)]
    bound = (sum(sizes[:fitting]) + 10) / 1e9
    loader = load(tmp_path, tmp_path / "cache", cache_gb=bound)
    assert cached(tmp_path / "cache") == {entry.sha256 for entry in entries_of(tmp_path)[:fitting]}
    assert keys(loader) == keys(loader) == [sample.record.key for sample in samples]
    # The whole of it, then a lower bound again: what is beyond it goes.
    del loader
    load(tmp_path, tmp_path / "cache")
    load(tmp_path, tmp_path / "cache", cache_gb=bound)
    assert disk_bytes(tmp_path / "cache") <= bound * 1e9


def test_a_bound_below_nothing(tmp_path: Path) -> None:
    make_shards(tmp_path, (1,))
    with pytest.raises(DataError, match="cache_gb -1"):
        load(tmp_path, tmp_path / "cache", cache_gb=-1)


def noise(folder: Path, first: int) -> list[Sample]:
    return write_shards(folder, [[make_sample(first)], [make_sample(first + 1)]])


def test_the_oldest_that_nobody_reads_goes_first(tmp_path: Path) -> None:
    """Four folders share a cache with room for two; the first one is being read all the time."""
    cache = tmp_path / "cache"
    folders = [tmp_path / name for name in "abcd"]
    for number, folder in enumerate(folders):
        noise(folder, 2 * number)
    names = [{entry.sha256 for entry in entries_of(folder)} for folder in folders]
    size = max(cached_shard_bytes(folder, entry) for folder in folders for entry in entries_of(folder))
    bound = 4.5 * size / 1e9
    reading = load(folders[0], cache, cache_gb=bound)
    load(folders[1], cache, cache_gb=bound)
    assert cached(cache) == names[0] | names[1]
    load(folders[2], cache, cache_gb=bound)
    assert cached(cache) == names[0] | names[2]
    assert len(keys(reading)) == 2
    del reading
    load(folders[3], cache, cache_gb=bound)
    assert cached(cache) == names[2] | names[3]
    # With a shard less of room than both need, the one that was there longest goes.
    load(folders[0], cache, cache_gb=2.5 * size / 1e9)
    assert cached(cache) == names[0]


def test_other_things_in_the_folder_stay(tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", (1,))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "notes.tmp").write_text("mine")
    load(tmp_path / "shards", tmp_path, cache_gb=0)
    assert (tmp_path / "notes.tmp").read_text() == "mine"
    assert (tmp_path / "pictures").is_dir()
    assert (tmp_path / "shards" / "manifest.json").is_file()


def test_what_an_older_version_cached_is_made_anew(tmp_path: Path) -> None:
    make_shards(tmp_path, (2,))
    folder = tmp_path / "cache" / entries_of(tmp_path)[0].sha256
    folder.mkdir(parents=True)
    np.save(folder / "frames.npy", np.zeros((12, 16, 20, 3), np.uint8))
    (batch,) = load(tmp_path, tmp_path / "cache")
    np.testing.assert_array_equal(batch.frames[1].permute(0, 2, 3, 1).numpy(), make_frames(1))


BUILD = """
import sys; from pathlib import Path
from kineme.shards import cache, cache_files
from kineme.shards.manifest import Manifest

def slow(sample, decode=cache_files.decode_sample):
    print("decoding", sample.record.key, flush=True)
    if len(sys.argv) > 3:
        import time; time.sleep(float(sys.argv[3]))
    return decode(sample)

cache_files.decode_sample = slow
shards, folder = map(Path, sys.argv[1:3])
use = cache.build_cache(shards, Manifest.load(shards).shards, folder)
print("built", flush=True)
sys.stdin.read()
"""


def build(shards: Path, cache: Path, seconds_a_clip: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(shards), str(cache), str(seconds_a_clip)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_build_it_once(tmp_path: Path) -> None:
    make_shards(tmp_path, (3, 3))
    cache = tmp_path / "cache"
    with build(tmp_path, cache, 0.1) as one, build(tmp_path, cache, 0.1) as other:
        decoded = [process.communicate(timeout=60)[0].splitlines() for process in (one, other)]
    assert [lines[-1] for lines in decoded] == ["built", "built"]
    # One decoded all six clips, the other waited and decoded none.
    assert sorted(len(lines) for lines in decoded) == [1, 7]
    assert len(keys(load(tmp_path, cache))) == 6


def test_a_kill_while_building(tmp_path: Path) -> None:
    make_shards(tmp_path, (2, 3))
    cache = tmp_path / "cache"
    with build(tmp_path, cache, 0.2) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if make_sample(3).record.key in line:
                process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    first, second = (entry.sha256 for entry in entries_of(tmp_path))
    assert first in cached(cache)
    assert any(name.startswith(f".{second}") for name in cached(cache))
    assert len(keys(load(tmp_path, cache))) == 5
    assert cached(cache) == {first, second}


def test_another_process_reads_and_a_kill_ends_its_claim(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    noise(tmp_path / "a", 0)
    noise(tmp_path / "b", 2)
    names = [{entry.sha256 for entry in entries_of(tmp_path / name)} for name in "ab"]
    with build(tmp_path / "a", cache, 0) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "built\n":
            pass
        load(tmp_path / "b", cache, cache_gb=0)
        assert cached(cache) == names[0]
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    started = time.monotonic()
    load(tmp_path / "b", cache, cache_gb=0)
    assert cached(cache) == set()
    assert time.monotonic() - started < 10


def test_a_full_disk_leaves_nothing_half_cached(tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", (3,))
    # A limit on the size of files fails a write as a full disk does: part of it is written, then an OSError.
    program = (
        "import resource, sys; from pathlib import Path; from kineme.shards.cache import build_cache;"
        "from kineme.shards.manifest import Manifest; shards, cache = map(Path, sys.argv[1:]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY));"
        "build_cache(shards, Manifest.load(shards).shards, cache)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "shards"), str(tmp_path / "cache")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "OSError: [Errno 27] File too large" in run.stderr
    assert cached(tmp_path / "cache") == set()
    assert len(keys(load(tmp_path / "shards", tmp_path / "cache"))) == 3
