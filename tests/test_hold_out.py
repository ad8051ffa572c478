"""What is held out of a split: by the bytes of a video, so that its clips lie on one side and stay there."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shard_factory import make_sample, write_shards

from kineme.shards.errors import DataError
from kineme.shards.hold_out import HoldOut
from kineme.shards.loader import clip_loader
from kineme.shards.sample import Sample, make_key

SHARES = st.floats(0, 1, exclude_max=True)
SHA256 = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(share=SHARES, sha256=SHA256, clips=st.lists(st.integers(0, 999_999), min_size=1))
def test_all_clips_of_a_video_are_on_one_side_and_no_clip_on_both(share: float, sha256: str, clips: list[int]) -> None:
    keys = [make_key(sha256, clip) for clip in clips]
    taken, rest = ({side.accepts(key) for key in keys} for side in (HoldOut(share, taken=True), HoldOut(share)))
    assert len(taken) == len(rest) == 1
    assert taken != rest


@given(sha256=SHA256, shares=st.lists(SHARES, min_size=2, max_size=2))
def test_a_larger_share_holds_out_what_a_smaller_one_does(sha256: str, shares: list[float]) -> None:
    small, large = (HoldOut(share, taken=True).accepts(make_key(sha256, 0)) for share in sorted(shares))
    assert large or not small


def test_the_share_is_that_of_the_videos() -> None:
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(4000)]
    for share in (0.05, 0.5, 0.9):
        expected = [int(digest, 16) / 2**256 < share for digest in digests]
        found = [HoldOut(share, taken=True).accepts(make_key(digest, 7)) for digest in digests]
        assert found == expected
        assert np.mean(found) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(DataError, match=r"a share from 0 to below 1; change data\.held_out"):
        HoldOut(share)


def two_clips(number: int, split: str = "train") -> list[Sample]:
    """Two clips of a video, the second one under its own number."""
    first, second = make_sample(number, split=split), make_sample(1000 + number, split=split)
    same = {"sha256": first.record.sha256, "key": make_key(first.record.sha256, 1)}
    return [first, dataclasses.replace(second, record=dataclasses.replace(second.record, **same))]


def write(folder: Path, videos: int) -> list[Sample]:
    """Shards of eight training videos each, and one of four test videos."""
    shards = [
        [clip for number in range(first, first + 8) for clip in two_clips(number)] for first in range(0, videos, 8)
    ]
    test = [clip for number in range(500, 504) for clip in two_clips(number, "test")]
    write_shards(folder, [*shards, test])
    return [clip for shard in shards for clip in shard]


SOURCES = {"streamed": {}, "cached": {"cache": True}, "resident": {"resident": torch.device("cpu")}}


def read(folder: Path, hold_out: HoldOut, **options: object) -> dict[str, torch.Tensor]:
    if options.pop("cache", False):
        options["cache"] = folder / ".cache"
    found: dict[str, torch.Tensor] = {}
    for batch in clip_loader(
        folder,
        batch_size=4,
        clip_frames=6,
        split="train",
        hold_out=hold_out,
        **options,  # type: ignore[arg-type]
    ):
        found |= {record.key: frames for record, frames in zip(batch.records, batch.frames, strict=True)}
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_every_training_clip_comes_on_one_side_as_it_is_stored(source: str, tmp_path: Path) -> None:
    """The cache of one share serves the next: what it holds are whole shards."""
    stored = {sample.record.key: sample for sample in write(tmp_path, 24)}
    whole = read(tmp_path, HoldOut())
    assert whole.keys() == stored.keys()
    for share in (0.2, 0.6):
        rest, taken = (read(tmp_path, HoldOut(share, side), **SOURCES[source]) for side in (False, True))
        assert rest
        assert taken
        assert not rest.keys() & taken.keys()
        both = rest | taken
        assert both.keys() == whole.keys()
        assert all(torch.equal(frames, whole[key]) for key, frames in both.items())


def test_the_sides_stay_when_the_folder_grows(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    before = {sample.record.key for sample in write(few, 8)}
    write(many, 24)
    for side in (False, True):
        assert read(few, HoldOut(0.4, side)).keys() == read(many, HoldOut(0.4, side)).keys() & before


def test_a_side_without_clips_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, 8)
    with pytest.raises(DataError, match=r"held_out 0\.0001 holds out none of 16 clips; raise data\.held_out") as none:
        read(tmp_path, HoldOut(0.0001, taken=True))
    with pytest.raises(DataError, match=r"held_out 0\.9999 leaves none of 16 clips; lower data\.held_out") as all_of_it:
        read(tmp_path, HoldOut(0.9999))
    with pytest.raises(DataError, match="no clips of split 'valid'"):
        clip_loader(tmp_path, batch_size=1, clip_frames=6, split="valid", hold_out=HoldOut(0.5))
    assert "\n" not in f"{none.value}{all_of_it.value}"


def test_a_key_without_a_sha256(tmp_path: Path) -> None:
    sample = make_sample(0)
    write_shards(tmp_path, [[dataclasses.replace(sample, record=dataclasses.replace(sample.record, key="one"))]])
    assert list(read(tmp_path, HoldOut())) == ["one"]
    with pytest.raises(DataError, match="clip one: its key begins with no sha256"):
        read(tmp_path, HoldOut(0.5))
