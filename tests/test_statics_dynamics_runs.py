"""Runs of the statics/dynamics task: two stages, resumes, the command line, errors, the encoder, an index."""

from __future__ import annotations

import csv
import itertools
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import FRAMES, STATICS_DYNAMICS, TEST_CLIPS, make_recipe, make_run
from torch import Tensor
from toy_tasks import after_each_step, weights_of

from kineme.pipeline import cli
from kineme.pipeline.encoders import load_encoder
from kineme.pipeline.encoders.statics_dynamics import StaticsDynamicsEncoder
from kineme.pipeline.encoding import encode_shards
from kineme.pipeline.errors import RunError
from kineme.pipeline.run import load_run
from kineme.pipeline.training import train
from kineme.shards.reader import load_clip_frames

CPU = torch.device("cpu")
SMALL = ("model.frame_size=16", "model.width=2")
EPOCH = 5
"""Steps of an epoch on the digits; the second stage begins with the second one."""


def metrics_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_in_two_stages(statics_run: Path) -> None:
    first, second = metrics_of(statics_run)
    assert (float(first["stage"]), float(second["stage"])) == (1, 2)
    assert first["warp_error"]
    assert not first["prediction"]
    for name in ("prediction", "motion", "closeness", "statics_error", "frame_error"):
        assert np.isfinite(float(second[name]))
    for name in ("S", "P", "p"):
        assert float(second[f"rank/{name}"]) > 0
        assert float(second[f"variance/{name}"]) > 0
    samples = sorted((statics_run / "samples").glob("*.png"))
    assert samples
    with Image.open(samples[-1]) as picture:
        assert min(picture.size) > 100


def test_a_resume_in_the_second_stage(digits: Path, tmp_path: Path) -> None:
    """The transformer stays as the first stage left it, all else goes on."""
    weights: list[dict[str, Tensor]] = []

    def look(trainer: Any, module: Any) -> None:
        weights.append(weights_of(module))
        if len(weights) == EPOCH + 2:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with after_each_step(look), pytest.raises(KeyboardInterrupt):
        make_run(STATICS_DYNAMICS, digits, tmp_path, *SMALL)
    signal.signal(signal.SIGINT, handler)
    run = tmp_path / "run"
    recipe = make_recipe(STATICS_DYNAMICS, tmp_path, *SMALL)
    with after_each_step(look):
        train(recipe, digits / "shards", run, resume=True, accelerator="cpu")
    assert len(weights) == 2 * EPOCH
    for step, (before, after) in enumerate(itertools.pairwise(weights), start=1):
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        rest = {"video_encoder", "frame_model", "predictor", "motion_layers", "to_appearance"}
        assert changed == ({"transformer"} if step < EPOCH else rest)
    assert float(metrics_of(run)[-1]["stage"]) == 2


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kineme", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_line_trains_it(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_recipe(STATICS_DYNAMICS, tmp_path)
    settings = [part for setting in (*SMALL, "training.epochs=1") for part in ("--set", setting)]
    where = ("--data", digits / "shards", "--out", tmp_path / "run", "--accelerator", "cpu")
    assert call(monkeypatch, "train", tmp_path / "tiny.yaml", *where, *settings) == 0
    assert load_run(tmp_path / "run", CPU).recipe.kind == "statics-dynamics"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.blocks=3"], "model.blocks is 3: latent_channels (8) must be a multiple of it"),
        (["model.latent_channels=9"], "model.blocks is 2: latent_channels (9) must be a multiple of it"),
        (["model.latent_channels=2"], "model.latent_channels is 2"),
        (["model.frame_size=20"], "model.frame_size is 20"),
        (["data.clip_frames=4"], "data.clip_frames is 4: a clip must have the 5 frames of model.clip_frames"),
        (["model.clip_frames=9", "data.clip_frames=9"], "has 8 frames; 9 frames at step 1 need 9"),
        (["objective.prediction.negatives=none"], "objective.prediction.negatives is 'none'"),
        (["objective.transformer.fraction=1"], "objective.transformer.fraction is 1"),
    ],
)
def test_what_does_not_fit_is_one_line(
    settings: list[str],
    message: str,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    make_recipe(STATICS_DYNAMICS, tmp_path)
    arguments = [part for setting in settings for part in ("--set", setting)]
    where = ("--data", digits / "shards", "--out", tmp_path / "run", "--accelerator", "cpu")
    assert call(monkeypatch, "train", tmp_path / "tiny.yaml", *where, *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_as_another_network(statics_run: Path, digits: Path, tmp_path: Path) -> None:
    recipe = make_recipe(STATICS_DYNAMICS, tmp_path, "model.motion_layers=3")
    with pytest.raises(RunError, match="was trained as another statics-dynamics model"):
        train(recipe, digits / "shards", statics_run, resume=True, accelerator="cpu")


def test_the_encoder_gives_p_and_what_is_read_from_s(statics_run: Path, digits: Path) -> None:
    encoder = load_encoder(statics_run, CPU)
    assert isinstance(encoder, StaticsDynamicsEncoder)
    assert (encoder.clip_frames, encoder.frame_step, encoder.frame_size) == (5, 1, 32)
    vectors, records = encode_shards(encoder, digits / "shards", split="test", batch_size=7)
    assert vectors.motion.shape == (TEST_CLIPS, encoder.motion_dim) == (TEST_CLIPS, 6)
    assert vectors.appearance.shape == (TEST_CLIPS, encoder.appearance_dim) == (TEST_CLIPS, 3)
    assert vectors.motion.dtype == vectors.appearance.dtype == np.float32
    stored = np.stack([load_clip_frames(digits / "shards", record.key)[:5] for record in records])
    assert load_clip_frames(digits / "shards", records[0].key).shape[0] == FRAMES
    # Half the size: the mean of each 2x2 pixels.
    n, t, h, w, c = stored.shape
    small = stored.reshape(n, t, h // 2, 2, w // 2, 2, c).mean(axis=(3, 5)) / 255
    frames = torch.from_numpy(small).float().movedim(-1, 2)
    model = load_run(statics_run, CPU).task.model
    with torch.no_grad():
        statics, dynamics = model.video_encoder(frames)
        appearance = model.appearance(statics)
        p = [model.frame_model.encode(frames[:, step], statics) for step in range(5)]
    np.testing.assert_allclose(vectors.motion, dynamics.numpy(), atol=1e-4)
    np.testing.assert_allclose(vectors.appearance, appearance.numpy(), atol=1e-4)
    assert np.ptp(vectors.motion, axis=0).max() > 0
    in_a_row = encoder.frame_dynamics(torch.from_numpy(stored).movedim(-1, 2))
    assert in_a_row.shape == (TEST_CLIPS, 5 * 4)
    np.testing.assert_allclose(in_a_row, torch.cat(p, dim=1).numpy(), atol=1e-4)


def test_an_index_of_it_answers_queries(
    statics_run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    index = tmp_path / "index"
    assert call(monkeypatch, "index", statics_run, "--data", digits / "shards", "--out", index) == 0
    video = sorted((digits / "videos").rglob("*.mp4"))[0]
    for space in ("motion", "appearance"):
        capsys.readouterr()
        assert call(monkeypatch, "query", index, video, "--by", space, "-k", "3", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert len(found) == 3
        assert Path(found[0]["source"]).name == video.name
        assert found[0]["score"] == pytest.approx(1, abs=1e-3)
