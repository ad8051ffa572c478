"""The sequential VAE as a task: its objective with KL warm-up, and reconstructions and swaps to look at."""

from __future__ import annotations

from torch import Tensor

from kineme.models.schedules import kl_weight
from kineme.models.sequential_vae import SequentialVAE, SequentialVAEConfig, sequential_vae_loss
from kineme.pipeline.recipe import SequentialVAERecipe


class SequentialVAETask:
    """Trains `SequentialVAE` on `sequential_vae_loss`; beta rises linearly over the first ``kl_warmup`` of the run."""

    def __init__(self, recipe: SequentialVAERecipe) -> None:
        self.model = SequentialVAE(SequentialVAEConfig(**recipe.model.model_dump()))
        self.frame_size = recipe.model.frame_size
        self._objective = recipe.objective

    def losses(self, frames: Tensor, actions: Tensor | None, progress: float) -> dict[str, Tensor]:
        """The negative ELBO and its three parts; actions are not used."""
        o = self._objective
        beta = kl_weight(progress, kind="monotonic", beta=o.beta, ratio=o.kl_warmup) if o.kl_warmup else o.beta
        return sequential_vae_loss(self.model(frames), frames, beta=beta, sigma=o.sigma)

    def pictures(self, frames: Tensor) -> dict[str, Tensor]:
        """The truth, its reconstruction from posterior means, and each clip's motion with the next clip's content."""
        f, z = self.model.encode(frames)
        return {
            "truth": frames,
            "reconstruction": self.model.decode(f.mean, z.mean),
            "content of the next": self.model.decode(f.mean.roll(-1, dims=0), z.mean),
        }
