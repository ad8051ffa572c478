"""The statics/dynamics video encoder of thesis chapter 7: what a clip shows, S, apart from how it moves, P.

Five networks: the transformer between frames (`kineme.models.block_stn`), the video encoder that gives S and P
(`kineme.models.video_encoder`), the frame autoencoder and the predictor of its p_t (`kineme.models.frame_dynamics`).

The objectives, in the order of 7.4.1: first the transformer alone (7.2); then, with the transformer frozen,

    L_statics = 1/T sum_t ||x_t - g_dec(G_vt(S))||^2,  G_vt = T(S, s_t)        (7.3)
    L_frame   = ||x_t - f_Dec(p_t, S)||^2,             p_t = f_Enc(x_t, S)     (7.4), S detached
    L_pred    = the contrastive objective of p^_t = f_auto(P, p_<t)            (7.5), p detached

Squared errors are sums over channels and pixels and means over frames and clips; L_pred is a sum over the predictions
of the batch, as 7.5 has it, or their mean. Ours are `kineme.models.appearance` and `kineme.models.motion_layers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kineme.models.appearance import Appearance
from kineme.models.block_stn import Transformer
from kineme.models.frame_autoencoder import Reduction, check_frame_size, squared_error
from kineme.models.frame_dynamics import DynamicsPredictor, FrameAutoencoder
from kineme.models.motion_layers import MotionLayers
from kineme.models.video_encoder import VideoEncoder


@dataclass(frozen=True)
class StaticsDynamicsConfig:
    """Sizes. The defaults are those of Moving MNIST in appendix 7.A, at the width of a ResNet-18.

    Attributes:
        frame_size: height and width of a frame, pixels; a multiple of 8.
        clip_frames: T, frames of a clip.
        width: channels of the video encoder's first stage.
        latent_channels: of S and of the transformer's features.
        blocks: of the BlockSTN: 2 for Moving MNIST, 4 Weizmann, 8 RAVDESS.
        dynamics_dim: of P: 32 on Moving MNIST, 512 elsewhere.
        frame_dim: of p_t: 16 on Moving MNIST, 128 elsewhere.
        hidden_dim: of the predictor's LSTM.
        motion_layers: K of our own objective (`kineme.models.motion_layers`); 0 is the thesis.
        affine_layers: whether these move by affine maps or by translations.
        appearance_dim: of the vector of our other objective (`kineme.models.appearance`); 0 is the thesis.
        channels: colour channels.
        reduction: side of a frame over that of S and of the transformer's features.
    """

    frame_size: int = 64
    clip_frames: int = 8
    width: int = 64
    latent_channels: int = 64
    blocks: int = 2
    dynamics_dim: int = 32
    frame_dim: int = 16
    hidden_dim: int = 1024
    motion_layers: int = 0
    affine_layers: bool = False
    appearance_dim: int = 0
    channels: int = 3
    reduction: Reduction = 8

    def __post_init__(self) -> None:
        check_frame_size(self.frame_size)
        if self.clip_frames < 2:
            raise ValueError(f"clip_frames is {self.clip_frames}: motion needs at least 2")


def video_encoder_of(config: StaticsDynamicsConfig) -> VideoEncoder:
    """The video encoder of these sizes, with random weights."""
    c = config
    return VideoEncoder(
        c.frame_size, c.clip_frames, c.width, c.latent_channels, c.dynamics_dim, c.channels, c.reduction
    )


class Encoding(NamedTuple):
    """S (B, latent_channels, h, w), P (B, dynamics_dim) and p_1..p_T (B, T, frame_dim)."""

    statics: Tensor
    dynamics: Tensor
    frame_dynamics: Tensor


class StaticsDynamics(nn.Module):
    """All five networks. Frames are (B, T, C, H, W) in [0, 1]."""

    def __init__(self, config: StaticsDynamicsConfig) -> None:
        super().__init__()
        self.config = c = config
        self.transformer = Transformer(c.frame_size, c.latent_channels, c.blocks, c.channels, c.reduction)
        self.video_encoder = video_encoder_of(c)
        self.frame_model = FrameAutoencoder(c.frame_size, c.latent_channels, c.frame_dim, c.channels, c.reduction)
        self.predictor = DynamicsPredictor(c.frame_dim, c.dynamics_dim, c.hidden_dim)
        if c.appearance_dim:
            self.to_appearance = Appearance(c.latent_channels, c.appearance_dim)
        if c.motion_layers:
            self.motion_layers = MotionLayers(
                c.dynamics_dim, c.clip_frames, c.frame_size, c.motion_layers, c.affine_layers
            )

    def encode(self, frames: Tensor) -> Encoding:
        """S, P and p_t of clips of ``clip_frames`` frames."""
        statics, dynamics = self.video_encoder(frames)
        return Encoding(statics, dynamics, self.frame_dynamics(frames, statics))

    def frame_dynamics(self, frames: Tensor, statics: Tensor) -> Tensor:
        """p_t = f_Enc(x_t, S): frames (B, t, C, H, W), S (B, c, h, w) -> (B, t, frame_dim)."""
        return _each_frame(self.frame_model.encode, frames, statics)

    def appearance(self, statics: Tensor) -> Tensor:
        """The vector to search by, of S or of the transformer's features of a frame: (N, c, h, w) -> (N, D).

        D is ``appearance_dim``; where that is 0 it is c, and the vector is the average over places.
        """
        if not self.config.appearance_dim:
            return statics.mean((2, 3))
        vectors: Tensor = self.to_appearance(statics)
        return vectors

    def draw(self, frame_dynamics: Tensor, statics: Tensor) -> Tensor:
        """Frames f_Dec(p_t, S) of p (B, t, frame_dim) and S (B, c, h, w): (B, t, C, H, W), not bounded to [0, 1]."""
        return _each_frame(self.frame_model.decode, frame_dynamics, statics)

    def draw_statics(self, statics: Tensor) -> Tensor:
        """S through the transformer's decoder: (B, C, H, W), not bounded."""
        frames: Tensor = self.transformer.decode(statics)
        return frames

    def warp_statics(self, frames: Tensor, statics: Tensor) -> Tensor:
        """g_dec(G_vt(S)), S warped to each of (B, t, C, H, W) frames and drawn, without training the transformer."""
        transformer = self.transformer
        with torch.no_grad():
            targets = transformer.encode(frames.flatten(0, 1))
        repeated = statics.repeat_interleave(frames.shape[1], dim=0)
        maps = _frozen(transformer.stn)(repeated, targets)
        drawn: Tensor = _frozen(transformer.decode)(transformer.stn.warp(repeated, maps))
        return drawn.view(frames.shape)

    def best_warped(self, frames: Tensor) -> Tensor:
        """Features s of that frame of each clip which warps best to the others: (B, t, C, H, W) -> (B, c, h, w)."""
        clips, steps = frames.shape[:2]
        with torch.no_grad():
            features: Tensor = self.transformer.encode(frames.flatten(0, 1))
            features = features.view(clips, steps, *features.shape[1:])
            errors = []
            for source in range(steps):
                repeated = features[:, source].repeat_interleave(steps, dim=0)
                drawn = self.transformer.decode(self.transformer.match(repeated, features.flatten(0, 1)))
                error = (drawn - frames.flatten(0, 1)).float().square().flatten(1).sum(1).view(clips, steps)
                errors.append(error.sum(1) - error[:, source])
            best = torch.stack(errors).argmin(dim=0)
            return features[torch.arange(clips, device=frames.device), best]


def statics_loss(model: StaticsDynamics, frames: Tensor, statics: Tensor) -> Tensor:
    """Objective 7.3 over the given frames (B, t, C, H, W): reaches S alone, neither the transformer nor its decoder."""
    return squared_error(model.warp_statics(frames, statics), frames)


def closeness_loss(model: StaticsDynamics, frames: Tensor, statics: Tensor) -> Tensor:
    """Weizmann's regulariser (7.B.2): squared distance of S to the features of the frame that warps best to the others.

    Sum over features, mean over clips. The thesis calls it perceptual; its features are taken to be the transformer's.
    """
    return squared_error(statics, model.best_warped(frames))


def frame_loss(model: StaticsDynamics, frames: Tensor, statics: Tensor) -> Tensor:
    """Objective 7.4 over the given frames (B, t, C, H, W): reaches the frame autoencoder alone, S is detached."""
    constant = statics.detach()
    return squared_error(model.draw(model.frame_dynamics(frames, constant), constant), frames)


def _each_frame(function: Callable[[Tensor, Tensor], Tensor], values: Tensor, statics: Tensor) -> Tensor:
    """Apply a function of (N, ...) values and (N, c, h, w) statics to (B, t, ...) values with one S a clip."""
    steps = values.shape[1]
    results = function(values.flatten(0, 1), statics.repeat_interleave(steps, dim=0))
    return results.view(-1, steps, *results.shape[1:])


def _frozen(module: nn.Module) -> Callable[..., Tensor]:
    """The module as a function that passes gradients to its inputs, and none to its parameters."""
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return lambda *inputs: functional_call(module, constants, inputs)
