"""The order of clips: by (seed, epoch) alone, each clip once, shared out among ranks, taken up again anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_factory import make_shards
from torch.utils.data import DistributedSampler

from kineme.shards.errors import DataError
from kineme.shards.loader import ClipLoader, clip_loader
from kineme.shards.order import SHARDS_AT_ONCE, EpochSampler, Progress, epoch_order

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than the machine has cores

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=80)
Batches = list[list[tuple[str, bytes]]]


def joined(batches: Batches) -> list[tuple[str, bytes]]:
    return [clip for batch in batches for clip in batch]


@settings(deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_an_epoch_is_a_permutation_of_a_few_shards_at_a_time(sizes: list[int], seed: int, epoch: int) -> None:
    order = epoch_order(np.array(sizes), seed, epoch)
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[order]
    position = 0
    seen: set[int] = set()
    while position < len(order):
        # The longest stretch of at most so many shards holds all of their clips.
        lot: list[int] = []
        while position < len(order) and len({*lot, int(shard_of[position])}) <= SHARDS_AT_ONCE:
            lot.append(int(shard_of[position]))
            position += 1
        assert not seen & set(lot)
        assert len(lot) == sum(sizes[shard] for shard in set(lot))
        seen |= set(lot)
    assert epoch_order(np.array(sizes), None, epoch).tolist() == list(range(sum(sizes)))


def test_all_orders_are_as_likely() -> None:
    """Of three clips in two shards, each of the six orders comes about every sixth time."""
    orders = [tuple(epoch_order(np.array([2, 1]), 7, epoch)) for epoch in range(3000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    # Five standard deviations of a binomial count.
    assert all(abs(count - 500) < 5 * (3000 * 1 / 6 * 5 / 6) ** 0.5 for count in counts)


@settings(deadline=None)
@given(
    sizes=SIZES,
    batch_size=st.integers(1, 7),
    ranks=st.integers(1, 9),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_ranks_share_one_order(
    sizes: list[int], batch_size: int, ranks: int, shuffle: bool, drop_last: bool, epoch: int
) -> None:
    order = epoch_order(np.array(sizes), 5 if shuffle else None, epoch).tolist()
    shares = []
    for rank in range(ranks):
        sampler = EpochSampler(
            sizes,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=5,
            drop_last=drop_last,
            rank=rank,
            ranks=ranks,
            start=Progress(epoch, 0),
        )
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert all(number_epoch == epoch for batch in batches for number_epoch, _ in batch)
        assert all(len(batch) == batch_size for batch in (batches if drop_last else batches[:-1]))
        shares.append([number for batch in batches for _, number in batch])
    if drop_last:
        taken = len(order) // (batch_size * ranks) * batch_size * ranks
        assert [shares[n % ranks][n // ranks] for n in range(taken)] == order[:taken]
        assert sum(map(len, shares)) == taken
    else:
        for rank, share in enumerate(shares):
            reference = DistributedSampler(range(len(order)), ranks, rank, shuffle=False)  # type: ignore[arg-type]
            assert share == [order[place] for place in reference]


@settings(deadline=None)
@given(data=st.data(), sizes=SIZES, shuffle=st.booleans(), drop_last=st.booleans())
def test_the_rest_of_an_epoch(data: st.DataObject, sizes: list[int], shuffle: bool, drop_last: bool) -> None:
    batch_size, ranks = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    options = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last, "ranks": ranks}
    whole = list(EpochSampler(sizes, **options))
    done = data.draw(st.integers(0, len(whole)))
    sampler = EpochSampler(sizes, **options)
    sampler.start_at(sampler.after(Progress(0, 0), done))
    # What Lightning calls before every epoch changes nothing when it is this one.
    sampler.set_epoch(0 if done < len(whole) else 1)
    following = list(EpochSampler(sizes, start=Progress(1, 0), **options))
    assert list(sampler) == (whole[done:] if done < len(whole) else following)
    if done < len(whole):
        assert list(sampler) == following


@settings(deadline=None)
@given(sizes=SIZES, done=st.integers(0, 100), batch_size=st.integers(1, 5), ranks=st.integers(1, 4))
def test_the_rest_with_other_ranks_and_batches(sizes: list[int], done: int, batch_size: int, ranks: int) -> None:
    order = epoch_order(np.array(sizes), 0, 0).tolist()
    rest = order[min(done, len(order)) :]
    rows = []
    for rank in range(ranks):
        sampler = EpochSampler(sizes, batch_size=batch_size, shuffle=True, rank=rank, ranks=ranks)
        sampler.start_at(Progress(0, done))
        rows.append([number for batch in sampler for epoch, number in batch if epoch == 0])
    assert len({len(row) for row in rows}) == 1
    assert [rows[n % ranks][n // ranks] for n in range(len(rest))] == rest


def test_ranks_out_of_range() -> None:
    with pytest.raises(DataError, match=r"rank 2 of 2: ranks count from 0 to 1"):
        EpochSampler([3], batch_size=1, shuffle=False, rank=2, ranks=2)
    with pytest.raises(DataError, match="batch_size 0"):
        EpochSampler([3], batch_size=0, shuffle=False)


def read(loader: ClipLoader, epochs: int = 1) -> Batches:
    return [
        [(record.key, frames.numpy().tobytes()) for record, frames in zip(batch.records, batch.frames, strict=True)]
        for _ in range(epochs)
        for batch in loader
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 5, 1 and 4 clips of 9 frames."""
    path = tmp_path_factory.mktemp("order")
    make_shards(path, (5, 1, 4), frames=9)
    return path


OPTIONS = {"batch_size": 3, "clip_frames": 3, "shuffle": True, "seed": 4}


@pytest.fixture(scope="module")
def two_epochs(folder: Path) -> Batches:
    batches = read(clip_loader(folder, **OPTIONS), 2)
    for epoch in (batches[:4], batches[4:]):
        assert len({key for batch in epoch for key, _ in batch}) == 10
    assert [key for batch in batches[:4] for key, _ in batch] != [key for batch in batches[4:] for key, _ in batch]
    assert dict(joined(batches[:4])) != dict(joined(batches[4:]))  # other windows, too
    return batches


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
@pytest.mark.parametrize("cache_gb", [None, 1.0, 5 * 9 * 16 * 20 * 3 * 1.2e-9])
def test_workers_and_cache_change_nothing(
    workers: int, cache_gb: float | None, folder: Path, two_epochs: Batches, tmp_path: Path
) -> None:
    """The last bound is enough for the first shard alone."""
    cache = None if cache_gb is None else tmp_path / "cache"
    loader = clip_loader(folder, workers=workers, cache=cache, cache_gb=cache_gb, **OPTIONS)
    assert read(loader, 2) == two_epochs


@pytest.mark.parametrize("cached", [False, True])
def test_spawned_workers(cached: bool, folder: Path, two_epochs: Batches, tmp_path: Path) -> None:
    loader = clip_loader(folder, workers=2, cache=tmp_path / "cache" if cached else None, **OPTIONS)
    loader.multiprocessing_context = "spawn"
    assert read(loader, 2) == two_epochs


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", range(8))
def test_a_loader_goes_on_with_the_next_clip(workers: int, done: int, folder: Path, two_epochs: Batches) -> None:
    loader = clip_loader(folder, **OPTIONS)
    for _ in range(done // 4):
        read(loader)
    batches = iter(loader)
    for _ in range(done % 4):
        next(batches)
    again = clip_loader(folder, workers=workers, **OPTIONS)
    again.load_state_dict(loader.state_dict())
    assert read(again) == two_epochs[done : 4 * (done // 4 + 1)]
    if done < 4:
        assert read(again) == two_epochs[4:]


def test_more_processes_than_shards(folder: Path, two_epochs: Batches) -> None:
    """Three ranks of two workers each, of three shards: together they read one epoch, and the first two clips twice."""
    shares = [clip_loader(folder, rank=rank, ranks=3, workers=2, **{**OPTIONS, "batch_size": 2}) for rank in range(3)]
    rows = [joined(read(share)) for share in shares]
    order = joined(two_epochs[:4])
    assert [rows[n % 3][n // 3] for n in range(12)] == order + order[:2]


def test_choosing_an_epoch(folder: Path, two_epochs: Batches) -> None:
    loader = clip_loader(folder, epoch=1, **OPTIONS)
    assert read(loader) == two_epochs[4:]
    loader.sampler.set_epoch(0)
    assert read(loader) == two_epochs[:4]
    assert dict(joined(read(clip_loader(folder, **{**OPTIONS, "seed": 5})))) != dict(joined(two_epochs[:4]))
    # A second iterator before the first batch: torch and Lightning make one, and use the later.
    iter(loader)
    assert loader.state_dict() == {"epoch": 1, "clips": 0}
    assert read(loader) == two_epochs[4:]
