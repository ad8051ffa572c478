"""Next-frame predictors as their users see them: read a context, then draw one frame after the other.

A predictor is a module with a `begin` and an `advance`; whatever it is inside, it is run by `rollout`, which keeps one
state of fixed size, however many frames are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor


class NextFramePredictor(Protocol):
    """What draws the next frame. Frames are (B, C, S, S) in [0, 1], c_t is (B, condition_dim), noise (B, noise_dim)."""

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, S, S)."""

    @property
    def condition_dim(self) -> int:
        """Length of c_t; 0 for a predictor without a condition."""

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers behind each frame; 0 for a predictor that always draws the same."""

    def begin(self, frames: Tensor, condition: Tensor, noise: Tensor) -> Any:
        """The state after a context.

        Args:
            frames: x_0 .. x_{N-1}, (B, N, C, S, S).
            condition: c_0 .. c_{N-1}, (B, N, condition_dim).
            noise: behind x_1 .. x_{N-1}, (B, N-1, noise_dim).
        """

    def advance(self, state: Any, condition: Tensor, noise: Tensor) -> tuple[Tensor, Any]:
        """The next frame x_t from the state, c_t and the noise behind x_t, and the state to go on from."""


def rollout(
    model: NextFramePredictor,
    context: Tensor,
    horizon: int,
    condition: Tensor | None = None,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Draw the ``horizon`` frames after a context, each (B, C, S, S), feeding back what was drawn.

    What is kept does not grow with the horizon. Gradients are the caller's to switch off.

    Args:
        model: any predictor.
        context: N true frames, (B, N, C, S, S) in [0, 1], N >= 1.
        horizon: frames to draw, at least one.
        condition: c_0 .. c_{N + horizon - 1}, (B, N + horizon, D), or nothing for a predictor without one.
        noise: behind x_1 .. x_{N + horizon - 1}, (B, N + horizon - 1, Z); drawn frame by frame if not given.
        generator: what the noise is drawn from, on the device of the frames; torch's global one if not given.

    Raises:
        ValueError: a shape, type or range that the rules above exclude.
    """
    batch, known = check_frames(model, context)
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}, but a prediction has at least one frame")
    total = known + horizon
    condition = check_condition(model, condition, batch, total, context)
    check_noise(model, noise, batch, total - 1)

    def draw(steps: slice) -> Tensor:
        if noise is not None:
            return noise[:, steps]
        size = (batch, steps.stop - steps.start, model.noise_dim)
        return torch.randn(size, device=context.device, generator=generator)

    # Not a generator itself: what is wrong is said at the call, not at the first frame.
    def frames() -> Iterator[Tensor]:
        state = model.begin(context, condition[:, :known], draw(slice(0, known - 1)))
        for t in range(known, total):
            frame, state = model.advance(state, condition[:, t], draw(slice(t - 1, t))[:, 0])
            yield frame

    return frames()


def predict(
    model: NextFramePredictor,
    context: Tensor,
    horizon: int,
    condition: Tensor | None = None,
    *,
    noise: Tensor | None = None,
) -> Tensor:
    """The frames of `rollout` in one tensor, (B, horizon, C, S, S)."""
    return torch.stack(list(rollout(model, context, horizon, condition, noise=noise)), dim=1)


def check_frames(model: NextFramePredictor, frames: Tensor) -> tuple[int, int]:
    """(B, T) of frames that fit a predictor.

    Raises:
        ValueError: they are of another shape, or no floating point numbers.
    """
    if frames.ndim != 5 or frames.shape[2:] != model.frame_shape or 0 in frames.shape:
        raise ValueError(
            f"frames are {tuple(frames.shape)}, but the model needs (B, T, C, H, W) = (B, T, *{model.frame_shape})"
        )
    if not frames.is_floating_point():
        raise ValueError(f"frames are {frames.dtype}, but the model needs values in [0, 1]: divide by 255")
    return frames.shape[0], frames.shape[1]


def check_context(context: int, time: int) -> None:
    """Raise ValueError unless ``context`` of ``time`` frames leave one to predict."""
    if not 1 <= context < time:
        raise ValueError(f"context is {context}, but {time} frames leave 1 to {time - 1}: at least one is predicted")


def check_condition(model: NextFramePredictor, condition: Tensor | None, batch: int, time: int, like: Tensor) -> Tensor:
    """A condition that fits, (B, T, condition_dim); an empty one for a predictor that takes none.

    Raises:
        ValueError: it is missing, of another shape, or given to a predictor that takes none.
    """
    expected = (batch, time, model.condition_dim)
    if not model.condition_dim:
        if condition is not None:
            raise ValueError("a condition is given, but the model has condition_dim 0: leave it out")
        return like.new_empty(expected)
    if condition is None or condition.shape != expected:
        given = "missing" if condition is None else f"of shape {tuple(condition.shape)}"
        raise ValueError(f"the condition is {given}, but the model needs (B, T, D) = {expected}")
    return condition


def check_noise(model: NextFramePredictor, noise: Tensor | None, batch: int, steps: int) -> None:
    """Raise ValueError for noise that is not (B, steps, noise_dim)."""
    expected = (batch, steps, model.noise_dim)
    if noise is not None and noise.shape != expected:
        raise ValueError(f"noise is {tuple(noise.shape)}, but the model needs (B, steps, Z) = {expected}")
