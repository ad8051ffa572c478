"""What is trained: one file for each kind of recipe, a network together with its objective.

A new kind is a file here, a recipe model in `kineme.pipeline.recipe` and a line in `make_task`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kineme.pipeline.recipe import Recipe


class Task(Protocol):
    """A network with its objective, as the training loop sees it. Frames are (B, T, C, H, W) float in [0, 1]."""

    @property
    def model(self) -> nn.Module:
        """The network that is trained."""

    @property
    def frame_size(self) -> int:
        """Height and width of the frames it takes, pixels."""

    def losses(self, frames: Tensor, actions: Tensor | None, progress: float) -> dict[str, Tensor]:
        """Scalars: ``loss`` to minimise, and its parts. ``progress`` is the done fraction of the training."""

    def pictures(self, frames: Tensor) -> dict[str, Tensor]:
        """Named film strips (B, T, C, H, W) to look at, the truth first."""


def make_task(recipe: Recipe) -> Task:
    """The task a recipe describes, with fresh weights."""
    from kineme.pipeline.recipe import SequentialVAERecipe

    if isinstance(recipe, SequentialVAERecipe):
        from kineme.pipeline.tasks.sequential_vae import SequentialVAETask

        return SequentialVAETask(recipe)
    from kineme.pipeline.tasks.frame_predictor import FramePredictorTask

    return FramePredictorTask(recipe)
