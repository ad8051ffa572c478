"""Clips that live on the device are those of the other loaders, batch by batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shard_factory import make_sample, make_shards, write_shards

from kineme.shards import resident
from kineme.shards.errors import DataError
from kineme.shards.loader import clip_loader

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPTIONS = {"batch_size": 2, "clip_frames": 3, "frame_step": 2, "shuffle": True, "seed": 2}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_resident_batches_are_the_streamed_ones(workers: int, cached: bool, tmp_path: Path) -> None:
    """Clips of several lengths, so that windows differ from clip to clip and epoch to epoch."""
    write_shards(tmp_path, [[make_sample(n, frames=5 + n % 4) for n in range(4)], [make_sample(4, frames=9)]])
    cache = tmp_path / "cache" if cached else None
    loader = clip_loader(tmp_path, resident=DEVICE, workers=workers, cache=cache, **OPTIONS)
    streamed = clip_loader(tmp_path, **OPTIONS)
    for _ in range(3):
        for batch, expected in zip(loader, streamed, strict=True):
            assert batch.frames.device.type == DEVICE.type
            assert batch.frames.dtype == torch.uint8
            assert batch.frames.stride()[-3] == 1  # the memory order of the others, too
            assert batch.records == expected.records
            for name in ("frames", "actions", "keypoints"):
                assert torch.equal(getattr(batch, name).cpu(), getattr(expected, name))
    assert loader.state_dict() == streamed.state_dict() == {"epoch": 3, "clips": 0}


def test_without_extras(tmp_path: Path) -> None:
    write_shards(tmp_path, [[make_sample(0, extras=False)]])
    (batch,) = clip_loader(tmp_path, batch_size=1, clip_frames=6, resident=DEVICE)
    assert batch.actions is None
    assert batch.keypoints is None


@pytest.mark.parametrize("samples", [(True, False), (False, True)])
def test_with_and_without_extras(samples: tuple[bool, bool], tmp_path: Path) -> None:
    write_shards(tmp_path, [[make_sample(number, extras=extras) for number, extras in enumerate(samples)]])
    with pytest.raises(DataError, match="other actions or keypoints than the first clip"):
        clip_loader(tmp_path, batch_size=1, clip_frames=6, resident=DEVICE)


def test_a_set_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_shards(tmp_path, (4,))
    # A device with a thousand bytes left; real ones have more than a test may fill.
    monkeypatch.setattr(resident, "_free_bytes", lambda device: 1000)
    with pytest.raises(DataError, match=r"4 decoded clips take 0\.00 GB, more than 90% of the 0\.00 GB free") as caught:
        clip_loader(tmp_path, batch_size=1, clip_frames=6, resident=DEVICE)
    assert "\n" not in str(caught.value)


def test_free_memory_is_that_of_this_machine() -> None:
    assert 1e7 < resident._free_bytes(torch.device("cpu")) < 1e14


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_while_loading(workers: int, tmp_path: Path) -> None:
    make_shards(tmp_path, (2,))
    tar = tmp_path / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[100] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DataError, match="altered or not where it was") as caught:
        clip_loader(tmp_path, batch_size=1, clip_frames=6, resident=DEVICE, workers=workers)
    assert "\n" not in str(caught.value)
