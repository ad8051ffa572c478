"""An objective of our own for S: what a clip looks like must be told from any one of its frames, and the reverse.

S averaged over places says little of what a clip shows: two different digits have much the same average. A small
network a reads the appearance from S, and, as the transformer's features s_t of a single frame are of the same kind,
from those too. Of N clips, each must find one of its frames among those of all, and each frame its clip, by cosines:

    L_appearance = 1/2 (L(a(S), a(s)) + L(a(s), a(S))),
    L(q, k) = - 1/N sum_n log( exp(cos(q_n, k_n) / tau) / sum_m exp(cos(q_n, k_m) / tau) ),

the InfoNCE of van den Oord et al. (2018), as symmetric as that of CLIP (Radford et al. 2021), but without gradients
into the keys k. A single frame shows no motion, so none gets into a; frames from outside of the window that S describes
(`data.clip_frames` above `model.clip_frames`) show the same things in other places. Clips of one video that meet in a
batch count as different.
"""

from __future__ import annotations

from torch import Tensor, nn

from kineme.models.contrastive import contrastive_loss
from kineme.models.frame_autoencoder import residual_block


class Appearance(nn.Sequential):
    """a: S, or the transformer's features of a frame, (N, latent_channels, h, w) -> (N, appearance_dim).

    Args:
        latent_channels: of S.
        appearance_dim: of the vector.
    """

    def __init__(self, latent_channels: int, appearance_dim: int) -> None:
        width = 2 * latent_channels
        super().__init__(
            residual_block(latent_channels, width),
            residual_block(width, width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, appearance_dim),
        )


def appearance_loss(clips: Tensor, frames: Tensor, temperature: float = 0.1) -> Tensor:
    """L_appearance of a(S) of clips (N, D) and a(s) of one frame of each, likewise: mean over those of all processes.

    Args:
        clips: a(S).
        frames: a(s).
        temperature: tau.
    """

    def find(queries: Tensor, keys: Tensor) -> Tensor:
        return contrastive_loss(
            queries[:, None], keys[:, None], similarity="cosine", temperature=temperature, reduction="mean"
        )

    return (find(clips, frames) + find(frames, clips)) / 2
