"""Damage under a running loader is one line that names the place, from workers as from the process itself."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset as wds
from shard_factory import make_sample, make_shards, write_shards

from kineme.shards.errors import DataError
from kineme.shards.loader import ClipLoader, clip_loader
from kineme.shards.records import ClipRow, read_rows


def load(folder: Path, **options: object) -> ClipLoader:
    return clip_loader(folder, **{"batch_size": 2, "clip_frames": 6, **options})  # type: ignore[arg-type]


def cut(tar: Path, rows: list[ClipRow]) -> None:
    tar.write_bytes(tar.read_bytes()[: rows[1].mp4_offset + 1000])


def cut_between_samples(tar: Path, rows: list[ClipRow]) -> None:
    tar.write_bytes(tar.read_bytes()[: rows[1].mp4_offset - 512])


def remove(tar: Path, rows: list[ClipRow]) -> None:
    tar.unlink()


def swap_two_clips(tar: Path, rows: list[ClipRow]) -> None:
    first, second = rows[0].mp4_offset - 512, rows[1].mp4_offset - 512
    data = tar.read_bytes()
    tar.write_bytes(data[second : 2 * second - first] + data[first:second] + data[2 * second - first :])


def zero_the_video(tar: Path, rows: list[ClipRow]) -> None:
    data = bytearray(tar.read_bytes())
    data[rows[1].mp4_offset + 40 : rows[1].mp4_offset + rows[1].mp4_size] = bytes(rows[1].mp4_size - 40)
    tar.write_bytes(data)


def alter_a_header(tar: Path, rows: list[ClipRow]) -> None:
    data = bytearray(tar.read_bytes())
    data[rows[1].mp4_offset - 500] ^= 1
    tar.write_bytes(data)


def alter_the_json(tar: Path, rows: list[ClipRow]) -> None:
    data = tar.read_bytes()
    key = rows[1].record.key.encode()
    # The last place is in the JSON; the two before are names of files.
    before, after = data.split(b'"key": "' + key, 1)
    tar.write_bytes(before + b'"key": "' + key[::-1] + after)


DAMAGE: dict[Callable[[Path, list[ClipRow]], None], str] = {
    cut: "cut short",
    cut_between_samples: "cut short",
    remove: "cannot be opened .No such file",
    swap_two_clips: "altered or not where it was",
    zero_the_video: "does not decode",
    alter_a_header: "altered or not where it was",
    alter_the_json: "says it is",
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_shard(
    damage: Callable[[Path, list[ClipRow]], None], workers: int, drop_last: bool, tmp_path: Path
) -> None:
    make_shards(tmp_path, (3, 3))
    loader = load(tmp_path, workers=workers, drop_last=drop_last)
    damage(tmp_path / "shard-000001.tar", read_rows(tmp_path / "shard-000001.parquet"))
    with pytest.raises(DataError, match=rf"shard-000001\.tar.*{DAMAGE[damage]}") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


def test_a_parquet_that_does_not_fit_its_tar(tmp_path: Path) -> None:
    make_shards(tmp_path, (3, 2))
    (tmp_path / "shard-000000.parquet").write_bytes((tmp_path / "shard-000001.parquet").read_bytes())
    with pytest.raises(DataError, match=r"shard-000000\.parquet: does not fit the 3 clips"):
        load(tmp_path)
    (tmp_path / "shard-000000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"shard-000000\.parquet: not a readable parquet") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cached", [False, True])
def test_many_shards_need_few_open_files_and_no_memory(cached: bool, tmp_path: Path) -> None:
    """Of 80 shards no more than 64 are open at once, and after eight epochs no more is held than after two."""
    samples = [make_sample(n, height=2, width=2, frames=1) for n in range(80)]
    write_shards(tmp_path, [[sample] for sample in samples])
    before = len(list(Path("/proc/self/fd").iterdir()))
    loader = load(tmp_path, clip_frames=1, shuffle=True, cache=tmp_path / "cache" if cached else None)
    held = []
    tracemalloc.start()
    for _ in range(8):
        assert sum(len(batch) for batch in loader) == 80
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        # A cached shard is four maps.
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= 64 * (4 if cached else 1) + 8
    tracemalloc.stop()
    # Less than 50 bytes a clip and epoch, where a record alone takes a thousand.
    assert held[-1] - held[1] < 6 * 80 * 50


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves files to the collector
def test_a_plain_webdataset_reads_the_same_clips(tmp_path: Path) -> None:
    samples = make_shards(tmp_path, (3, 2))
    read = list(wds.WebDataset(str(tmp_path / "shard-{000000..000001}.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in read] == [sample.record.key for sample in samples]
    assert [sample["json"]["labels"]["number"] for sample in read] == list(range(5))
    assert [sample["keypoints.npy"].shape for sample in read] == [(6, 1, 2)] * 5
    gc.collect()
