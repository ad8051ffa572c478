"""The parts of a sequential VAE's bound on a split: does it reconstruct, and do posteriors differ from their priors?

Both divergences near 0 are a collapse: what is decoded no longer depends on the clip.
"""

from __future__ import annotations

from pathlib import Path

import torch

from kineme.models.distributions import kl_to_standard_normal
from kineme.pipeline.frames import to_model
from kineme.pipeline.generation import sequential_vae_of
from kineme.pipeline.protocols import Metrics
from kineme.pipeline.protocols.chosen_clips import BATCH
from kineme.pipeline.recipe import SequentialVAERecipe
from kineme.pipeline.recipe_sections import Seed
from kineme.pipeline.run import Run
from kineme.shards.loader import clip_loader


@torch.inference_mode()
def measure_elbo(run: Run, shards: Path, split: str, *, seed: Seed = 0) -> Metrics:
    """elbo/squared_error, elbo/kl_f and elbo/kl_z, means over the clips, and ``clips``.

    squared_error is ||x - reconstruction||^2 of a clip, colours from 0 to 1, summed over frames, pixels and channels,
    with f and z drawn from their posteriors as in training; kl_f and kl_z are the divergences of section 2, nats a
    clip, before any beta; kl_z of a mixture prior is an estimate by the drawn z.

    Args:
        run: of a sequential-vae recipe.
        shards: ingested data.
        split: what is measured.
        seed: of the draws.

    Raises:
        RunError: another kind of run.
        DataError: the shards hold no clips of the split.
    """
    model, recipe = sequential_vae_of(run), run.recipe
    assert isinstance(recipe, SequentialVAERecipe)
    torch.manual_seed(seed)
    totals, clips = {"squared_error": 0.0, "kl_f": 0.0, "kl_z": 0.0}, 0
    loader = clip_loader(
        shards,
        batch_size=BATCH,
        clip_frames=recipe.encode_frames,
        frame_step=recipe.data.frame_step,
        split=split,
    )
    for batch in loader:
        frames = to_model(batch.frames.to(run.device), recipe.model.frame_size)
        output = model(frames)
        totals["squared_error"] += (output.reconstruction - frames).square().sum().item()
        totals["kl_f"] += kl_to_standard_normal(output.f_posterior).sum().item()
        totals["kl_z"] += output.kl_z().sum().item()
        clips += len(batch)
    return {"clips": clips, **{f"elbo/{name}": total / clips for name, total in totals.items()}}
