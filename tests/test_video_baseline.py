"""The baselines of table 7.1: their heads, their losses against slow references, what they need of the shards."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_factory import make_sample, make_shards, write_shards
from tiny_runs import BASELINE, TEST_CLIPS, make_recipe, make_run

from kineme.models.video_baseline import Objective, VideoBaseline, VideoBaselineConfig, displacement_loss
from kineme.pipeline.encoders import load_encoder
from kineme.pipeline.encoding import encode_shards
from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import VideoBaselineRecipe, load_recipe
from kineme.pipeline.run import load_run
from kineme.pipeline.tasks import TrainingClips, complete_recipe
from kineme.pipeline.tasks.video_baseline import VideoBaselineTask
from kineme.pipeline.training import train
from kineme.shards.records import read_records

CPU = torch.device("cpu")
OBJECTIVES: list[Objective] = ["classification", "reconstruction", "displacement"]


def network(objective: Objective, frame_size: int = 32, clip_frames: int = 5) -> VideoBaseline:
    torch.manual_seed(0)
    return VideoBaseline(VideoBaselineConfig(frame_size, clip_frames, 4, 4, 6, objective, classes=7, keypoints=2))


def slow_displacement_loss(predicted: np.ndarray, keypoints: np.ndarray, interchangeable: bool) -> float:
    clips, steps, count, _ = predicted.shape
    losses = []
    for clip in range(clips):
        costs = []
        for order in itertools.permutations(range(count)) if interchangeable else [range(count)]:
            cost = 0.0
            for step, (mine, theirs), xy in itertools.product(range(steps), enumerate(order), range(2)):
                moved = keypoints[clip, step + 1, theirs, xy] - keypoints[clip, step, theirs, xy]
                cost += abs(predicted[clip, step, mine, xy] - moved)
            costs.append(cost / count)
        losses.append(min(costs))
    return sum(losses) / clips


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 4), st.integers(1, 4), st.booleans())
def test_displacement_loss_against_loops(seed: int, clips: int, frames: int, count: int, interchangeable: bool) -> None:
    rng = np.random.default_rng(seed)
    predicted, keypoints = rng.normal(size=(clips, frames - 1, count, 2)), rng.normal(size=(clips, frames, count, 2))
    loss = displacement_loss(torch.from_numpy(predicted), torch.from_numpy(keypoints), interchangeable=interchangeable)
    assert float(loss) == pytest.approx(slow_displacement_loss(predicted, keypoints, interchangeable))


def test_interchangeable_keypoints_have_no_order() -> None:
    keypoints = torch.randn(3, 5, 4, 2)
    order = torch.tensor([2, 0, 3, 1])
    moved = keypoints.diff(dim=1)
    assert float(displacement_loss(moved[:, :, order], keypoints)) == 0
    assert float(displacement_loss(moved[:, :, order], keypoints, interchangeable=False)) > 0
    # One order for the whole clip: changing it on the way is an error.
    changing = torch.cat([moved[:, :2], moved[:, 2:][:, :, order]], dim=1)
    assert float(displacement_loss(changing, keypoints)) > 0
    with pytest.raises(ValueError, match="at most 4"):
        displacement_loss(torch.zeros(1, 1, 5, 2), torch.zeros(1, 2, 5, 2))


@pytest.mark.parametrize(
    ("objective", "shape"), [("classification", (2, 7)), ("reconstruction", None), ("displacement", (2, -1, 2, 2))]
)
@pytest.mark.parametrize(("frame_size", "clip_frames"), [(32, 5), (24, 2), (16, 8), (64, 9)])
def test_the_heads(objective: Objective, shape: tuple[int, ...] | None, frame_size: int, clip_frames: int) -> None:
    model = network(objective, frame_size, clip_frames)
    frames = torch.rand(2, clip_frames, 3, frame_size, frame_size)
    expected = frames.shape if shape is None else tuple(clip_frames - 1 if n == -1 else n for n in shape)
    assert model(frames).shape == expected
    dynamics, pooled = model.encode(frames)
    assert dynamics.shape == (2, 6)
    assert pooled.shape == (2, 16)


def test_the_decoder_sees_dynamics_alone_and_draws_every_frame() -> None:
    model = network("reconstruction", 64, 8).eval()
    one, other = model.head(torch.randn(1, 6)), model.head(torch.randn(1, 6))
    assert ((one - other).abs().amax(dim=(0, 2, 3, 4)) > 1e-3).all()
    # No larger than what it mirrors.
    sizes = [sum(p.numel() for p in part.parameters()) for part in (model.head, model.video_encoder)]
    assert sizes[0] < sizes[1]


def test_encode_gives_what_the_head_is_given() -> None:
    model = network("classification").eval()
    frames = torch.rand(3, 5, 3, 32, 32)
    dynamics, _ = model.encode(frames)
    torch.testing.assert_close(model.head(dynamics), model(frames))
    assert not model.video_encoder.third._forward_hooks


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_can_be_learnt(objective: Objective, digits: Path, tmp_path: Path) -> None:
    """Four clips by heart."""
    recipe = make_recipe(BASELINE, tmp_path, f"objective.kind={objective}", "data.clip_frames=5")
    completed = complete_recipe(recipe, digits / "shards")
    assert isinstance(completed, VideoBaselineRecipe)
    torch.manual_seed(0)
    task = VideoBaselineTask(completed)
    records = [record for record in read_records(digits / "shards") if record.split == "train"][:4]
    clips = TrainingClips(torch.rand(4, 5, 3, 32, 32), None, 10 * torch.randn(4, 5, 2, 2).cumsum(1), records)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = task.losses(clips, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    # The statics branch takes no part.
    assert all(parameter.grad is None for parameter in task.model.video_encoder.statics.parameters())


def test_squared_error_sums_over_pixels(digits: Path, tmp_path: Path) -> None:
    task = VideoBaselineTask(
        make_recipe(BASELINE, tmp_path, "objective.kind=reconstruction", "data.clip_frames=5")  # type: ignore[arg-type]
    )
    frames = torch.rand(2, 5, 3, 32, 32)
    # In training mode batch norms depend on the batch alone, so a second pass draws the same.
    drawn = task.model(frames).detach()
    slow = sum(float(((drawn[b, t] - frames[b, t]) ** 2).sum()) for b in range(2) for t in range(5)) / 10
    loss = task.losses(TrainingClips(frames, None, None, []), 0.0)["loss"]
    assert float(loss.detach()) == pytest.approx(slow, rel=1e-4)


def test_windows_of_longer_clips_start_anywhere(tmp_path: Path) -> None:
    """Frames of the window and their keypoints are the same ones."""
    settings = ("objective.kind=displacement", "objective.keypoints=2", "data.clip_frames=8")
    task = VideoBaselineTask(make_recipe(BASELINE, tmp_path, *settings))  # type: ignore[arg-type]
    seen = set()
    task.model.register_forward_pre_hook(lambda model, given: seen.add(float(given[0][0, 0, 0, 0, 0])))
    for parameter in task.model.head.parameters():
        torch.nn.init.zeros_(parameter)
    times = torch.arange(8.0)
    frames = times.view(1, 8, 1, 1, 1).expand(1, 8, 3, 32, 32)
    # Accelerated, so that the sum of the displacements tells the start of the window.
    keypoints = (times**2).view(1, 8, 1, 1).expand(1, 8, 2, 2)
    clips = TrainingClips(frames, None, keypoints, [])
    losses = {float(task.losses(clips, 0.0)["loss"].detach()) for _ in range(60)}
    assert seen == {0.0, 1.0, 2.0, 3.0}
    assert losses == {2.0 * ((start + 4) ** 2 - start**2) for start in range(4)}


@pytest.fixture(scope="module", params=OBJECTIVES)
def run(request: pytest.FixtureRequest, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return make_run(BASELINE, digits, folder, f"objective.kind={request.param}")


def test_a_run_leaves_what_its_network_needs_to_be_built(run: Path, digits: Path) -> None:
    recipe = load_recipe(run / "recipe.yaml")
    assert isinstance(recipe, VideoBaselineRecipe)
    train_clips = [record for record in read_records(digits / "shards") if record.split == "train"]
    if recipe.objective.kind == "classification":
        assert recipe.objective.classes == sorted({str(record.labels["speeds"]) for record in train_clips})
    if recipe.objective.kind == "displacement":
        assert recipe.objective.keypoints == 2
    assert load_run(run, CPU).recipe == recipe
    assert list((run / "samples").glob("*.png"))


def test_a_run_encodes_clips(run: Path, digits: Path) -> None:
    encoder = load_encoder(run, CPU)
    vectors, records = encode_shards(encoder, digits / "shards", split="test")
    assert len(records) == TEST_CLIPS
    assert vectors.motion.shape == (TEST_CLIPS, encoder.motion_dim) == (TEST_CLIPS, 6)
    assert vectors.appearance.shape == (TEST_CLIPS, encoder.appearance_dim) == (TEST_CLIPS, 16)
    assert np.ptp(vectors.motion, axis=0).max() > 0
    assert (encoder.clip_frames, encoder.frame_step, encoder.frame_size) == (5, 1, 32)


def test_a_run_goes_on(run: Path, digits: Path, tmp_path: Path) -> None:
    """With the recipe that leaves classes and keypoints open as well; not with another objective."""
    kind = load_recipe(run / "recipe.yaml").objective.kind  # type: ignore[union-attr]
    train(make_recipe(BASELINE, tmp_path, f"objective.kind={kind}"), digits / "shards", run, resume=True)
    other = OBJECTIVES[OBJECTIVES.index(kind) - 1]
    with pytest.raises(RunError, match="was trained as another video-baseline model"):
        train(make_recipe(BASELINE, tmp_path, f"objective.kind={other}"), digits / "shards", run, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["objective.label=speed"], "has no label 'speed'; choose one that it has: digits, "),
        (["objective.classes=[a]"], "objective.classes are ['a']: it takes two or more"),
        (["objective.classes=[a, b]"], "none of the 2 classes of the training"),
        (["data.clip_frames=4"], "data.clip_frames is 4: a clip must have the 5 frames of model.clip_frames"),
        (["objective.kind=displacement", "objective.keypoints=3"], "objective.keypoints is 3, but the shards hold 2"),
        (["objective.kind=displacement", "objective.keypoints=5"], "at most 4 can be assigned"),
        (["objective.kind=displacement", "data.augment={horizontal_flip: {}}"], "data.augment has horizontal_flip"),
    ],
)
def test_what_does_not_fit_is_one_line(settings: list[str], message: str, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        train(make_recipe(BASELINE, tmp_path, *settings), digits / "shards", tmp_path / "run", accelerator="cpu")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_shards_without_keypoints(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", [[make_sample(number, extras=False) for number in range(4)]])
    recipe = make_recipe(BASELINE, tmp_path, "objective.kind=displacement", "data.split=null")
    with pytest.raises(RunError, match="the shards hold no keypoints: ingest a set that has them") as error:
        complete_recipe(recipe, tmp_path / "shards")
    assert "\n" not in str(error.value)


def test_labels_are_classes_as_text(tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", (11,))
    recipe = complete_recipe(make_recipe(BASELINE, tmp_path, "objective.label=even"), tmp_path / "shards")
    assert isinstance(recipe, VideoBaselineRecipe)
    assert recipe.objective.classes == ["false", "true"]
    task = VideoBaselineTask(recipe)
    records = read_records(tmp_path / "shards")
    assert task.targets(records).tolist() == [int(json.loads(record.to_json())["labels"]["even"]) for record in records]


def test_a_class_that_was_not_trained_on(tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", (3,))
    settings = ("objective.label=number", "objective.classes=['0', '1']")
    task = VideoBaselineTask(make_recipe(BASELINE, tmp_path, *settings))  # type: ignore[arg-type]
    with pytest.raises(RunError, match="has number '2', none of the 2 classes of the training") as error:
        task.targets(read_records(tmp_path / "shards"))
    assert "\n" not in str(error.value)
