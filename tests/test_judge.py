"""The judge: its network, its loss, its training from labels, and the protocol of its own accuracy."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from made_up_clips import make_records
from recognition_data import ACTIONS, ACTORS, make_actions
from tiny_runs import make_recipe

from kineme.models.judge import Judge, JudgeConfig, judge_loss
from kineme.pipeline.errors import RunError
from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.labels import label_of
from kineme.pipeline.recipe import JudgeRecipe, load_recipe
from kineme.pipeline.run import load_run
from kineme.pipeline.tasks import TrainingClips, complete_recipe, make_task
from kineme.pipeline.tasks.judge import JudgeTask
from kineme.pipeline.training import train
from kineme.shards.records import read_records
from kineme.shards.sample import Label

JUDGE = """
kind: judge
model: {frame_size: 16, width: 4, hidden_dim: 16}
objective: {labels: [action], noise: 0.02}
data: {clip_frames: 4, batch_size: 9, workers: 0}
optimizer: {lr: 0.01, warmup_steps: 2}
training: {epochs: 25, seed: 3, precision: 32-true}
"""


def test_answers_are_distributions_of_every_label() -> None:
    judge = Judge(JudgeConfig({"action": 9, "skin": 6}, frame_size=32, width=2, hidden_dim=5))
    answers = judge(torch.rand(3, 4, 3, 32, 32))
    assert {name: tuple(answer.shape) for name, answer in answers.items()} == {"action": (3, 9), "skin": (3, 6)}
    for answer in answers.values():
        torch.testing.assert_close(answer.exp().sum(dim=-1), torch.ones(3))


def test_order_of_frames_matters() -> None:
    torch.manual_seed(0)
    judge = Judge(JudgeConfig({"action": 4}, frame_size=16, width=2, hidden_dim=5)).eval()
    clips = torch.rand(2, 4, 3, 16, 16)
    assert not torch.allclose(judge(clips)["action"], judge(clips.flip(1))["action"])


def test_loss_against_loops() -> None:
    torch.manual_seed(0)
    judged = {"a": torch.randn(5, 3).log_softmax(-1), "b": torch.randn(5, 2).log_softmax(-1)}
    targets = {"a": torch.tensor([0, 1, 2, 1, 0]), "b": torch.tensor([1, 1, 0, 0, 1])}
    total, right = 0.0, dict.fromkeys(judged, 0)
    for name, answers in judged.items():
        for answer, target in zip(answers.tolist(), targets[name].tolist(), strict=True):
            total -= answer[target] / 5
            right[name] += answer.index(max(answer)) == target
    parts = judge_loss(judged, targets)
    assert parts["loss"].item() == pytest.approx(total, rel=1e-5)
    assert {name: parts[f"accuracy/{name}"].item() * 5 for name in judged} == pytest.approx(right)


@pytest.mark.parametrize("sizes", [{"classes": {}}, {"classes": {"a": 1}}, {"classes": {"a": 2}, "frame_size": 24}])
def test_impossible_sizes(sizes: dict) -> None:
    with pytest.raises(ValueError, match=r"classes are|frame_size is"):
        JudgeConfig(**sizes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A judge that learned on three actors to tell three actions of the fourth, and the shards."""
    folder = tmp_path_factory.mktemp("judge")
    make_actions(folder / "shards")
    train(make_recipe(JUDGE, folder), folder / "shards", folder / "run", accelerator="cpu")
    return folder / "run", folder / "shards"


def test_it_learns_the_label_and_says_how_well(trained: tuple[Path, Path]) -> None:
    run, shards = trained
    figures = evaluate_run(run, shards)
    assert figures["protocol"] == "accuracy"
    assert figures["metrics"]["judge/action_accuracy"] == 1.0
    assert figures["metrics"]["clips"] == sum(record.split == "test" for record in read_records(shards))


def test_values_are_found_in_the_training_split_and_kept(trained: tuple[Path, Path]) -> None:
    recipe = load_run(trained[0]).recipe
    assert isinstance(recipe, JudgeRecipe)
    assert recipe.objective.classes == {"action": sorted(ACTIONS)}


def test_targets_are_places_among_the_values(trained: tuple[Path, Path]) -> None:
    task = load_run(trained[0]).task
    assert isinstance(task, JudgeTask)
    records = list(read_records(trained[1]))[:7]
    assert [sorted(ACTIONS)[i] for i in task.targets(records)["action"]] == [r.labels["action"] for r in records]


def test_a_value_that_training_did_not_have(trained: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = complete_recipe(make_recipe(JUDGE, tmp_path, "objective.labels=[actor]"), trained[1])
    task = make_task(recipe)
    assert isinstance(task, JudgeTask)
    unseen = [record for record in read_records(trained[1]) if record.labels["actor"] == ACTORS[3]]
    with pytest.raises(RunError, match=rf"actor '{ACTORS[3]}', none of the 3 classes"):
        task.targets(unseen)


def test_noise_of_a_strength_of_its_own_for_each_clip(tmp_path: Path) -> None:
    recipe = make_recipe(JUDGE, tmp_path, "objective.classes={action: [a, b]}", "objective.noise=0.5")
    torch.manual_seed(0)
    task = make_task(recipe)
    assert isinstance(task, JudgeTask)
    task.model.eval()
    records = [SimpleNamespace(key="k", source="s", labels={"action": value}) for value in "ab"]
    frames = torch.rand(2, 4, 3, 16, 16)
    torch.manual_seed(1)
    found = task.losses(TrainingClips(frames, None, None, records), 0.5)
    torch.manual_seed(1)
    strength = 0.5 * torch.rand(2, 1, 1, 1, 1)
    expected = judge_loss(task.model(frames + strength * torch.randn_like(frames)), {"action": torch.tensor([0, 1])})
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found["loss"], judge_loss(task.model(frames), {"action": torch.tensor([0, 1])})["loss"])


def test_a_label_may_have_any_name() -> None:
    judge = Judge(JudgeConfig({"type": 2, "a.b": 3}, frame_size=16, width=2, hidden_dim=4))
    assert list(judge(torch.rand(1, 2, 3, 16, 16))) == ["type", "a.b"]


def test_a_split_without_clips(trained: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no clips of split absent"):
        complete_recipe(make_recipe(JUDGE, tmp_path, "data.split=absent"), trained[1])


@pytest.mark.parametrize(
    ("labels", "mend"),
    [
        ({"actor": "ada", "legs": 2}, "choose one that it has: actor, legs"),
        ({}, "it has none at all; ingest with the --dataset that gives them"),
    ],
)
def test_clips_without_the_label(labels: dict[str, Label], mend: str) -> None:
    (record,) = make_records([labels])
    with pytest.raises(RunError, match=f"has no label 'action'; {mend}"):
        label_of(record, "action")


def test_weights_of_other_labels(trained: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    text = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(text.replace("  labels:\n  - action\n", "  labels:\n  - actor\n"))
    with pytest.raises(RunError, match="the weights come from another recipe"):
        load_run(copy)


def test_a_label_without_values(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="fewer than two values of action"):
        make_task(make_recipe(JUDGE, tmp_path))


def test_the_shipped_recipe_judges_all_of_sprites() -> None:
    recipe = load_recipe("judge/sprites")
    assert isinstance(recipe, JudgeRecipe)
    assert recipe.objective.labels == ["action", "skin", "pants", "top", "hair"]
