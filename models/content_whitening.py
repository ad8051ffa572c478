"""How much two contents of a sequential VAE differ, measured against what one content varies by with its motions.

What f tells of a clip is of unequal size: hair may fill ten of its dimensions and skin two, and a little of what the
clip does is in it as well. The model can say itself which differences matter. It draws a content with two motions and
reads f from either clip: what differs then is not content.

This is within-class covariance normalisation (Hatch, Kajarekar & Stolcke, Interspeech 2006: voices of known speakers),
with classes that need no label, as the model makes them up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kineme.models.sequential_vae import SequentialVAE

CONTENTS = 64
MOTIONS = 2


@torch.no_grad()
def content_whitening(model: SequentialVAE, steps: int, *, ridge: float = 0.01, seed: int = 0) -> Tensor:
    """W^(-1/2) of the covariance W of f within a content: in ``f @ content_whitening(...)`` it is about the identity.

    Contents are drawn from N(0, I) and two motions for each from their prior, so no data are needed; f is the mean of
    the posterior for the clip that the decoder draws of both.

    Args:
        model: in evaluation mode.
        steps: frames of the drawn clips.
        ridge: added to the variances; the prior's are 1. It bounds how far a dimension that never varies is stretched,
            of which there are some: fewer contents are drawn than f may have dimensions.
        seed: of the draws. They are made on the CPU, so that every device gives the same matrix.

    Returns:
        (f_dim, f_dim), symmetric.
    """
    generator = torch.Generator().manual_seed(seed)
    weight, config = model.f_head.weight, model.config
    f = torch.randn(CONTENTS, config.f_dim, generator=generator).to(weight)
    noise = torch.randn(MOTIONS, CONTENTS, steps, config.z_dim, generator=generator).to(weight)
    clips = (model.decode(f, model.sample_motion(CONTENTS, steps, each)) for each in noise)
    read = torch.stack([model.encode(each)[0].mean for each in clips]).cpu().double()
    differences = (read - read.mean(dim=0)).flatten(0, 1)
    within = differences.T @ differences / (CONTENTS * (MOTIONS - 1))
    variances, axes = torch.linalg.eigh(within)
    # Rounding may leave the least ones below zero.
    whitening: Tensor = (axes / (variances.clamp_min(0) + ridge).sqrt()) @ axes.T
    return whitening.to(weight)
