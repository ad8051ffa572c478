"""Shards are reproducible, whole or absent, and verify names whatever is wrong with them."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from shard_factory import make_frames, make_sample, make_shards, write_shards

from kineme.shards.errors import DataError
from kineme.shards.manifest import Manifest, write_atomically
from kineme.shards.reader import load_clip_frames, read_samples
from kineme.shards.records import common_fps, read_records, read_rows
from kineme.shards.sample import ClipRecord
from kineme.shards.verify import verify
from kineme.shards.writer import ShardWriter


def test_equal_samples_make_equal_shards(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_shards(tmp_path / name, (3, 2))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [
        "manifest.json",
        "shard-000000.parquet",
        "shard-000000.tar",
        "shard-000001.parquet",
        "shard-000001.tar",
    ]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_tar_says_nothing_of_who_wrote_it_when(tmp_path: Path) -> None:
    samples = make_shards(tmp_path, (2,))
    with tarfile.open(tmp_path / "shard-000000.tar") as tar:
        members = tar.getmembers()
    suffixes = ("mp4", "json", "actions.npy", "keypoints.npy")
    assert [member.name for member in members] == [f"{s.record.key}.{suffix}" for s in samples for suffix in suffixes]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_webdataset_reads_the_tar(tmp_path: Path) -> None:
    samples = make_shards(tmp_path, (3,))
    with (tmp_path / "shard-000000.tar").open("rb") as file:
        files = wds.tariterators.tar_file_expander([{"url": file.name, "stream": file}])
        read = list(wds.tariterators.group_by_keys(files))
    assert [sample["__key__"] for sample in read] == [sample.record.key for sample in samples]
    assert [sample["mp4"] for sample in read] == [sample.mp4 for sample in samples]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    samples = make_shards(tmp_path, (2, 3))
    assert read_records(tmp_path) == [sample.record for sample in samples]
    stored = [s for name in ("shard-000000", "shard-000001") for s in read_samples(tmp_path / f"{name}.tar")]
    for sample, again in zip(samples, stored, strict=True):
        assert (again.record, again.mp4) == (sample.record, sample.mp4)
        np.testing.assert_array_equal(again.actions, sample.actions)
        np.testing.assert_array_equal(again.keypoints, sample.keypoints)


def test_the_rate_that_clips_share(tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    samples = make_shards(tmp_path / "same", (2, 1))
    assert common_fps(tmp_path / "same") == samples[0].record.fps
    other = dataclasses.replace(samples[2], record=dataclasses.replace(samples[2].record, fps=7.5))
    (tmp_path / "mixed").mkdir()
    write_shards(tmp_path / "mixed", [samples[:2], [other]])
    assert common_fps(tmp_path / "mixed") is None


def test_a_clip_is_found_by_its_key(tmp_path: Path) -> None:
    samples = make_shards(tmp_path, (2, 3))
    for number, sample in enumerate(samples):
        np.testing.assert_array_equal(load_clip_frames(tmp_path, sample.record.key), make_frames(number))
    with pytest.raises(DataError, match="holds no clip"):
        load_clip_frames(tmp_path, "0123456789abcdef-000000")


def test_an_unfinished_shard_leaves_nothing(tmp_path: Path) -> None:
    def crash() -> None:
        with ShardWriter(tmp_path, 0) as writer:
            writer.add(make_sample(0))
            assert writer.clips == 1
            assert writer.bytes > 1000
            (temporary,) = tmp_path.iterdir()
            assert temporary.name.startswith(".shard-000000.")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".shard-000000.abc.tar.tmp").write_bytes(b"x" * 1_000_000)
    make_shards(tmp_path / "a", (2,))
    make_shards(tmp_path / "b", (2,))
    assert (tmp_path / "a" / "shard-000000.tar").read_bytes() == (tmp_path / "b" / "shard-000000.tar").read_bytes()


def test_the_entry_describes_the_shard(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 7) as writer:
        writer.add(make_sample(0))
        entry = writer.finish()
    assert (entry.name, entry.clips) == ("shard-000007", 1)
    assert entry.bytes == (tmp_path / "shard-000007.tar").stat().st_size


def test_a_key_is_never_stored_twice(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 0) as writer:
        writer.add(make_sample(0))
        with pytest.raises(DataError, match="already"):
            writer.add(make_sample(0))


def test_keypoints_need_one_row_a_frame(tmp_path: Path) -> None:
    sample = dataclasses.replace(make_sample(0), keypoints=np.zeros((4, 2, 2), np.float32))
    with ShardWriter(tmp_path, 0) as writer, pytest.raises(DataError, match="4 keypoints for the 6 frames"):
        writer.add(sample)


def test_atomic_writes_leave_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_manifest_comes_back(tmp_path: Path) -> None:
    make_shards(tmp_path, (1, 2))
    manifest = Manifest.load(tmp_path)
    assert [entry.clips for entry in manifest.shards] == [1, 2]
    before = (tmp_path / "manifest.json").read_bytes()
    manifest.save(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "kineme ingest"),
        ("{", "not a manifest"),
        ("[]", "not a manifest"),
        ("{}", "not a manifest"),
        ('{"schema": 1}', "not a manifest"),
        ('{"schema": 99}', "schema 99"),
    ],
)
def test_a_bad_manifest_says_what_to_do(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=says):
        Manifest.load(tmp_path)


def test_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such shards folder"):
        Manifest.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", None])
def test_a_bad_parquet_is_named(tmp_path: Path, content: bytes | None) -> None:
    make_shards(tmp_path, (2,))
    parquet = tmp_path / "shard-000000.parquet"
    parquet.unlink()
    if content is not None:
        parquet.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-000000\.parquet"):
        read_rows(parquet)
    assert any("shard-000000.parquet" in problem for problem in verify(tmp_path))


def test_whole_shards_verify(tmp_path: Path) -> None:
    make_shards(tmp_path, (2, 1))
    assert verify(tmp_path) == []


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_verify_finds_a_flipped_bit(tmp_path: Path, suffix: str) -> None:
    make_shards(tmp_path, (2, 1))
    path = tmp_path / f"shard-000001.{suffix}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    problems = verify(tmp_path)
    assert any(path.name in problem and "sha256" in problem for problem in problems)
    assert all("shard-000000" not in problem for problem in problems)


@pytest.mark.parametrize("cut", ["inside a file", "between two samples"])
def test_verify_finds_a_shard_cut_short(tmp_path: Path, cut: str) -> None:
    make_shards(tmp_path, (1, 3))
    tar = tmp_path / "shard-000001.tar"
    row = read_rows(tmp_path / "shard-000001.parquet")[2]
    # The mp4 of the third clip lies behind a header of 512 bytes.
    length = row.mp4_offset - 512 if cut == "between two samples" else row.mp4_offset + 1000
    tar.write_bytes(tar.read_bytes()[:length])
    problems = "\n".join(verify(tmp_path))
    assert "shard-000001.tar: altered" in problems
    assert "2 readable clips where the manifest says 3" in problems


def test_verify_names_missing_and_extra_shards(tmp_path: Path) -> None:
    make_shards(tmp_path, (1, 1))
    (tmp_path / "shard-000001.tar").rename(tmp_path / "shard-000009.tar")
    assert verify(tmp_path) == [
        "shard-000001.tar: missing",
        "shard-000009.tar: not in the manifest; ingest again, or remove it",
    ]


def test_verify_compares_the_video_with_its_record(tmp_path: Path) -> None:
    wrong = make_sample(0)
    record = dataclasses.replace(wrong.record, num_frames=7)
    longer = dataclasses.replace(wrong, record=record, actions=None, keypoints=None)
    write_shards(tmp_path, [[longer, make_sample(1)]])
    (problem,) = verify(tmp_path)
    assert record.key in problem
    assert "(6, 16, 20)" in problem


def test_verify_finds_a_key_in_two_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, [[make_sample(0)], [make_sample(0)]])
    (problem,) = verify(tmp_path)
    assert problem.startswith("shard-000001.tar: key")
    assert "shard-000000" in problem


def test_verify_compares_json_and_parquet(tmp_path: Path) -> None:
    make_shards(tmp_path / "a", (1,))
    sample = make_sample(0)
    renamed = dataclasses.replace(sample, record=dataclasses.replace(sample.record, split="test"))
    write_shards(tmp_path / "b", [[renamed]])
    # A whole, checksummed shard whose parquet tells another story than its tar.
    (tmp_path / "a" / "shard-000000.parquet").write_bytes((tmp_path / "b" / "shard-000000.parquet").read_bytes())
    manifest, other = Manifest.load(tmp_path / "a"), Manifest.load(tmp_path / "b")
    entry = dataclasses.replace(manifest.shards[0], parquet_sha256=other.shards[0].parquet_sha256)
    dataclasses.replace(manifest, shards=[entry]).save(tmp_path / "a")
    (problem,) = verify(tmp_path / "a")
    assert "not what its row" in problem


def test_records_survive_json() -> None:
    record = make_sample(3).record
    assert ClipRecord.from_json(record.to_json()) == record
    assert json.loads(record.to_json())["labels"]["name"] == "ü3"
