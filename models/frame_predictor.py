"""The next-frame CVAE: a VGG encoder and decoder around a recurrent posterior, prior and predictor.

The lab report this implements refers to SVG (Denton & Fergus 2018): with its fixed prior, section 3.1, and here also
with its learned one, section 3.2. Frames are numbered from 0, and x_t is drawn for t = 1 .. T-1:

    q(z_t | x_{0:t}, c_{0:t})      LSTM over encoder features, then mean and log-variance
    p(z_t)                         N(0, I), or learned, p(z_t | x_{0:t-1}, c_{1:t}): another LSTM of that kind
    g_t = LSTM(h_{t-1}, z_t, c_t), h_{t-1} = encoder(x_{t-1})
    x_t = decoder(g_t, skips of x_{min(t, context) - 1})

With ``kernels`` (ours, off by default) x_t is composed of x_{t-1} moved about, the last context frame and what the
decoder draws.

Where the sources leave a choice or we differ:

- SVG's code starts the posterior at x_1; here it has seen x_0 too, so that the first z can tell motion.
- SVG's code keeps the skips of the last frame but one of the context; here they are those of the last, the newest truth
  there is when prediction starts.
- Own predictions are fed back with their gradient, as the lab's public code does. The learned prior reads the frames
  that the predictor is fed: true ones, or own ones where these are fed back, as when it draws.
- The recurrent parts run in their weights' precision even under autocast: they are cheap, and errors add up there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kineme.models.distributions import Gaussian, over_time
from kineme.models.layers import VGGDecoder, VGGEncoder
from kineme.models.motion_kernels import MotionKernels
from kineme.models.next_frames import check_condition, check_context, check_frames, check_noise
from kineme.models.predictor_loss import PredictorOutput

State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FramePredictorConfig:
    """Sizes of a `FramePredictor`; the defaults are the report's (VGG16 width, g 128, LSTMs of 256).

    Attributes:
        frame_size: height and width of a frame, pixels; a multiple of 32.
        width: channels of the first VGG stage; 8 to 16 trains on a CPU.
        channels: colour channels of a frame.
        feature_dim: length of h_t and g_t.
        hidden_dim: width of the LSTMs.
        latent_dim: length of z_t.
        condition_dim: length of c_t (action and position); 0 for no condition.
        condition_embedding: what c_t is mapped to, linearly, for posterior and predictor.
        predictor_layers: LSTM layers of the predictor.
        posterior_layers: LSTM layers of the posterior, and of a learned prior.
        learned_prior: whether p(z_t) is learned; else it is N(0, I).
        kernels: motions by which x_t is made from x_{t-1} (`kineme.models.motion_kernels`); 0 draws all of it, as the
            report does.
        reach: pixels that such a motion goes at most, in x and in y.
    """

    frame_size: int = 64
    width: int = 64
    channels: int = 3
    feature_dim: int = 128
    hidden_dim: int = 256
    latent_dim: int = 64
    condition_dim: int = 0
    condition_embedding: int = 32
    predictor_layers: int = 2
    posterior_layers: int = 1
    learned_prior: bool = False
    kernels: int = 0
    reach: int = 6


def split_time(frames: Tensor, batch: int) -> Tensor:
    """(B * T, ...) -> (B, T, ...), whatever the memory format."""
    return frames.view(batch, -1, *frames.shape[1:])


class Recurrence(nn.Module):
    """Linear, LSTM, linear over time: (B, T, in_dim) -> (B, T, out_dim), and the state to go on from."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(in_dim, hidden_dim)
        self.lstm = nn.LSTM(hidden_dim, hidden_dim, num_layers=layers, batch_first=True)
        self.output = nn.Linear(hidden_dim, out_dim)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over ``inputs`` from ``state`` (zeros if not given); T may be 0."""
        with torch.autocast(inputs.device.type, enabled=False):
            embedded = self.embed(inputs.to(self.embed.weight.dtype))
            if state is None:
                zeros = embedded.new_zeros(self.lstm.num_layers, len(inputs), self.lstm.hidden_size)
                state = zeros, zeros
            # torch's LSTM refuses a sequence of no steps.
            hidden, state = self.lstm(embedded, state) if inputs.shape[1] else (embedded, state)
            return self.output(hidden), state


class PredictorState(NamedTuple):
    """Where a rollout stands: the newest frame, the last context frame and its skips, and the LSTMs' states."""

    frame: Tensor
    given: Tensor
    skips: list[Tensor]
    predictor: State
    prior: State | None


class FramePredictor(nn.Module):
    """Next-frame CVAE; see the module's docstring for the equations. `kineme.models.next_frames` runs it.

    Raises:
        ValueError: ``config.frame_size`` is not a multiple of 32.
    """

    def __init__(self, config: FramePredictorConfig) -> None:
        super().__init__()
        self.frame_shape = config.channels, config.frame_size, config.frame_size
        self.condition_dim, self.noise_dim = config.condition_dim, config.latent_dim
        size, width, features, channels = config.frame_size, config.width, config.feature_dim, config.channels
        condition = config.condition_embedding if config.condition_dim else 0
        self.encoder = VGGEncoder(size, width, features, channels)
        self.decoder = VGGDecoder(size, width, features, channels)
        self.embed_condition = nn.Linear(config.condition_dim, condition) if condition else None
        gaussian = (features + condition, config.hidden_dim, 2 * config.latent_dim, config.posterior_layers)
        self.posterior = Recurrence(*gaussian)
        self.prior = Recurrence(*gaussian) if config.learned_prior else None
        self.predictor = Recurrence(
            features + config.latent_dim + condition, config.hidden_dim, features, config.predictor_layers
        )
        self.compose = MotionKernels(features, width, config.kernels, config.reach) if config.kernels else None
        # Twice the speed on a CPU; the convolutions hand the layout on to all that they make.
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

        The true x_{t-1} is fed for t <= ``context``. After that the truth again under teacher forcing, else what was
        drawn for x_{t-1}. The lab draws that choice once for a whole sequence; so is it here, for the batch with a bool
        or for each clip with a mask. Everything but own predictions is encoded, and under full teacher forcing decoded,
        in one batch over time; a mask that is not all true steps every clip.

        Args:
            frames: (B, T, C, H, W) in [0, 1].
            context: true frames to start from, 1 .. T-1.
            condition: (B, T, D); c_t belongs to the frame x_t it leads to.
            teacher_forcing: for all clips, or (B,) bool.
            noise: standard normal (B, T-1, Z) behind z_1 .. z_{T-1}; drawn here if not given.

        Raises:
            ValueError: a shape, type or range that the rules above exclude.
        """
        batch, time = check_frames(self, frames)
        check_context(context, time)
        check_noise(self, noise, batch, time - 1)
        features, skips = self._encode(frames)
        embedded = self._embed(check_condition(self, condition, batch, time, frames), features)
        posterior = self._posterior(features, embedded)
        z = posterior.sample(noise)
        forced = torch.as_tensor(teacher_forcing, device=frames.device).expand(batch)
        # Frames x_1 .. x_{known} come from true predecessors in all clips: one pass for them.
        known = time - 1 if bool(forced.all()) else context
        drawn, state = self._predict_features(features[:, :known], z[:, :known], embedded[:, 1 : known + 1])
        prior, prior_state = self._prior(features[:, :known], embedded[:, 1 : known + 1])
        priors = [prior]
        sources = torch.arange(known, device=frames.device).clamp(max=context - 1)
        decoded = self._draw(
            drawn.flatten(0, 1),
            [split_time(skip, batch)[:, sources].flatten(0, 1) for skip in skips],
            frames[:, :known].flatten(0, 1),
            frames[:, sources].flatten(0, 1),
        )
        predicted = list(split_time(decoded, batch).unbind(1))
        last_skips = [split_time(skip, batch)[:, context - 1] for skip in skips]
        for t in range(known + 1, time):
            own = self.encoder(predicted[-1])[0].to(features.dtype)
            previous = torch.where(forced[:, None], features[:, t - 1], own)[:, None]
            fed = torch.where(forced[:, None, None, None], frames[:, t - 1], predicted[-1])
            drawn, state = self._predict_features(previous, z[:, t - 1 : t], embedded[:, t : t + 1], state)
            prior, prior_state = self._prior(previous, embedded[:, t : t + 1], prior_state)
            priors.append(prior)
            predicted.append(self._draw(drawn[:, 0], last_skips, fed, frames[:, context - 1]))
        return PredictorOutput(torch.stack(predicted, dim=1), posterior, over_time(priors, torch.cat))

    def begin(self, frames: Tensor, condition: Tensor, noise: Tensor) -> PredictorState:
        """Read a context, (B, N, C, S, S): as in SVG's generation script, z comes from the posterior meanwhile."""
        batch = frames.shape[0]
        features, skips = self._encode(frames)
        embedded = self._embed(condition, features)
        z = self._posterior(features, embedded).sample(noise)
        _, state = self._predict_features(features[:, :-1], z, embedded[:, 1:])
        _, prior_state = self._prior(features[:, :-1], embedded[:, 1:])
        last_skips = [split_time(skip, batch)[:, -1] for skip in skips]
        return PredictorState(frames[:, -1], frames[:, -1], last_skips, state, prior_state)

    def advance(self, state: PredictorState, condition: Tensor, noise: Tensor) -> tuple[Tensor, PredictorState]:
        """Draw x_t, (B, C, S, S), with z_t from the prior."""
        features = self.encoder(state.frame)[0][:, None]
        embedded = self._embed(condition[:, None], features)
        prior, prior_state = self._prior(features, embedded, state.prior)
        z = noise[:, None] if prior is None else prior.sample(noise[:, None])
        drawn, predictor = self._predict_features(features, z, embedded, state.predictor)
        frame = self._draw(drawn[:, 0], state.skips, state.frame, state.given)
        return frame, PredictorState(frame, state.given, state.skips, predictor, prior_state)

    def _draw(self, features: Tensor, skips: list[Tensor], frame: Tensor, given: Tensor) -> Tensor:
        """x_t from g_t (B, feature_dim); x_{t-1} and the frame of the skips are needed where it is made by motions."""
        pixels = self.decoder.pixel_features(features, skips)
        drawn = self.decoder.draw(pixels)
        if self.compose is None:
            return drawn
        composed: Tensor = self.compose(features, pixels, drawn, frame, given)
        return composed

    def _encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features (B, T, feature_dim), and the skips of all frames, each (B * T, width_i, h_i, w_i)."""
        features, skips = self.encoder(frames.flatten(0, 1))
        return split_time(features, frames.shape[0]), skips

    def _embed(self, condition: Tensor, like: Tensor) -> Tensor:
        """The condition's embedding (B, T, E); E is 0 for a model without one."""
        if self.embed_condition is None:
            return condition
        embedded: Tensor = self.embed_condition(condition)
        return embedded.to(like.dtype)

    def _posterior(self, features: Tensor, embedded: Tensor) -> Gaussian:
        """q(z_t | x_{0:t}, c_{0:t}) for t = 1 .. T-1."""
        parameters, _ = self.posterior(torch.cat([features, embedded], dim=-1))
        return Gaussian.from_parameters(parameters[:, 1:])

    def _prior(
        self, previous: Tensor, embedded: Tensor, state: State | None = None
    ) -> tuple[Gaussian | None, State | None]:
        """h_{t-1}, c_t, each (B, S, ...) -> p(z_t | x_{0:t-1}, c_{1:t}); nothing where it is N(0, I)."""
        if self.prior is None:
            return None, None
        parameters, state = self.prior(torch.cat([previous, embedded], dim=-1), state)
        return Gaussian.from_parameters(parameters), state

    def _predict_features(
        self, previous: Tensor, z: Tensor, embedded: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """h_{t-1}, z_t, c_t -> g_t, each (B, S, ...)."""
        drawn, state = self.predictor(torch.cat([previous, z, embedded], dim=-1), state)
        return torch.tanh(drawn), state
