"""A next-frame predictor that says how pixels move: convolutional, recurrent, with a few motions a frame.

After CDNA (Finn, Goodfellow & Levine 2016, "Unsupervised learning for physical interaction through video prediction",
section 3.2 and 3.3). From x_{t-1}, the condition c_t and its convolutional LSTMs the network makes K normalised kernels
m_k, each of which moves the whole frame, and masks that say for every pixel which of these movements it follows, or
which of three other pictures it is taken from:

    x_t = sum_k M_k * (m_k convolved with x_{t-1}) + M_still * x_{t-1} + M_first * x_first + M_drawn * drawn

The masks sum to 1 at each pixel, x_first is the last context frame (what lies behind what moved), and ``drawn`` is a
picture of the network's own. Where it differs from the paper:

- three LSTMs at two resolutions rather than seven at three; normalisation is by groups;
- kernels are softmaxes, and of any size; CDNA's 5 x 5 reach two pixels, too few for digits that move four;
- the still frame and the last context frame have masks of their own (the paper copies the first frame);
- all is trained on the squared error, and what is fed back in training is chosen for every clip and frame.

It draws one future: the mean of those that its input leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineme.models.layers import normalise
from kineme.models.next_frames import check_condition, check_context, check_frames

Memory = tuple[Tensor, Tensor]
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
        reach: pixels that a kernel can move, in x and in y; it has 2 reach + 1 places a side.
        condition_dim: length of c_t; 0 for no condition.
    """

    frame_size: int = 64
    channels: int = 3
    width: int = 32
    kernels: int = 10
    reach: int = 6
    condition_dim: int = 0


@dataclass(frozen=True)
class KernelState:
    """Where a rollout stands: the newest frame, the last context frame, and the LSTMs' memories."""

    frame: Tensor
    first: Tensor
    memories: tuple[Memory | None, ...]


def conv_block(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, norm, LeakyReLU(0.2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        normalise(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )


class ConvLSTM(nn.Module):
    """A convolutional LSTM cell without peepholes: (B, in, H, W) -> (B, hidden, H, W)."""

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(in_channels + hidden, 4 * hidden, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(4, 4 * hidden)
        # Forgetting starts from remembering.
        nn.init.ones_(self.norm.bias[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """One step from ``memory``, zeros if there is none yet."""
        if memory is None:
            zeros = inputs.new_zeros(len(inputs), self.hidden, *inputs.shape[2:])
            memory = zeros, zeros
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
            raise ValueError(f"frame_size is {config.frame_size}, but three halvings need a multiple: use {nearest}")
        self.config = config
        width, channels, condition = config.width, config.channels, config.condition_dim
        half, quarter, eighth = width, 2 * width, 4 * width
        self.read_half = conv_block(channels, half, kernel=5, stride=2)
        self.read_quarter = conv_block(half, quarter, stride=2)
        self.embed_condition = nn.Linear(condition, quarter) if condition else None
        self.near = ConvLSTM(2 * quarter if condition else quarter, quarter)
        self.read_eighth = conv_block(quarter, eighth, stride=2)
        self.far = ConvLSTM(eighth, eighth)
        self.write_quarter = conv_block(eighth + quarter, quarter)
        self.join = ConvLSTM(quarter, quarter)
        self.write_half = conv_block(quarter + half, half)
        self.write_full = conv_block(half, half)
        places = (config.frame_size // REDUCTION) ** 2
        self.to_kernels = nn.Sequential(
            nn.Conv2d(eighth, 16, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(16 * places, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, config.kernels * self._side**2),
        )
        self.to_masks = nn.Conv2d(half, config.kernels + 3, 3, padding=1)
        self.to_drawn = nn.Conv2d(half, channels, 3, padding=1)
        self._begin_apart()
        # The layout that convolutions are fast in; they hand it on to all that they make.
        self.to(memory_format=torch.channels_last)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, S, S)."""
        return self.config.channels, self.config.frame_size, self.config.frame_size

    @property
    def condition_dim(self) -> int:
        """Length of c_t; 0 without a condition."""
        return self.config.condition_dim

    @property
    def noise_dim(self) -> int:
        """None: it always draws the same."""
        return 0

    @property
    def _side(self) -> int:
        return 2 * self.config.reach + 1

    def _begin_apart(self) -> None:
        """Kernels that differ from one another, and mostly stay: else all would learn the same."""
        last = self.to_kernels[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.1)
            bias = 0.5 * torch.randn(self.config.kernels, self._side, self._side)
            bias[:, self.config.reach, self.config.reach] += 2
            last.bias.copy_(bias.flatten())

    def forward(
        self,
        frames: Tensor,
        *,
        context: int,
        condition: Tensor | None = None,
        teacher_forcing: bool | Tensor = True,
    ) -> Tensor:
        """Draw x_1 .. x_{T-1}, (B, T-1, C, S, S): the training pass.

        The true x_{t-1} is fed for t <= ``context``, later the truth where it is forced, else what was drawn.

        Args:
            frames: (B, T, C, S, S) in [0, 1].
            context: true frames to start from, 1 .. T-1.
            condition: (B, T, D); c_t belongs to the frame x_t it leads to.
            teacher_forcing: for all, or (B, T-1) bool: whether the true x_{t-1} is fed for x_t, t = 1 .. T-1.

        Raises:
            ValueError: a shape, type or range that the rules above exclude.
        """
        batch, time = check_frames(self, frames)
        check_context(context, time)
        condition = check_condition(self, condition, batch, time, frames)
        forced = torch.as_tensor(teacher_forcing, device=frames.device).expand(batch, time - 1)
        state = KernelState(frames[:, 0], frames[:, 0], (None,) * 3)
        drawn: list[Tensor] = []
        for t in range(1, time):
            if t <= context:
                state = KernelState(frames[:, t - 1], frames[:, t - 1], state.memories)
            else:
                fed = torch.where(forced[:, t - 1, None, None, None], frames[:, t - 1], state.frame)
                state = KernelState(fed, state.first, state.memories)
            frame, state = self.advance(state, condition[:, t])
            drawn.append(frame)
        return torch.stack(drawn, dim=1)

    def begin(self, frames: Tensor, condition: Tensor, noise: Tensor) -> KernelState:
        """Read a context, (B, N, C, S, S)."""
        memories: tuple[Memory | None, ...] = (None,) * 3
        for t in range(1, frames.shape[1]):
            _, state = self.advance(KernelState(frames[:, t - 1], frames[:, t - 1], memories), condition[:, t])
            memories = state.memories
        return KernelState(frames[:, -1], frames[:, -1], memories)

    def advance(self, state: KernelState, condition: Tensor, noise: Tensor | None = None) -> tuple[Tensor, KernelState]:
        """Draw x_t, (B, C, S, S); there is no noise in it."""
        half = self.read_half(state.frame)
        quarter = self.read_quarter(half)
        if self.embed_condition is not None:
            embedded = self.embed_condition(condition).to(quarter.dtype)
            quarter = torch.cat([quarter, embedded[:, :, None, None].expand_as(quarter)], dim=1)
        near, memory_near = self.near(quarter, state.memories[0])
        far, memory_far = self.far(self.read_eighth(near), state.memories[1])
        quarter = self.write_quarter(torch.cat([_doubled(far), near], dim=1))
        joined, memory_join = self.join(quarter, state.memories[2])
        full = self.write_full(_doubled(self.write_half(torch.cat([_doubled(joined), half], dim=1))))
        # In the weights' precision also under autocast: what is drawn is fed back, and errors add up.
        with torch.autocast(full.device.type, enabled=False):
            full, far = full.float(), far.float()
            kernels = self.to_kernels(far).view(len(far), self.config.kernels, -1).softmax(dim=-1)
            masks = self.to_masks(full).softmax(dim=1)[:, :, None]
            moved = move(state.frame, kernels.view(*kernels.shape[:2], self._side, self._side))
            others = torch.stack([state.frame, state.first, torch.sigmoid(self.to_drawn(full))], dim=1)
            frame = (masks * torch.cat([moved, others], dim=1)).sum(dim=1)
        return frame, KernelState(frame, state.first, (memory_near, memory_far, memory_join))


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="nearest")


def move(frames: Tensor, kernels: Tensor) -> Tensor:
    """Every frame convolved with its own kernels: (B, C, H, W), (B, K, R, R) -> (B, K, C, H, W); zeros outside.

    A kernel that is 1 in row r + dy and column r + dx, R = 2 r + 1, and 0 elsewhere gives x[y + dy, x + dx].
    """
    batch, count, side = kernels.shape[:3]
    # One group a clip; the channels, which all move alike, take the place of the batch.
    moved = F.conv2d(
        frames.transpose(0, 1), kernels.reshape(batch * count, 1, side, side), padding=side // 2, groups=batch
    )
    return moved.view(-1, batch, count, *frames.shape[2:]).permute(1, 2, 0, 3, 4)
