"""Real data and real runs, as small as they can be: made by the program's own source, ingest and training."""

from __future__ import annotations

from pathlib import Path

import torch

from kineme.pipeline.recipe import Recipe, SequentialVAERecipe, load_recipe
from kineme.pipeline.tasks.sequential_vae import SequentialVAETask
from kineme.pipeline.training import train
from kineme.shards.engine_local import LocalEngine
from kineme.shards.ingest import IngestSettings, ingest
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import FetchOptions
from kineme.shards.sources.registry import find_source

FRAMES = 8
TEST_CLIPS = 20

_COMMON = """
data: {clip_frames: 6, batch_size: 4, workers: 0}
optimizer: {warmup_steps: 2}
training: {epochs: 2, seed: 3, precision: 32-true, picture_every_epochs: 1}
"""

ENCODER = f"""
kind: sequential-vae
model: {{frame_size: 32, width: 2, f_dim: 5, z_dim: 3, hidden_dim: 8}}
encode_frames: 8
questions:
  - {{by: motion, label: wall_hit, leave_out: speeds}}
  - {{by: motion, label: speeds}}
  - {{by: appearance, label: speeds, leave_out: wall_hit}}
{_COMMON}"""

PREDICTOR = f"""
kind: frame-predictor
model: {{frame_size: 32, width: 2, feature_dim: 6, hidden_dim: 8, latent_dim: 3}}
objective: {{context: 2}}
{_COMMON}"""

STATICS_DYNAMICS = f"""
kind: statics-dynamics
model:
  {{frame_size: 32, clip_frames: 5, width: 4, latent_channels: 8, blocks: 2, dynamics_dim: 6, frame_dim: 4,
    hidden_dim: 8, motion_layers: 2, appearance_dim: 3, reduction: 4}}
objective: {{transformer: {{fraction: 0.5}}, closeness: 0.1}}
questions: [{{by: motion, label: speeds}}]
{_COMMON}"""


BASELINE = f"""
kind: video-baseline
model: {{frame_size: 32, clip_frames: 5, width: 4, latent_channels: 4, dynamics_dim: 6}}
objective: {{label: speeds}}
{_COMMON}"""

JUDGE = f"""
kind: judge
model: {{frame_size: 32, width: 2, hidden_dim: 8}}
objective: {{labels: [speeds, wall_hit]}}
{_COMMON.replace("clip_frames: 6", "clip_frames: 8")}"""


def make_digits(root: Path) -> Path:
    source = find_source("moving-digits")
    source.fetch(root / "videos", FetchOptions(clips=2 * TEST_CLIPS, frames=FRAMES, train_fraction=0.5))
    settings = IngestSettings(sampling=Sampling(clip_frames=FRAMES))
    ingest(source, root / "videos", root / "shards", settings, LocalEngine(1))
    return root


def make_pushing(root: Path, train_fraction: float = 0.5, sampling: Sampling = Sampling(clip_frames=12)) -> Path:
    source = find_source("pushing")
    source.fetch(root / "videos", FetchOptions(clips=16, frames=12, train_fraction=train_fraction))
    ingest(source, root / "videos", root / "shards", IngestSettings(sampling=sampling), LocalEngine(1))
    return root


def make_recipe(text: str, folder: Path, *settings: str) -> Recipe:
    """The recipe of a YAML text, with ``--set`` settings."""
    path = folder / "tiny.yaml"
    path.write_text(text)
    return load_recipe(path, list(settings))


def make_run(text: str, digits: Path, folder: Path, *settings: str) -> Path:
    train(make_recipe(text, folder, *settings), digits / "shards", folder / "run", accelerator="cpu")
    return folder / "run"


def sequential_vae_task(folder: Path, *settings: str) -> SequentialVAETask:
    """The task of `ENCODER`, its weights the same each time."""
    recipe = make_recipe(ENCODER, folder, *settings)
    assert isinstance(recipe, SequentialVAERecipe)
    torch.manual_seed(0)
    return SequentialVAETask(recipe)
