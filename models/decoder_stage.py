"""What the decoder of a sequential VAE learns once the encoders are good and kept: terms of ours beside the ELBO.

While all is trained together, what f tells of like colours grows faster than what the decoder makes of it: on Sprites a
line separates skins in f where the decoder draws half of their difference. (Where f itself mixes like colours with what
else it tells, nothing here helps: docs/lab-notes.md.) With kept encoders, the objective is a loss of the decoder, of
the motion prior and of the variance of q(f | x), which is the smaller the better f can be drawn, and terms that might
spoil what is read can do no harm:

- :func:`block_error`: the squared error of the means of small blocks of pixels, on top of that of the pixels. Colours
  that are a little off everywhere weigh in it, edges that are not quite in their place do not. Both together are
  -log p(x | z, f) of a Gaussian whose errors are smaller on the scale of blocks than from pixel to pixel.
- :func:`read_back`: f, decoded with a motion of the prior, must be read again from the frames. With q(f | x) as its
  estimate of what was drawn, it is the lower bound on mutual information of InfoGAN (Chen et al., NeurIPS 2016).

At the low rates of the end, the decoder's norms keep their statistics: by those of a small batch, like colours shift
with what else is in it (:meth:`SequentialVAE.train_decoder_alone`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kineme.models.distributions import Gaussian
from kineme.models.sequential_vae import SequentialVAE

BLOCK = 4
LEAST_VARIANCE = 0.01


def block_error(reconstruction: Tensor, frames: Tensor) -> Tensor:
    """The squared error of the means of 4 x 4 pixels, times the 16 pixels that each stands for.

    Of an error that is the same all over a block it is what the pixels' own squared error is.

    Args:
        reconstruction: drawn frames (B, T, C, H, W); H and W are multiples of 4.
        frames: the true ones.

    Returns:
        A scalar: summed over blocks and time, mean over the batch.
    """
    error = (reconstruction.float() - frames).flatten(0, 1)
    return BLOCK**2 * F.avg_pool2d(error, BLOCK).square().sum() / len(frames)


def read_back(model: SequentialVAE, f_posterior: Gaussian, steps: int, decoded: Tensor | None = None) -> Tensor:
    """How far the content that is read from clips of drawn motion is from what they were drawn with.

        E[||mean q(f | x~) - f||^2 / (2 max(0.01, var q(f | x)))],  x~ = decoder(f, z~),  f ~ q(f | x),  z~ ~ p(z)

    It is -log q(f | x~), up to a constant, with the variance of the clip's own posterior, which this term cannot
    change, but no less than a hundredth of the prior's: or the surer q(f | x) got, the more would this count.
    Gradients reach the decoder through the encoder; none reaches the motion prior or ``f_posterior``.

    Args:
        model: its encoders are kept.
        f_posterior: q(f | x) of the batch, (B, f_dim).
        steps: of the drawn motions.
        decoded: numbers of the steps to decode, (N,) int64; all if not given.

    Returns:
        A scalar: summed over dimensions, mean over the batch.
    """
    f = f_posterior.sample().detach()
    with torch.no_grad():
        z = model.sample_motion(len(f), steps)
    # Autocast would lend later passes the prior's weights that it cast here without (pytorch/pytorch#112583).
    torch.clear_autocast_cache()
    read, _ = model.encode(model.decode(f, z if decoded is None else z[:, decoded]))
    variance = f_posterior.logvar.detach().exp().clamp_min(LEAST_VARIANCE)
    return 0.5 * ((read.mean - f).square() / variance).sum(dim=-1).mean()
