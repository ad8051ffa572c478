"""A next-frame predictor that says how pixels move: convolutional, recurrent, with a few motions a frame.

From x_{t-1}, the condition c_t and its convolutional LSTMs the network makes a few motions, and which pixel follows
which: `kineme.models.motion_kernels`, after CDNA (Finn, Goodfellow & Levine 2016). Where it differs from theirs:

- two LSTMs rather than seven, at a quarter and an eighth of the resolution; normalisation is by groups;
- c_t comes to every place with the place's coordinates, and with points that c_t names (`kineme.models.condition_map`);
- it is trained on the squared error, and what is fed back in training is chosen for every clip and frame.

It draws one future, the mean of those that its input leaves open; with ``latent_dim`` many, from a z_t that joins c_t
and moves the kernels: a conditional VAE, whose Gaussians are those of `kineme.models.transitions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineme.models.condition_map import ConditionMap, at_each_place
from kineme.models.distributions import Gaussian, over_time
from kineme.models.layers import conv_block
from kineme.models.motion_kernels import MotionKernels
from kineme.models.next_frames import check_condition, check_context, check_frames, check_noise
from kineme.models.predictor_loss import PredictorOutput
from kineme.models.transitions import TransitionPosterior, TransitionPrior

Memory = tuple[Tensor, Tensor]
VECTOR = 128
REDUCTION = 8
"""The coarsest features have so many times fewer places a side than frames have pixels."""


@dataclass(frozen=True)
class KernelPredictorConfig:
    """Sizes of a `KernelPredictor`.

    Attributes:
        frame_size: height and width of a frame, pixels; a multiple of 8.
        channels: colour channels of a frame.
        width: channels at half resolution; twice as many at a quarter, four times as many at an eighth.
        kernels: K, how many motions a frame has.
        reach: pixels that a kernel can move, in x and in y.
        condition_dim: length of c_t; 0 for no condition.
        points: places in the frame that c_t and z_t name.
        latent_dim: length of z_t; 0 for a predictor that draws one future.
    """

    frame_size: int = 64
    channels: int = 3
    width: int = 32
    kernels: int = 10
    reach: int = 6
    condition_dim: int = 0
    points: int = 6
    latent_dim: int = 0


class KernelState(NamedTuple):
    """Where a rollout stands: the newest frame, the last context frame, the LSTMs' memories, and the prior's two.

    ``z`` is the newest one, ``foretold`` what the recurrent prior remembers; both of no numbers without z.
    """

    frame: Tensor
    given: Tensor
    near: Memory
    far: Memory
    z: Tensor
    foretold: Tensor


class ConvLSTM(nn.Module):
    """A convolutional LSTM cell without peepholes: (B, in, H, W) -> (B, hidden, H, W)."""

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(in_channels + hidden, 4 * hidden, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(4, 4 * hidden)
        # Forgetting starts from remembering.
        nn.init.ones_(self.norm.bias[hidden : 2 * hidden])

    def blank(self, frames: Tensor, reduction: int) -> Memory:
        """The memory before the first of ``frames`` (B, C, H, W), which are ``reduction`` times as large a side."""
        height, width = (size // reduction for size in frames.shape[2:])
        zeros = frames.new_zeros(len(frames), self.hidden, height, width)
        return zeros, zeros

    def forward(self, inputs: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One step from ``memory``."""
        hidden, cell = memory
        gates = self.norm(self.gates(torch.cat([inputs, hidden], dim=1)))
        enter, keep, show, new = gates.chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(show) * torch.tanh(cell)
        return hidden, (hidden, cell)


class KernelPredictor(nn.Module):
    """See the module's docstring. `kineme.models.next_frames` runs it.

    Raises:
        ValueError: ``config.frame_size`` is not a multiple of 8.
    """

    def __init__(self, config: KernelPredictorConfig) -> None:
        super().__init__()
        if config.frame_size % REDUCTION:
            nearest = max(1, round(config.frame_size / REDUCTION)) * REDUCTION
            raise ValueError(
                f"frame_size is {config.frame_size}, but three halvings need a multiple of {REDUCTION}: use {nearest}"
            )
        self.frame_shape = config.channels, config.frame_size, config.frame_size
        self.condition_dim, self.noise_dim = config.condition_dim, config.latent_dim
        width, channels = config.width, config.channels
        half, quarter, eighth = width, 2 * width, 4 * width
        self.read_half = conv_block(channels, half, kernel=5, stride=2)
        self.read_quarter = conv_block(half, quarter, stride=2)
        self.map_condition = ConditionMap(config.condition_dim + config.latent_dim, config.points)
        self.embed_condition = _place_by_place(self.map_condition.channels, quarter)
        self.near = ConvLSTM(quarter, quarter)
        self.read_eighth = conv_block(quarter, eighth, stride=2)
        self.far = ConvLSTM(eighth, eighth)
        self.write_quarter = conv_block(eighth + quarter, quarter)
        self.embed_vector = _place_by_place(VECTOR + self.map_condition.channels, quarter)
        self.join = conv_block(2 * quarter, quarter)
        self.write_half = conv_block(quarter + half, half)
        self.write_full = conv_block(half, half)
        places = (config.frame_size // REDUCTION) ** 2
        self.to_vector = nn.Sequential(
            nn.Conv2d(eighth, 16, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(16 * places, VECTOR), nn.LeakyReLU(0.2)
        )
        latent = config.latent_dim
        self.posterior = TransitionPosterior(channels, half, latent) if latent else None
        self.prior = TransitionPrior(half, latent, config.condition_dim) if latent else None
        self.compose = MotionKernels(VECTOR + latent, half, config.kernels, config.reach)
        self.to_drawn = nn.Conv2d(half, channels, 3, padding=1)
        # The layout that convolutions are fast in; they hand it on to all that they make.
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        frames: Tensor,
        *,
        context: int,
        condition: Tensor | None = None,
        teacher_forcing: bool | Tensor = True,
        noise: Tensor | None = None,
    ) -> PredictorOutput:
        """Draw x_1 .. x_{T-1} with z from the posterior: the training pass.

        The true x_{t-1} is fed for t <= ``context``, later the truth where it is forced, else what was drawn.

        Args:
            frames: (B, T, C, S, S) in [0, 1].
            context: true frames to start from, 1 .. T-1.
            condition: (B, T, D); c_t belongs to the frame x_t it leads to.
            teacher_forcing: for all, or (B, T-1) bool: whether the true x_{t-1} is fed for x_t, t = 1 .. T-1.
            noise: standard normal (B, T-1, Z) behind z_1 .. z_{T-1}; drawn here if not given.

        Raises:
            ValueError: a shape, type or range that the rules above exclude.
        """
        batch, time = check_frames(self, frames)
        check_context(context, time)
        check_noise(self, noise, batch, time - 1)
        condition = check_condition(self, condition, batch, time, frames)
        posterior, z = self._read(frames, noise)
        forced = torch.as_tensor(teacher_forcing, device=frames.device).expand(batch, time - 1)
        state = self._blank(frames[:, 0])
        drawn: list[Tensor] = []
        priors: list[Gaussian | None] = []
        for t in range(1, time):
            true = frames[:, t - 1]
            if t <= context:
                state = state._replace(frame=true, given=true)
            else:
                state = state._replace(frame=torch.where(forced[:, t - 1, None, None, None], true, state.frame))
            frame, state, prior = self._step(state, condition[:, t], z=z[:, t - 1])
            drawn.append(frame)
            priors.append(prior)
        return PredictorOutput(torch.stack(drawn, dim=1), posterior, over_time(priors, torch.stack))

    def begin(self, frames: Tensor, condition: Tensor, noise: Tensor) -> KernelState:
        """Read a context, (B, N, C, S, S), with z from the posterior."""
        _, z = self._read(frames, noise)
        state = self._blank(frames[:, 0])
        for t in range(1, frames.shape[1]):
            _, state, _ = self._step(state, condition[:, t], z=z[:, t - 1])
            state = state._replace(frame=frames[:, t], given=frames[:, t])
        return state

    def _blank(self, frame: Tensor) -> KernelState:
        """Before anything was read but a frame."""
        near, far = self.near.blank(frame, REDUCTION // 2), self.far.blank(frame, REDUCTION)
        z = frame.new_zeros(len(frame), self.noise_dim)
        foretold = z if self.prior is None else frame.new_zeros(len(frame), self.prior.cell.hidden_size)
        return KernelState(frame, frame, near, far, z, foretold)

    def advance(self, state: KernelState, condition: Tensor, noise: Tensor) -> tuple[Tensor, KernelState]:
        """Draw x_t, (B, C, S, S), with z_t from the prior."""
        frame, state, _ = self._step(state, condition, noise=noise)
        return frame, state

    def _step(
        self, state: KernelState, condition: Tensor, *, z: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, KernelState, Gaussian | None]:
        """x_t from z_t, or else from the noise behind a z_t of the prior; the state to go on from; the prior."""
        half = self.read_half(state.frame)
        prior, foretold = None, state.foretold
        if self.prior is not None:
            prior, foretold = self.prior(half, state.z, condition, state.foretold)
        if z is None:
            z = state.z if prior is None else prior.sample(noise)
        quarter = self.read_quarter(half)
        size = quarter.shape[2:]
        told = self.map_condition(torch.cat([condition, z], dim=1), size)
        quarter = quarter + self.embed_condition(told)
        near, memory_near = self.near(quarter, state.near)
        far, memory_far = self.far(self.read_eighth(near), state.far)
        vector = self.to_vector(far)
        summary = self.embed_vector(torch.cat([at_each_place(vector, size), told], dim=1))
        quarter = self.join(torch.cat([self.write_quarter(torch.cat([_doubled(far), near], dim=1)), summary], dim=1))
        full = self.write_full(_doubled(self.write_half(torch.cat([_doubled(quarter), half], dim=1))))
        # As in a VGG decoder: bfloat16 is too coarse for colours.
        drawn = torch.sigmoid(self.to_drawn(full).to(self.to_drawn.weight.dtype))
        frame = self.compose(torch.cat([vector, z], dim=1), full, drawn, state.frame, state.given)
        return frame, KernelState(frame, state.given, memory_near, memory_far, z, foretold), prior

    def _read(self, frames: Tensor, noise: Tensor | None) -> tuple[Gaussian | None, Tensor]:
        """q(z_t | x_{t-1}, x_t) for t = 1 .. T-1, and a draw (B, T-1, Z); of no numbers without z."""
        if self.posterior is None:
            return None, frames.new_empty(len(frames), frames.shape[1] - 1, 0)
        posterior: Gaussian = self.posterior(frames)
        return posterior, posterior.sample(noise)


def _place_by_place(inputs: int, outputs: int) -> nn.Sequential:
    """A small network, the same at every place."""
    return nn.Sequential(
        nn.Conv2d(inputs, 64, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 64, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, outputs, 1),
    )


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="nearest")
