"""The disentangled sequential VAE of Leplae-Arthur & Nichani, after Li & Mandt (ICML 2018).

A clip x_1..x_T has one content f and a motion z_1..z_T:

    p(f, z, x) = p(f) prod_t p(z_t | z_<t) p(x_t | z_t, f)        (section 2)
    q(z, f | x) = q(f | x_1:T) prod_t q(z_t | x_t)

p(f) is a standard normal, p(z_t | z_<t) a Gaussian from an LSTM, p(x_t | z_t, f) a Gaussian of fixed variance around
the decoder's image. The same convolutions feed both encoders (section 5.2).

Where the paper leaves it open: kernels and strides (here 4x4 and 2), normalisation (batch norm), which recurrent cells
(LSTMs), and how the decoder gets from its 2x2 image to 64x64: the four deconvolutions that the paper names do so only
if one of them has stride 4, here the first. `pooled_content`, `unordered_content`, `prior_components` above 1 and
`modulated_decoder` are ours; all are off by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kineme.models.distributions import Gaussian, GaussianMixture, kl_divergence, kl_estimate, kl_to_standard_normal
from kineme.models.latent_decoders import SLOPE, ConcatenatedDecoder, ModulatedDecoder
from kineme.models.recurrent import run_lstm


@dataclass(frozen=True)
class SequentialVAEConfig:
    """Sizes of the network. The defaults are the paper's (5.2): convolutions to 256 channels, z of 32, f of 256.

    Attributes:
        frame_size: height and width of a frame in pixels, a multiple of 32.
        width: channels of the first convolution; the other three have 2, 4 and 8 times as many.
        f_dim: dimensions of the content f.
        z_dim: dimensions of the motion z_t.
        hidden_dim: hidden units of the MLP and of both LSTMs.
        channels: colour channels of a frame.
        pooled_content: q(f | x) reads, of each frame, the largest response anywhere of each channel of the third
            convolution, rather than all responses of the fourth in their places (the paper's way): what is in the
            frame, whatever its place.
        unordered_content: q(f | x) reads the mean and the maximum over the frames of what it reads of each, through a
            layer of ``hidden_dim``, rather than the last state of an LSTM: a clip's frames as a set.
        prior_components: Gaussians of which p(z_t | z_<t) is a mixture, a single one in the paper. Where several things
            may come next, one draws what lies between them.
        modulated_decoder: `ModulatedDecoder` instead of the paper's `ConcatenatedDecoder`.
    """

    frame_size: int = 64
    width: int = 32
    f_dim: int = 256
    z_dim: int = 32
    hidden_dim: int = 512
    channels: int = 3
    pooled_content: bool = False
    unordered_content: bool = False
    prior_components: int = 1
    modulated_decoder: bool = False

    def __post_init__(self) -> None:
        if self.frame_size < 32 or self.frame_size % 32:
            raise ValueError(f"frame_size is {self.frame_size}: it must be a multiple of 32, such as 64 or 96")


class SequentialVAEOutput(NamedTuple):
    """What one pass over a batch gives.

    Attributes:
        reconstruction: the decoded frames.
        f_posterior: q(f | x).
        z_posterior: q(z_t | x_t) of every step.
        z: the motion drawn from it.
        z_prior: p(z_t | z_<t) of every step, given the drawn motion.
    """

    reconstruction: Tensor
    f_posterior: Gaussian
    z_posterior: Gaussian
    z: Tensor
    z_prior: Gaussian | GaussianMixture

    def kl_z(self) -> Tensor:
        """sum_t KL(q(z_t | x_t) || p(z_t | z_<t)) of each clip, (B,); against a mixture as the drawn z estimates it."""
        if isinstance(self.z_prior, Gaussian):
            return kl_divergence(self.z_posterior, self.z_prior).sum(dim=1)
        return kl_estimate(self.z_posterior, self.z_prior, self.z).sum(dim=1)


class SequentialVAE(nn.Module):
    """Encoder, motion prior and decoder. Frames are (B, T, C, H, W) in [0, 1]."""

    def __init__(self, config: SequentialVAEConfig) -> None:
        super().__init__()
        self.config = config
        w, feature_size = config.width, config.frame_size // 16
        self.convolutions = nn.Sequential(
            down(config.channels, w), down(w, 2 * w), down(2 * w, 4 * w), down(4 * w, 8 * w)
        )
        feature_dim = 8 * w * feature_size**2
        self.z_head = nn.Sequential(
            nn.Linear(feature_dim, config.hidden_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(config.hidden_dim, 2 * config.z_dim),
        )
        content_dim = 4 * w if config.pooled_content else feature_dim
        if config.unordered_content:
            self.f_layer = nn.Sequential(nn.Linear(2 * content_dim, config.hidden_dim), nn.LeakyReLU(SLOPE))
        else:
            self.f_lstm = nn.LSTM(content_dim, config.hidden_dim, batch_first=True)
        self.f_mean = nn.Linear(config.hidden_dim, config.f_dim)
        self.f_logvar = nn.Linear(config.hidden_dim, config.f_dim)
        self.prior_lstm = nn.LSTM(config.z_dim, config.hidden_dim, batch_first=True)
        k = config.prior_components
        self.prior_head = nn.Linear(config.hidden_dim, 2 * config.z_dim if k == 1 else k * (2 * config.z_dim + 1))
        if k > 1:
            # Apart from the start: components that are alike are pulled alike, and stay one for long.
            with torch.no_grad():
                self.prior_head.bias.view(k, -1)[:, : config.z_dim].normal_()
        make_decoder = ModulatedDecoder if config.modulated_decoder else ConcatenatedDecoder
        self.decoder = make_decoder(
            config.frame_size, w, config.f_dim, config.z_dim, config.hidden_dim, config.channels
        )
        # Nearly twice the speed on a CPU, and what tensor cores want.
        self.to(memory_format=torch.channels_last)

    def encode(self, frames: Tensor, motion_view: Tensor | None = None) -> tuple[Gaussian, Gaussian]:
        """q(f | x_1:T) of shape (B, f_dim) and q(z_t | x_t) of shape (B, T, z_dim), for any T >= 1.

        Args:
            frames: the clips, (B, T, C, H, W).
            motion_view: what z_t is read from instead: of the same shape, but of any number of frames, which is T for
                z then. Where both pass a norm they share the statistics of a batch.
        """
        images, motion_shape = frames.flatten(0, 1), frames.shape[:2]
        # q(f | x) reads the first of the images, q(z_t | x_t) those from ``moving`` on: without a view of its own, all.
        shown, moving = len(images), 0
        if motion_view is not None:
            images, motion_shape = torch.cat([images, motion_view.flatten(0, 1)]), motion_view.shape[:2]
            moving = shown
        third = self.convolutions[:3](images.contiguous(memory_format=torch.channels_last))
        if self.config.pooled_content:
            of_content = third[:shown].amax(dim=(2, 3))
            of_motion = self.convolutions[3](third[moving:]).flatten(1)
        else:
            fourth = self.convolutions[3](third).flatten(1)
            of_content, of_motion = fourth[:shown], fourth[moving:]
        of_clip = self._over_time(of_content.reshape(*frames.shape[:2], -1))
        return (
            Gaussian(self.f_mean(of_clip).float(), self.f_logvar(of_clip).float()),
            Gaussian.from_parameters(self.z_head(of_motion.reshape(*motion_shape, -1)).float()),
        )

    def _over_time(self, features: Tensor) -> Tensor:
        """What q(f | x) makes of the features (B, T, content_dim) of a clip's frames: (B, hidden_dim)."""
        if self.config.unordered_content:
            hidden: Tensor = self.f_layer(torch.cat([features.mean(dim=1), features.amax(dim=1)], dim=-1))
            return hidden
        return run_lstm(self.f_lstm, features)[0][:, -1]

    def train_decoder_alone(self, *, keep_norms: bool) -> None:
        """Leave what is read of clips as it is, and train the decoder and the motion prior.

        Nothing trains the encoders, and their norms keep their statistics; only how sure q(f | x) is may still change,
        as that depends on how well f can be drawn. Gradients may still pass through them.

        Args:
            keep_norms: the decoder's norms keep their statistics, too. By those of a batch, what else is in it shifts
                the colours of a clip, but they allow for higher rates.
        """
        over_time = self.f_layer if self.config.unordered_content else self.f_lstm
        for part in (self.convolutions, self.z_head, over_time, self.f_mean):
            part.requires_grad_(False)
        # The other parts have no norms, and cuDNN lets no gradient through an LSTM that is not in training mode.
        self.convolutions.eval()
        self.decoder.train(self.training and not keep_norms)

    def z_prior(self, z: Tensor) -> Gaussian | GaussianMixture:
        """p(z_t | z_<t) for every t of a given motion (B, T, z_dim); the step before the first is zeros."""
        shifted = torch.cat([torch.zeros_like(z[:, :1]), z[:, :-1]], dim=1)
        return self._next_motion(run_lstm(self.prior_lstm, shifted)[0])

    def _next_motion(self, hidden: Tensor) -> Gaussian | GaussianMixture:
        """p(z_t | z_<t) from the LSTM's state after z_<t."""
        parameters, count = self.prior_head(hidden).float(), self.config.prior_components
        if count == 1:
            return Gaussian.from_parameters(parameters)
        return GaussianMixture.from_parameters(parameters, count)

    def sample_motion(self, batch: int, steps: int) -> Tensor:
        """A draw z_1..z_T from the motion prior, step by step: (batch, steps, z_dim)."""
        z, state, drawn = self.prior_head.weight.new_zeros(batch, 1, self.config.z_dim), None, []
        for _ in range(steps):
            hidden, state = run_lstm(self.prior_lstm, z, state)
            z = self._next_motion(hidden).sample()
            drawn.append(z)
        return torch.cat(drawn, dim=1)

    def decode(self, f: Tensor, z: Tensor) -> Tensor:
        """The means of p(x_t | z_t, f): f (B, f_dim) and z (B, T, z_dim) give frames (B, T, C, H, W) in [0, 1]."""
        repeated = f.unsqueeze(1).expand(-1, z.shape[1], -1)
        images: Tensor = self.decoder(repeated.flatten(0, 1), z.flatten(0, 1))
        return images.reshape(*z.shape[:2], *images.shape[1:])

    def forward(
        self, frames: Tensor, motion_view: Tensor | None = None, decoded: Tensor | None = None
    ) -> SequentialVAEOutput:
        """Encode, draw f and z, decode. The prior of z_t is conditioned on the drawn z_<t, as in the objective.

        Args:
            frames: the clips.
            motion_view: see :meth:`encode`.
            decoded: numbers of the frames to decode, (N,) int64; all if not given.
        """
        f_posterior, z_posterior = self.encode(frames, motion_view)
        f, z = f_posterior.sample(), z_posterior.sample()
        reconstruction = self.decode(f, z if decoded is None else z[:, decoded])
        return SequentialVAEOutput(reconstruction, f_posterior, z_posterior, z, self.z_prior(z))


def sequential_vae_loss(
    output: SequentialVAEOutput,
    frames: Tensor,
    *,
    beta: float = 1.0,
    beta_motion: float | None = None,
    sigma: float = 1.0,
) -> dict[str, Tensor]:
    """The negative ELBO of section 2 with the beta of section 6: summed over pixels and time, mean over the batch.

        L = E[-log p(x | z, f)] + beta KL(q(f | x) || p(f)) + beta sum_t E[KL(q(z_t | x_t) || p(z_t | z_<t))]

    The paper says that log p(x | z, f) "is just the mean-squared error"; a Gaussian of variance sigma^2 makes it
    ||x - reconstruction||^2 / (2 sigma^2) summed over a clip, up to a constant, which is dropped here. The paper's
    sigma is 1. A smaller one weighs fine detail higher against both divergences.

    Args:
        output: what the network made of clips of T frames.
        frames: the true frames behind ``output.reconstruction``. Where they are fewer than T, they stand for the sum
            over all: it is their mean, times T.
        beta: of both divergences.
        beta_motion: of that of z instead, if given.
        sigma: standard deviation of p(x_t | z_t, f), of colours from 0 to 1.

    Returns:
        Scalars: ``loss`` and its parts ``reconstruction``, ``kl_f`` and ``kl_z`` (before beta).
    """
    squared_error = (output.reconstruction.float() - frames).square().sum(dim=(1, 2, 3, 4))
    share = frames.shape[1] / output.z_posterior.mean.shape[1]
    reconstruction = (squared_error / (2 * sigma**2)).mean() / share
    kl_f = kl_to_standard_normal(output.f_posterior).mean()
    kl_z = output.kl_z().mean()
    return {
        "loss": reconstruction + beta * kl_f + (beta if beta_motion is None else beta_motion) * kl_z,
        "reconstruction": reconstruction,
        "kl_f": kl_f,
        "kl_z": kl_z,
    }


def down(channels_in: int, channels_out: int) -> nn.Module:
    """Half the resolution."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(SLOPE),
    )
