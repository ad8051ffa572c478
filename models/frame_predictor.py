"""The next-frame CVAE: a VGG encoder and decoder around a recurrent posterior and a recurrent predictor, prior N(0, I).

The lab report this implements refers to SVG with a fixed prior (Denton & Fergus 2018, section 3.1); frames are numbered
from 0, and x_t is drawn for t = 1 .. T-1:

    q(z_t | x_{0:t}, c_{0:t})    LSTM over encoder features, then mean and log-variance
    g_t = LSTM(h_{t-1}, z_t, c_t), h_{t-1} = encoder(x_{t-1})
    x_t = decoder(g_t, skips of x_{min(t, context) - 1})

Where the sources leave a choice or we differ:

- SVG's code starts the posterior at x_1; here it has seen x_0 too, so that the first z can tell motion.
- SVG's code keeps the skips of the last frame but one of the context; here they are those of the last, the newest truth
  there is when prediction starts.
- Own predictions are fed back with their gradient, as the lab's public code does.
- The recurrent parts run in their weights' precision even under autocast: they are cheap, and errors add up there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kineme.models.distributions import Gaussian, kl_to_standard_normal
from kineme.models.layers import VGGDecoder, VGGEncoder

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
        posterior_layers: LSTM layers of the posterior.
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


@dataclass(frozen=True)
class PredictorOutput:
    """Frames 1 .. T-1 as drawn, (B, T-1, C, H, W) in (0, 1), and the posterior of z_1 .. z_{T-1}, (B, T-1, Z)."""

    predicted: Tensor
    posterior: Gaussian


@dataclass(frozen=True)
class PredictorLoss:
    """``loss`` = ``reconstruction`` + beta * ``kl``; scalars."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


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
        """Run over ``inputs`` from ``state`` (zeros if not given)."""
        with torch.autocast(inputs.device.type, enabled=False):
            hidden, state = self.lstm(self.embed(inputs.to(self.embed.weight.dtype)), state)
            return self.output(hidden), state


class FramePredictor(nn.Module):
    """Next-frame CVAE; see the module's docstring for the equations.

    Raises:
        ValueError: ``config.frame_size`` is not a multiple of 32.
    """

    def __init__(self, config: FramePredictorConfig) -> None:
        super().__init__()
        self.config = config
        size, width, features, channels = config.frame_size, config.width, config.feature_dim, config.channels
        condition = config.condition_embedding if config.condition_dim else 0
        self.encoder = VGGEncoder(size, width, features, channels)
        self.decoder = VGGDecoder(size, width, features, channels)
        self.embed_condition = nn.Linear(config.condition_dim, condition) if condition else None
        self.posterior = Recurrence(
            features + condition, config.hidden_dim, 2 * config.latent_dim, config.posterior_layers
        )
        self.predictor = Recurrence(
            features + config.latent_dim + condition, config.hidden_dim, features, config.predictor_layers
        )
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
        batch, time = self._check_frames(frames)
        if not 1 <= context < time:
            raise ValueError(
                f"context is {context}, but {time} frames leave 1 to {time - 1}: at least one is predicted"
            )
        features, skips = self._encode(frames)
        embedded = self._embed(condition, batch, time, features)
        posterior = self._posterior(features, embedded)
        z = posterior.sample(self._check_noise(noise, batch, time - 1))
        forced = torch.as_tensor(teacher_forcing, device=frames.device).expand(batch)
        # Frames x_1 .. x_{known} come from true predecessors in all clips: one pass for them.
        known = time - 1 if bool(forced.all()) else context
        drawn, state = self._predict_features(features[:, :known], z[:, :known], embedded[:, 1 : known + 1])
        sources = torch.arange(known, device=frames.device).clamp(max=context - 1)
        decoded = self.decoder(
            drawn.flatten(0, 1), [split_time(skip, batch)[:, sources].flatten(0, 1) for skip in skips]
        )
        predicted = list(split_time(decoded, batch).unbind(1))
        last_skips = [split_time(skip, batch)[:, context - 1] for skip in skips]
        for t in range(known + 1, time):
            own = self.encoder(predicted[-1])[0].to(features.dtype)
            previous = torch.where(forced[:, None], features[:, t - 1], own)
            frame, state = self._step(previous, z[:, t - 1], embedded[:, t], last_skips, state)
            predicted.append(frame)
        return PredictorOutput(torch.stack(predicted, dim=1), posterior)

    def predict(
        self,
        context_frames: Tensor,
        horizon: int,
        condition: Tensor | None = None,
        noise: Tensor | None = None,
        *,
        sample: bool = True,
    ) -> Tensor:
        """Draw the ``horizon`` frames after ``context_frames``: (B, N, C, H, W) in [0, 1] -> (B, horizon, C, H, W).

        As in SVG's generation script, z comes from the posterior while the context is read, from N(0, I) after it; each
        frame drawn is fed back. Gradients are the caller's to switch off.

        Args:
            context_frames: N true frames, at least one.
            horizon: frames to draw, at least one.
            condition: (B, N + horizon, D), or nothing for a model without a condition.
            noise: standard normal (B, N - 1 + horizon, Z) behind z_1 .. z_{N - 1 + horizon}; drawn here if not given.
            sample: without, the means are taken (noise 0): repeatable, at the price of sharpness.

        Raises:
            ValueError: a shape, type or range that the rules above exclude.
        """
        batch, known = self._check_frames(context_frames)
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}, but a prediction has at least one frame")
        features, skips = self._encode(context_frames)
        embedded = self._embed(condition, batch, known + horizon, features)
        noise = self._check_noise(noise, batch, known - 1 + horizon)
        if noise is None:
            draw = torch.randn if sample else torch.zeros
            noise = draw(batch, known - 1 + horizon, self.config.latent_dim, device=features.device)
        seen = self._posterior(features, embedded[:, :known]).sample(noise[:, : known - 1])
        z = torch.cat([seen, noise[:, known - 1 :]], dim=1)
        last_skips = [split_time(skip, batch)[:, -1] for skip in skips]
        state = None
        if known > 1:
            _, state = self._predict_features(features[:, :-1], z[:, : known - 1], embedded[:, 1:known])
        previous = features[:, -1]
        predicted: list[Tensor] = []
        for t in range(known, known + horizon):
            if predicted:
                previous = self.encoder(predicted[-1])[0].to(features.dtype)
            frame, state = self._step(previous, z[:, t - 1], embedded[:, t], last_skips, state)
            predicted.append(frame)
        return torch.stack(predicted, dim=1)

    def _encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features (B, T, feature_dim), and the skips of all frames, each (B * T, width_i, h_i, w_i)."""
        features, skips = self.encoder(frames.flatten(0, 1))
        return split_time(features, frames.shape[0]), skips

    def _embed(self, condition: Tensor | None, batch: int, time: int, like: Tensor) -> Tensor:
        """The condition's embedding (B, T, E); E is 0 for a model without one."""
        if self.embed_condition is None:
            if condition is not None:
                raise ValueError("a condition is given, but the model has condition_dim 0: leave it out")
            return like.new_empty(batch, time, 0)
        expected = (batch, time, self.config.condition_dim)
        if condition is None or condition.shape != expected:
            given = "missing" if condition is None else f"of shape {tuple(condition.shape)}"
            raise ValueError(f"the condition is {given}, but the model needs (B, T, D) = {expected}")
        embedded: Tensor = self.embed_condition(condition)
        return embedded.to(like.dtype)

    def _posterior(self, features: Tensor, embedded: Tensor) -> Gaussian:
        """q(z_t | x_{0:t}, c_{0:t}) for t = 1 .. T-1."""
        parameters, _ = self.posterior(torch.cat([features, embedded], dim=-1))
        return Gaussian.from_parameters(parameters[:, 1:])

    def _predict_features(
        self, previous: Tensor, z: Tensor, embedded: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """h_{t-1}, z_t, c_t -> g_t, each (B, S, ...)."""
        drawn, state = self.predictor(torch.cat([previous, z, embedded], dim=-1), state)
        return torch.tanh(drawn), state

    def _step(
        self, previous: Tensor, z: Tensor, embedded: Tensor, skips: list[Tensor], state: State | None
    ) -> tuple[Tensor, State]:
        """One frame (B, C, H, W) from h_{t-1}, z_t, c_t, each (B, ...)."""
        drawn, state = self._predict_features(previous[:, None], z[:, None], embedded[:, None], state)
        return self.decoder(drawn[:, 0], skips), state

    def _check_frames(self, frames: Tensor) -> tuple[int, int]:
        expected = (self.config.channels, self.config.frame_size, self.config.frame_size)
        if frames.ndim != 5 or frames.shape[2:] != expected or 0 in frames.shape:
            raise ValueError(
                f"frames are {tuple(frames.shape)}, but the model needs (B, T, C, H, W) = (B, T, *{expected})"
            )
        if not frames.is_floating_point():
            raise ValueError(f"frames are {frames.dtype}, but the model needs values in [0, 1]: divide by 255")
        return frames.shape[0], frames.shape[1]

    def _check_noise(self, noise: Tensor | None, batch: int, steps: int) -> Tensor | None:
        expected = (batch, steps, self.config.latent_dim)
        if noise is not None and noise.shape != expected:
            raise ValueError(f"noise is {tuple(noise.shape)}, but the model needs (B, steps, Z) = {expected}")
        return noise


def predictor_loss(output: PredictorOutput, frames: Tensor, beta: float) -> PredictorLoss:
    """MSE + beta * KL(q(z_t | x_{0:t}, c_{0:t}) || N(0, I)): the report's negative lower bound, in float32.

    The report says "MSE" and no more. Here ``reconstruction`` is the mean over pixels, colours, frames 1 .. T-1 and
    clips; ``kl`` is summed over the dimensions of z and averaged over frames and clips. The lab's public code sums both
    over frames instead: that loss is T-1 times this one, with the same balance at the same ``beta``. A Gaussian
    likelihood of variance s per colour value is beta = 2 s / (C * H * W): a ``beta`` well below 1 belongs here.

    Args:
        output: what the model drew from ``frames``.
        frames: (B, T, C, H, W) in [0, 1].
        beta: weight of the KL term.
    """
    reconstruction = (output.predicted.float() - frames[:, 1:].float()).square().mean()
    kl = kl_to_standard_normal(Gaussian(output.posterior.mean.float(), output.posterior.logvar.float())).mean()
    return PredictorLoss(reconstruction + beta * kl, reconstruction, kl)
