"""Shards of tiny labelled videos of several identities, and runs of a tiny network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from shard_factory import write_shards
from tiny_runs import make_recipe

from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.recipe import dump_recipe
from kineme.pipeline.run import RECIPE, Run, load_run, save_weights
from kineme.pipeline.tasks import make_task
from kineme.pipeline.training import train
from kineme.shards.codec import encode_clip
from kineme.shards.sample import ClipRecord, Label, Sample, make_key

SIZE, FRAMES = 16, 4
RECIPE_TEXT = f"""
kind: statics-dynamics
model: {{frame_size: {SIZE}, clip_frames: {FRAMES}, width: 4, latent_channels: 4, dynamics_dim: 8, frame_dim: 3,
         hidden_dim: 8}}
data: {{clip_frames: {FRAMES}, batch_size: 8, workers: 0}}
training: {{epochs: 2, seed: 3, precision: 32-true}}
"""
ACTIONS = ("fall", "rest", "rise")
ACTORS = ("ann", "bob", "cat", "dan")


def make_untrained(folder: Path, *settings: str) -> Run:
    """A run folder with the weights that training would start from."""
    (folder / "checkpoints").mkdir(parents=True)
    recipe = make_recipe(RECIPE_TEXT, folder, *settings)
    torch.manual_seed(0)
    save_weights(folder, recipe, make_task(recipe))
    (folder / RECIPE).write_text(dump_recipe(recipe))
    return load_run(folder, torch.device("cpu"))


def make_trained(folder: Path, shards: Path, *settings: str) -> Run:
    train(make_recipe(RECIPE_TEXT, folder, *settings), shards, folder / "run", accelerator="cpu")
    return load_run(folder / "run", torch.device("cpu"))


def model_of(run: Run) -> StaticsDynamics:
    assert isinstance(run.task.model, StaticsDynamics)
    return run.task.model


def clip_of(actor: str, action: str, number: int) -> np.ndarray:
    """A bar at the height that goes with the action, brighter or darker by actor, noise on top: (T, H, W, 3)."""
    rng = np.random.default_rng([ACTORS.index(actor), ACTIONS.index(action), number])
    frames = rng.integers(0, 40, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    top = {"rise": 1, "rest": 6, "fall": 11}[action]
    frames[:, top : top + 4] += np.uint8(110 + 30 * ACTORS.index(actor))
    return frames


def make_video(
    actor: str,
    action: str,
    clips: int = 2,
    *,
    take: int = 0,
    split: str = "train",
    labels: dict[str, Label] | None = None,
    draw: Callable[[str, str, int], np.ndarray] = clip_of,
) -> list[Sample]:
    source = f"{actor}_{action}{take}.mp4"
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    samples = []
    for number in range(clips):
        mp4, codec = encode_clip(draw(actor, action, 100 * take + number), 8.0)
        span = FRAMES / 8
        record = ClipRecord(
            key=make_key(sha256, number),
            source=source,
            sha256=sha256,
            dataset="noise",
            split=split,
            labels={"actor": actor, "action": action} if labels is None else labels,
            start_s=number * span,
            end_s=(number + 1) * span,
            fps=8.0,
            num_frames=FRAMES,
            height=SIZE,
            width=SIZE,
            codec=codec,
        )
        samples.append(Sample(record, mp4))
    return samples


def make_actions(folder: Path) -> list[Sample]:
    """Two shards: three actors to train on, the fourth for testing; every actor does every action twice."""
    videos = {
        split: [
            sample
            for actor in actors
            for action in ACTIONS
            for take in (0, 1)
            for sample in make_video(actor, action, 1 + take, take=take, split=split)
        ]
        for split, actors in (("train", ACTORS[:3]), ("test", ACTORS[3:]))
    }
    return write_shards(folder, [videos["train"], videos["test"]])
