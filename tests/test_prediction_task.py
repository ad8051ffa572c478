"""What a predictor is trained on: the condition of a frame, its scale, and clips that are short at first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import PREDICTOR, make_pushing, make_recipe
from torch import Tensor

from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import Recipe
from kineme.pipeline.tasks import TrainingClips, complete_recipe, make_task
from kineme.pipeline.tasks.prediction import PredictionTask
from kineme.shards.hold_out import HoldOut
from kineme.shards.loader import clip_loader
from kineme.shards.sampling import Sampling

KERNELS = PREDICTOR.replace("kind: frame-predictor", "kind: kernel-predictor").replace(
    "{frame_size: 32, width: 2, feature_dim: 6, hidden_dim: 8, latent_dim: 3}",
    "{frame_size: 32, width: 2, kernels: 2, reach: 2}",
)
KINDS = [PREDICTOR, KERNELS]
WITH_ACTIONS = ("model.condition_dim=7", "objective.action_columns=4")


def make(text: str, folder: Path, *settings: str) -> PredictionTask:
    return task_of(make_recipe(text, folder, *settings))


def task_of(recipe: Recipe) -> PredictionTask:
    torch.manual_seed(0)
    task = make_task(recipe)
    assert isinstance(task, PredictionTask)
    return task


def random_clips(stored: Tensor | None = None) -> TrainingClips:
    return TrainingClips(torch.rand(2, 6, 3, 32, 32), stored, None, ())


@pytest.mark.parametrize("text", KINDS)
def test_a_frame_gets_the_action_that_leads_to_it_and_its_own_state(text: str, tmp_path: Path) -> None:
    stored = torch.rand(2, 6, 7)
    condition = make(text, tmp_path, *WITH_ACTIONS).condition(stored)
    assert condition is not None
    assert torch.equal(condition[:, 0, :4], torch.zeros(2, 4))
    assert torch.equal(condition[:, 1:, :4], stored[:, :-1, :4])
    assert torch.equal(condition[..., 4:], stored[..., 4:])


def test_all_numbers_are_actions_unless_said_otherwise(tmp_path: Path) -> None:
    stored = torch.rand(2, 6, 2)
    condition = make(PREDICTOR, tmp_path, "model.condition_dim=2").condition(stored)
    assert condition is not None
    assert torch.equal(condition[:, 1:], stored[:, :-1])


def test_a_model_without_a_condition_ignores_what_is_stored(tmp_path: Path) -> None:
    assert make(PREDICTOR, tmp_path).condition(torch.rand(2, 6, 7)) is None


def test_training_finds_the_scale_of_a_condition_in_the_training_clips(pushing: Path, tmp_path: Path) -> None:
    recipe = complete_recipe(make_recipe(PREDICTOR, tmp_path, *WITH_ACTIONS), pushing)
    windows = clip_loader(pushing, batch_size=1, clip_frames=6, split="train", shuffle=True)
    rows = torch.cat([clip.actions for clip in windows if clip.actions is not None]).flatten(0, 1)
    objective = recipe.objective
    assert objective.condition_mean == pytest.approx(rows.mean(dim=0).tolist(), abs=1e-6)
    assert objective.condition_std == pytest.approx(rows.std(dim=0).tolist(), rel=1e-5)
    assert complete_recipe(recipe, pushing) == recipe
    scaled = task_of(recipe).condition(rows[None])
    assert scaled is not None
    assert scaled[0, 1:].std(dim=0).tolist() == pytest.approx([1] * 7, abs=0.05)
    assert complete_recipe(make_recipe(PREDICTOR, tmp_path), pushing).objective.condition_mean == []


def test_what_is_held_out_is_not_in_the_scale(pushing: Path, tmp_path: Path) -> None:
    recipe = make_recipe(PREDICTOR, tmp_path, *WITH_ACTIONS, "data.held_out=0.5")
    windows = clip_loader(
        pushing, batch_size=1, clip_frames=6, split="train", shuffle=True, hold_out=HoldOut(recipe.data.held_out)
    )
    rows = torch.cat([clip.actions for clip in windows if clip.actions is not None])
    assert 0 < len(rows) < 8
    found = complete_recipe(recipe, pushing).objective.condition_mean
    assert found == pytest.approx(rows.flatten(0, 1).mean(dim=0).tolist(), abs=1e-6)


@pytest.mark.parametrize("setting", [{"frame_step": 2}, {"fps": 2.0}])
def test_shards_without_the_action_of_each_frame_are_refused(setting: dict[str, float], tmp_path: Path) -> None:
    shards = make_pushing(tmp_path / "pushing", sampling=Sampling(clip_frames=6, **setting)) / "shards"
    ((name, value),) = setting.items()
    with pytest.raises(RunError, match=f"ingested with --{name.replace('_', '-')} {value:g}, but the actions of the"):
        complete_recipe(make_recipe(PREDICTOR, tmp_path, *WITH_ACTIONS), shards)
    state_alone = make_recipe(PREDICTOR, tmp_path, "model.condition_dim=7", "objective.action_columns=0")
    assert len(complete_recipe(state_alone, shards).objective.condition_mean) == 7


@pytest.mark.parametrize("text", KINDS)
def test_clips_are_short_until_it_is_time(text: str, tmp_path: Path) -> None:
    """What comes behind the short clip changes nothing at first, and something later."""
    task = make(text, tmp_path, "objective.short_clips={frames: 4, context: 1, until: 0.5}", *WITH_ACTIONS)
    clips = random_clips(torch.rand(2, 6, 7))
    changed = TrainingClips(clips.frames.clone(), clips.actions, None, ())
    changed.frames[:, 4:] = 0

    def loss(given: TrainingClips, progress: float) -> float:
        torch.manual_seed(1)
        return task.losses(given, progress)["loss"].item()

    assert loss(clips, 0.49) == loss(changed, 0.49)
    assert loss(clips, 0.5) != loss(changed, 0.5)


@pytest.mark.parametrize("text", KINDS)
def test_pictures_and_validation_are_of_the_frames_behind_the_context(text: str, tmp_path: Path) -> None:
    task, clips = make(text, tmp_path), random_clips()
    with torch.no_grad():
        torch.manual_seed(0)
        strips = task.pictures(clips)
        torch.manual_seed(0)
        drawn = task.predict(clips)
        torch.manual_seed(0)
        psnr = task.validate(clips)["psnr"]
    assert torch.equal(strips["truth"], clips.frames)
    shown = strips["prediction\nthe first 2 frames are given"]
    assert torch.equal(shown, torch.cat([clips.frames[:, :2], drawn], dim=1))
    errors = [(drawn[b, t] - clips.frames[b, 2 + t]).square().mean() for b in range(2) for t in range(4)]
    assert psnr == pytest.approx(sum(-10 * error.log10().item() for error in errors) / 8, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["objective.context=6"], "data.clip_frames is 6: a clip must be longer than objective.context, 6"),
        (["objective.short_clips={frames: 2, context: 2, until: 1}"], "short_clips.frames is 2: a clip must be longer"),
        (
            ["objective.short_clips={frames: 7, context: 2, until: 1}"],
            "short_clips.frames is 7, but data.clip_frames is 6",
        ),
        (["model.condition_dim=2", "objective.action_columns=3"], "action_columns is 3, but model.condition_dim is 2"),
        (
            ["model.condition_dim=2", "objective.condition_mean=[0]", "objective.condition_std=[1, 1]"],
            "have 1 and 2 numbers, but model.condition_dim is 2",
        ),
        (["model.condition_dim=2", "data.frame_step=2"], "data.frame_step is 2, but the actions of the frames in betw"),
    ],
)
def test_a_recipe_that_does_not_fit_together_is_refused(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        make(PREDICTOR, tmp_path, *settings)
    assert message in str(error.value)


def test_shards_without_such_actions_are_refused(digits: Path, pushing: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"condition_dim is 7, but the shards hold none: .* or to 0"):
        complete_recipe(make_recipe(PREDICTOR, tmp_path, *WITH_ACTIONS), digits / "shards")
    with pytest.raises(RunError, match=r"condition_dim is 3, but the shards hold 7 numbers a frame"):
        complete_recipe(make_recipe(PREDICTOR, tmp_path, "model.condition_dim=3"), pushing)
    with pytest.raises(RunError, match="the shards hold none"):
        make(PREDICTOR, tmp_path, *WITH_ACTIONS).condition(None)
