"""Every clip comes once an epoch with what belongs to it, from the tars as from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from shard_factory import make_frames, make_sample, make_shards, write_shards
from torch import Tensor

from kineme.shards.batch import ClipBatch
from kineme.shards.errors import DataError
from kineme.shards.loader import ClipLoader, clip_loader

STRATEGIES = ["cached", "streamed"]


def load(folder: Path, strategy: str, **options: object) -> ClipLoader:
    settings = {"batch_size": 2, "clip_frames": 6, "cache": folder / "cache" if strategy == "cached" else None}
    return clip_loader(folder, **{**settings, **options})  # type: ignore[arg-type]


def clips(loader: ClipLoader) -> Iterator[tuple[str, Tensor]]:
    for batch in loader:
        for record, frames in zip(batch.records, batch.frames, strict=True):
            yield record.key, frames


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("workers", [0, 2])
def test_metadata_travel_with_their_frames(tmp_path: Path, strategy: str, workers: int) -> None:
    samples = {sample.record.key: sample for sample in make_shards(tmp_path, (3, 2))}
    seen = 0
    for batch in load(tmp_path, strategy, workers=workers, shuffle=True):
        assert batch.frames.dtype == torch.uint8
        assert batch.actions is not None
        assert batch.keypoints is not None
        for n, record in enumerate(batch.records):
            number = record.labels["number"]
            assert isinstance(number, int)
            assert record == samples[record.key].record
            np.testing.assert_array_equal(batch.frames[n].permute(0, 2, 3, 1).numpy(), make_frames(number))
            np.testing.assert_array_equal(batch.actions[n].numpy(), samples[record.key].actions)
            np.testing.assert_array_equal(batch.keypoints[n].numpy(), samples[record.key].keypoints)
            seen += 1
    assert seen == 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_unshuffled_order_is_the_manifest_s(tmp_path: Path, strategy: str) -> None:
    samples = make_shards(tmp_path, (3, 1, 2))
    assert [key for key, _ in clips(load(tmp_path, strategy))] == [sample.record.key for sample in samples]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_windows(tmp_path: Path, strategy: str) -> None:
    make_shards(tmp_path, (4,), frames=9)
    for batch in load(tmp_path, strategy, clip_frames=3, frame_step=2):
        for record, frames in zip(batch.records, batch.frames, strict=True):
            expected = make_frames(int(record.labels["number"]), frames=9)[0:5:2]
            np.testing.assert_array_equal(frames.permute(0, 2, 3, 1).numpy(), expected)
    starts = set()
    loader = load(tmp_path, strategy, clip_frames=3, frame_step=2, shuffle=True)
    for _ in range(12):
        for batch in loader:
            # The keypoints say from which frames of which clip a window was cut.
            assert torch.equal(batch.keypoints[:, :, 0, 0], batch.keypoints[:, :1, 0, 0].expand(-1, 3))
            assert (batch.keypoints[:, :, 0, 1].diff(dim=1) == 2).all()
            for number, start, frames in zip(
                batch.keypoints[:, 0, 0, 0], batch.keypoints[:, 0, 0, 1], batch.frames, strict=True
            ):
                expected = make_frames(int(number), frames=9)[int(start) :][:5:2]
                np.testing.assert_array_equal(frames.permute(0, 2, 3, 1).numpy(), expected)
                starts.add(int(start))
    assert starts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_the_split_that_was_asked_for(tmp_path: Path, strategy: str) -> None:
    splits = ["train", "test", "train", "test", "train"]
    samples = [make_sample(number, split=split) for number, split in enumerate(splits)]
    write_shards(tmp_path, [samples[:2], samples[2:4], samples[4:]])
    assert [k for k, _ in clips(load(tmp_path, strategy, split="test"))] == [samples[n].record.key for n in (1, 3)]
    with pytest.raises(DataError, match=r"'valid'.*2 of 'test', 3 of 'train'"):
        load(tmp_path, strategy, split="valid")
    odd = load(tmp_path, strategy, split="even=false")
    assert [key for key, _ in clips(odd)] == [samples[n].record.key for n in (1, 3)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("workers", [0, 2])
def test_drop_last(tmp_path: Path, strategy: str, workers: int) -> None:
    make_shards(tmp_path, (5, 5))
    sizes = [len(batch) for batch in load(tmp_path, strategy, batch_size=4, drop_last=True, workers=workers)]
    assert sizes == [4, 4]
    with pytest.raises(DataError, match="10 clips are fewer than one batch of 11") as caught:
        load(tmp_path, strategy, batch_size=11, drop_last=True, workers=workers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_shard_of_another_size_is_named_at_once(tmp_path: Path, strategy: str) -> None:
    make_shards(tmp_path, (2, 2))
    tar = tmp_path / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-1024])
    with pytest.raises(DataError, match=r"shard-000001\.tar: \d+ bytes where the manifest says"):
        load(tmp_path, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_clips_too_short_say_what_to_change(tmp_path: Path, strategy: str) -> None:
    make_shards(tmp_path, (2,))
    with pytest.raises(DataError, match=r"has 6 frames; 3 frames at step 3 need 7: .*--clip-frames 7"):
        load(tmp_path, strategy, clip_frames=3, frame_step=3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_clips_of_several_sizes_make_no_batch(tmp_path: Path, strategy: str) -> None:
    write_shards(tmp_path, [[make_sample(0), make_sample(1)], [make_sample(2, height=18)]])
    with pytest.raises(DataError, match=r"2 of 20x16, 1 of 20x18.*--size"):
        load(tmp_path, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("together", [True, False])
def test_clips_with_and_without_keypoints_make_no_batch(tmp_path: Path, strategy: str, together: bool) -> None:
    one, other = make_sample(0), make_sample(1, extras=False)
    write_shards(tmp_path, [[one, other]] if together else [[one], [other]])
    with pytest.raises(DataError, match="folders of their own"):
        list(load(tmp_path, strategy))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shards_without_extras(tmp_path: Path, strategy: str) -> None:
    write_shards(tmp_path, [[make_sample(0, extras=False)]])
    (batch,) = load(tmp_path, strategy)
    assert batch.actions is None
    assert batch.keypoints is None
    assert len(batch.to("cpu")) == 1


@pytest.mark.parametrize(("option", "value"), [("clip_frames", 0), ("frame_step", 0), ("seed", -1)])
def test_numbers_out_of_range(tmp_path: Path, option: str, value: int) -> None:
    make_shards(tmp_path, (1,))
    with pytest.raises(DataError, match=option):
        load(tmp_path, "streamed", shuffle=True, **{option: value})


@pytest.mark.parametrize("workers", [0, 2])
def test_endless_clips_are_new_in_every_epoch_and_come_again_with_the_seed(tmp_path: Path, workers: int) -> None:
    """Nothing but the digits is in the folder: no manifest, no shard."""
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    classes = np.arange(5, dtype=np.uint8)
    np.savez(tmp_path / "endless.npz", dataset=np.array("moving-mnist"), images=images, classes=classes)
    options = {"endless": 5, "shuffle": True, "workers": workers, "seed": 1}
    loader = load(tmp_path, "streamed", **options)
    first, second = list(clips(loader)), list(clips(loader))
    assert len(loader) == 3
    assert len(first) == len({key for key, _ in first + second}) / 2 == 5
    state = {"epoch": 1, "clips": 2}
    again = load(tmp_path, "streamed", **options)
    again.load_state_dict(state)
    for (key, frames), (expected, drawn) in zip(clips(again), second[2:], strict=True):
        assert key == expected
        assert torch.equal(frames, drawn)
    with pytest.raises(DataError, match="leave out one of the two"):
        load(tmp_path, "streamed", resident=torch.device("cpu"), **options)
    (tmp_path / "endless.npz").unlink()
    with pytest.raises(DataError, match=r"endless\.npz: there is nothing to draw"):
        load(tmp_path, "streamed", **options)


class Recorder(LightningModule):
    """Remembers the keys it was trained on, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[str]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: ClipBatch, _: int) -> Tensor:
        self.seen[-1] += [record.key for record in batch.records]
        return self.weight * batch.frames.float().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:The .* does not have many workers", "ignore:Trying to infer the `batch_size`")
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_through_the_epochs(tmp_path: Path, strategy: str, workers: int) -> None:
    make_shards(tmp_path, (6, 6))
    module = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, load(tmp_path, strategy, shuffle=True, workers=workers))
    loader = load(tmp_path, strategy, shuffle=True, workers=workers)
    assert module.seen == [[key for key, _ in clips(loader)] for _ in range(3)]
