"""The measure of predicted frames: errors, baselines, draws and objects against references in plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from frame_references import SLOW, random_frames
from predictions import CPU, untrained
from tiny_runs import FRAMES, TEST_CLIPS, make_pushing, make_run

from kineme.models.next_frames import predict
from kineme.pipeline.errors import RunError
from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.frame_errors import ssim
from kineme.pipeline.frames import to_model
from kineme.pipeline.protocols.object_error import object_errors
from kineme.pipeline.protocols.prediction import MEASURES, figures_of, several
from kineme.pipeline.run import load_run
from kineme.shards.loader import clip_loader
from kineme.shards.reader import load_clip_frames
from kineme.shards.records import read_records

CONTEXT, LENGTH = 2, 12

PUSHER = f"""
kind: kernel-predictor
model: {{frame_size: 32, width: 4, kernels: 2, reach: 2, condition_dim: 7}}
objective: {{context: {CONTEXT}, action_columns: 4}}
data: {{clip_frames: {LENGTH}, batch_size: 4, workers: 0}}
training: {{epochs: 1, seed: 3, precision: 32-true}}
"""


@pytest.fixture(scope="module")
def pushing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/ and shards/ of simulated pushing: 4 clips to train on, 12 to test."""
    return make_pushing(tmp_path_factory.mktemp("pushing"), train_fraction=0.25)


@pytest.fixture(scope="module")
def pusher(pushing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(PUSHER, pushing, tmp_path_factory.mktemp("pusher"))


def untrained_blind(folder: Path, *settings: str) -> Path:
    """A run of the same recipe that is told no actions, with its first weights."""
    return untrained(PUSHER, folder, "model.condition_dim=0", "objective.action_columns=null", *settings).folder


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_blind(tmp_path_factory.mktemp("blind"))


def figures(run: Path, root: Path, **options: object) -> dict[str, float]:
    given = {name: str(value) for name, value in options.items()}
    metrics = evaluate_run(run, root / "shards", "prediction", options=given)["metrics"]
    assert isinstance(metrics, dict)
    return metrics


def test_baselines_against_slow_references(predictor_run: Path, digits: Path) -> None:
    metrics = figures(predictor_run, digits)
    records = [record for record in read_records(digits / "shards") if record.split == "test"]
    clips = np.stack([load_clip_frames(digits / "shards", record.key) for record in records])
    # Half the size: the mean of each 2x2 pixels. Two frames of six are given.
    n, t, h, w, c = clips.shape
    clips = (clips.reshape(n, t, h // 2, 2, w // 2, 2, c).mean(axis=(3, 5)) / 255)[:, :6].transpose(0, 1, 4, 2, 3)
    assert t == FRAMES
    for step in range(4):
        pairs = [(clip[1], clip[2 + step]) for clip in clips]
        for name in ("psnr", "mse", "mae"):
            expected = np.mean([SLOW[name](*pair) for pair in pairs])
            assert metrics[f"prediction/{name}_copy_last/frame_{step + 1}"] == pytest.approx(expected, rel=1e-4)
        linear = [np.clip(clip[1] + (step + 1) * (clip[1] - clip[0]), 0, 1) for clip in clips]
        expected = np.mean([SLOW["psnr"](drawn, clip[2 + step]) for drawn, clip in zip(linear, clips, strict=True)])
        assert metrics[f"prediction/psnr_linear/frame_{step + 1}"] == pytest.approx(expected, rel=1e-4)
    tensors = torch.from_numpy(clips)
    expected = ssim(tensors[:, 1:2].expand_as(tensors[:, 2:]), tensors[:, 2:]).mean().item()
    assert metrics["prediction/ssim_copy_last"] == pytest.approx(expected, abs=1e-4)
    assert metrics["clips"] == TEST_CLIPS
    # Digits have centres, but no colours to find them by.
    assert "prediction/objects" not in metrics


def test_each_figure_is_the_mean_of_its_frames(predictor_run: Path, digits: Path) -> None:
    metrics = figures(predictor_run, digits)
    names = {name for name in metrics if name.startswith("prediction/") and "/frame_" not in name}
    assert {name.removeprefix("prediction/") for name in names} == {
        *SLOW,
        *(f"{name}_{of}_of_n" for name in ("psnr", "ssim") for of in ("mean", "best")),
        *(f"{name}_copy_last" for name in ("psnr", "ssim", "mse", "mae")),
        "psnr_linear",
        "gain_over_copy_last",
        "spread_over_error",
    }
    for name in names - {"prediction/spread_over_error"}:
        steps = [metrics[f"{name}/frame_{step}"] for step in (1, 2, 3, 4)]
        assert metrics[name] == pytest.approx(np.mean(steps), rel=1e-4)
        assert f"{name}/frame_5" not in metrics


def test_only_predicted_frames_count(pusher: Path, pushing: Path) -> None:
    """By hand: the run's model, one clip after the other, and the frames after its context."""
    metrics = figures(pusher, pushing)
    task = load_run(pusher, CPU).task
    values: dict[str, list[list[float]]] = {name: [] for name in SLOW}
    for batch in clip_loader(pushing / "shards", batch_size=1, clip_frames=LENGTH, split="test"):
        frames = to_model(batch.frames, 32)
        with torch.no_grad():
            drawn = predict(task.model, frames[:, :CONTEXT], LENGTH - CONTEXT, task.condition(batch.actions))
        for name, measure in MEASURES.items():
            values[name].append(measure(drawn, frames[:, CONTEXT:])[0].tolist())
    for name, by_clip in values.items():
        by_frame = np.mean(by_clip, axis=0)
        assert metrics[f"prediction/{name}"] == pytest.approx(np.mean(by_clip), rel=1e-4)
        assert [metrics[f"prediction/{name}/frame_{step}"] for step in range(1, 11)] == pytest.approx(
            by_frame, rel=1e-4
        )
    assert metrics["samples"] == 1
    assert not any("of_n" in name for name in metrics)


def test_a_context_of_one_has_no_line_to_follow(pushing: Path, tmp_path: Path) -> None:
    metrics = figures(untrained_blind(tmp_path, "objective.context=1"), pushing)
    assert "prediction/psnr_linear" not in metrics
    assert "prediction/psnr_copy_last/frame_11" in metrics


def test_several_draws_against_a_slow_reference() -> None:
    truth = random_frames(3, 4, 3, 12, 12)
    draws = [(truth + 0.3 * (random_frames(3, 4, 3, 12, 12, seed=seed) - 0.5)) for seed in range(1, 6)]
    curves = several(draws[0], iter(draws[1:]), truth)
    for name in ("psnr", "ssim"):
        for clip in range(3):
            by_draw = [MEASURES[name](draw[clip : clip + 1], truth[clip : clip + 1])[0].tolist() for draw in draws]
            best = max(by_draw, key=lambda curve: sum(curve))
            assert curves[f"{name}_best_of_n"][clip].tolist() == pytest.approx(best, rel=1e-5)
        mean = MEASURES[name](torch.stack(draws).mean(dim=0), truth)
        torch.testing.assert_close(curves[f"{name}_mean_of_n"], mean)
    # A sixth of the variance is that of the mean of five.
    spread = torch.stack(draws).var(dim=0).mean(dim=2).sum(dim=(2, 3)) * 6 / 5
    torch.testing.assert_close(curves["variance_about_mean_of_n"], spread, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("wide", "expected"), [(1.0, 1.0), (0.5, 0.535), (0.0, 0.0)])
def test_spread_over_error_is_1_where_the_truth_could_be_a_draw(wide: float, expected: float) -> None:
    """Truth and draws about a picture; draws ``wide`` times as far."""
    draws = torch.Generator().manual_seed(0)
    truth, *others = 0.5 + 0.1 * torch.randn(6, 200, 2, 1, 8, 8, generator=draws)
    others = [0.5 + wide * (drawn - 0.5) for drawn in others]
    curves = several(others[0], iter(others[1:]), truth)
    found = figures_of([curves], [])
    for name in ("", "/frame_1", "/frame_2"):
        assert found[f"prediction/spread_over_error{name}"] == pytest.approx(expected, abs=0.02)
    assert not any("variance" in name or "mse" in name for name in found)


def test_the_first_draw_is_the_one_that_is_measured_alone(predictor_run: Path, digits: Path) -> None:
    default, few, one = (figures(predictor_run, digits, **given) for given in ({}, {"samples": 3}, {"samples": 1}))
    assert (default["samples"], few["samples"], one["samples"]) == (10, 3, 1)
    for name in ("psnr", "ssim"):
        single = one[f"prediction/{name}"]
        assert default[f"prediction/{name}"] == few[f"prediction/{name}"] == single
        assert default[f"prediction/{name}_best_of_n"] >= few[f"prediction/{name}_best_of_n"] > single
    # By Jensen's inequality of the squared error.
    assert few["prediction/psnr_mean_of_n"] > few["prediction/psnr"]
    assert not any("of_n" in name for name in one)


def test_the_seed_decides_the_draws(predictor_run: Path, digits: Path) -> None:
    first, again, other = (figures(predictor_run, digits, samples=2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["prediction/psnr"] != other["prediction/psnr"]
    assert first["prediction/psnr_copy_last"] == other["prediction/psnr_copy_last"]


def test_a_model_that_always_draws_the_same_is_not_asked_twice(pusher: Path, pushing: Path) -> None:
    with pytest.raises(RunError, match=r"--option samples=2: .* always draws the same future; leave it out") as error:
        figures(pusher, pushing, samples=2)
    assert "\n" not in str(error.value)


def test_objects_of_a_run(pusher: Path, pushing: Path) -> None:
    metrics = figures(pusher, pushing)
    (batch,) = clip_loader(pushing / "shards", batch_size=64, clip_frames=LENGTH, split="test")
    assert batch.keypoints is not None
    frames = to_model(batch.frames, 32)
    expected = object_errors(frames[:, 1], frames[:, -1], {}, batch.keypoints[:, [1, -1]], (64, 64))
    assert metrics["prediction/objects"] == len(expected["object_error_px_truth"]) > 3
    for name, values in expected.items():
        assert metrics[f"prediction/{name}"] == pytest.approx(values.mean().item(), rel=1e-4)
    assert 0 <= metrics["prediction/objects_found"] <= 1
    assert metrics["prediction/object_error_px"] > metrics["prediction/object_error_px_truth"]


def test_the_gain_by_actions(pusher: Path, blind: Path, pushing: Path) -> None:
    metrics, alone = figures(pusher, pushing, without_actions=blind), figures(blind, pushing)
    assert metrics.items() >= figures(pusher, pushing).items()
    for frame in ("", "/frame_1", "/frame_10"):
        ours, other = (metrics[f"prediction/psnr{which}{frame}"] for which in ("", "_without_actions"))
        assert other == pytest.approx(alone[f"prediction/psnr{frame}"], rel=1e-5)
        assert metrics[f"prediction/action_gain{frame}"] == pytest.approx(ours - other, abs=1e-4)
    for name in ("object_error_px", "objects_found"):
        assert metrics[f"prediction/{name}_without_actions"] == pytest.approx(alone[f"prediction/{name}"])


def test_a_run_with_actions_is_no_run_without(pusher: Path, blind: Path, pushing: Path) -> None:
    with pytest.raises(
        RunError, match=r"was trained with 7 numbers a frame; train one with --set model\.condition_dim=0"
    ):
        figures(pusher, pushing, without_actions=pusher)
    with pytest.raises(RunError, match=r"has no actions itself; measure a run that was trained with them"):
        figures(blind, pushing, without_actions=blind)


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        (["objective.context=3"], 2),
        (["model.frame_size=16"], 32),
        (["data.clip_frames=10"], 12),
        (["data.frame_step=2", "data.clip_frames=6"], 1),
    ],
)
def test_a_run_of_other_clips_is_refused(
    pusher: Path, pushing: Path, tmp_path: Path, settings: list[str], own: int
) -> None:
    with pytest.raises(RunError) as error:
        figures(pusher, pushing, without_actions=untrained_blind(tmp_path, *settings))
    name, value = settings[0].split("=")
    assert f"has {name} {value}" in str(error.value)
    assert str(error.value).endswith(f"train one with --set {name}={own}")
    assert "\n" not in str(error.value)


def test_a_run_that_predicts_nothing_is_refused(pusher: Path, pushing: Path, encoder_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a sequential-vae run predicts no frames"):
        figures(pusher, pushing, without_actions=encoder_run)
    with pytest.raises(RunError, match="no run here"):
        figures(pusher, pushing, without_actions=tmp_path)
