"""How classifiers are trained in the protocols that train some: one loop, the same on every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from kineme.pipeline.optimisation import learning_rate
from kineme.pipeline.recipe import OptimizerSection

Part = TypeVar("Part")

HALVED = OptimizerSection(lr=1e-3, warmup_steps=0, decay="halving", halvings=4)
"""Thesis 7.B.3: 1e-3, halved every 50 of 200 epochs; of another number of epochs, after each quarter."""


def fit(
    module: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    count: int,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    weight_decay: float = 0.0,
) -> None:
    """Minimise a loss by Adam over shuffled batches of ``count`` examples; the module is left in evaluation mode.

    Batches of an epoch differ by at most one example, so that none is too small for batch statistics. On one device the
    result depends on the arguments alone.

    Args:
        module: what is trained.
        loss: scalar of the examples with these numbers, (b,) int64 on the CPU; what it draws at random it must draw
            from the generator.
        count: examples, numbered from 0.
        epochs: of the schedule :data:`HALVED`.
        batch_size: examples of a batch at most.
        seed: decides order and draws.
        weight_decay: L2 penalty, added to the gradient.
    """
    adam = torch.optim.Adam(module.parameters(), lr=HALVED.lr, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(seed)
    module.train()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for epoch in range(epochs):
            for group in adam.param_groups:
                group["lr"] = learning_rate(HALVED, epoch, epoch / epochs)
            for numbers in torch.randperm(count, generator=generator).tensor_split(-(-count // batch_size)):
                adam.zero_grad()
                torch.autograd.backward(loss(numbers, generator))
                adam.step()
    module.eval()


def watched(parts: Sequence[Part], what: str) -> Iterable[Part]:
    """The parts of something long, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    return track(parts, what, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch's global random numbers depend on ``seed``; after it they go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def average_by_video(values: Tensor, clips: list[int]) -> Tensor:
    """Means over the clips of each video: (N, K) -> (V, K).

    Args:
        values: of clips, those of a video next to one another.
        clips: how many each of the V videos has, at least 1; N together.
    """
    counts = torch.tensor(clips)
    members = torch.eye(len(clips)).repeat_interleave(counts, dim=1) / counts[:, None]
    # A product, as sums by index are in no fixed order on a GPU.
    return members.to(values) @ values
