"""An objective of ours for the sequential VAE: content and motion are each read from a view that hides the other.

Nothing in the ELBO tells f from z: what stays the same in a clip may as well be carried by every z_t, at next to no
cost to the bound, and what a clip does by f. Here the two encoders see different views of a clip x, and the decoder
must draw x itself:

    L = E[-log p(x | z, f)] + beta KL(q(f | v_f(x)) || p(f)) + beta_z sum_t E[KL(q(z_t | v_z(x)_t) || p(z_t | z_<t))]

- v_z(x), :func:`recoloured`: a random map of the colours, the same for all frames of a clip. So colours can be drawn
  from f alone.
- v_f(x), :func:`rearranged`: some or all frames in random order, the whole clip mirrored or not. So when something
  moves, and to which side, can be drawn from z alone.

What both views show, such as the shape of hair or whether somebody walks, is paid for twice where both carry it, and
beta_z above beta pushes it out of z; but f then gladly takes what it can of the motion, too. Once the model can draw,
the views are at some steps not made of x but of two clips that it draws itself: v_z(x) of :func:`performed_by_another`,
the motion of x with the content of another clip, and v_f(x) of the content of x with the motion of another one. Still
x is to be drawn, so neither half can tell what the decoder takes from the other. It is the pairs of clips, one motion
by two characters and one character in two motions, that no unlabelled set has.

Once trained, both encoders read a clip as it is; its true colours are close to some of v_z's maps, not one of them. As
neither posterior sees all of x, L is with both weights at 1 the negative of a bound on log p(x), a looser one than the
ELBO.

Views that hide one half are those of Lorenz et al. (CVPR 2019: parts of objects in single images). C-DSVAE (Bai et al.,
NeurIPS 2021) has such views of clips, too, as positives of contrastive estimates of mutual information that it adds to
the ELBO of whole clips; here they take the place of the clip, and nothing is estimated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kineme.models.frame_choice import random_frames
from kineme.models.sequential_vae import SequentialVAE

STRENGTH = 1.5


def recoloured(frames: Tensor, strength: float = STRENGTH) -> Tensor:
    """v_z: every colour replaced by another one, each clip by a random map of its own.

    The map is sin(A c)^2 of a colour c in [0, 1]^C, elementwise, with normal entries of A: smooth, so that shapes stay,
    and black stays black.

    Args:
        frames: clips (B, T, C, H, W) in [0, 1].
        strength: standard deviation of the entries of A; more throws like colours farther apart.

    Returns:
        Clips of the same shape, in [0, 1].
    """
    clips, _, channels = frames.shape[:3]
    maps = strength * torch.randn(clips, channels, channels, device=frames.device)
    # Autocast's bf16 would shift colours by up to a fortieth.
    with torch.autocast(frames.device.type, enabled=False):
        return torch.einsum("bdc,btchw->btdhw", maps, frames.float()).sin().square()


def rearranged(frames: Tensor, count: int | None = None) -> Tensor:
    """v_f: ``count`` frames of each clip (B, T, C, H, W) in random order, mirrored in about every second clip.

    Args:
        frames: the clips.
        count: frames that are kept of each, any of them; all if not given.

    Returns:
        Clips (B, count, C, H, W).
    """
    shuffled = random_frames(frames, count)
    mirrored = torch.rand(len(frames), 1, 1, 1, 1, device=frames.device) < 0.5
    return torch.where(mirrored, shuffled.flip(-1), shuffled)


@torch.no_grad()
def performed_by_another(model: SequentialVAE, content_view: Tensor, motion_view: Tensor) -> Tensor:
    """The motion of each clip as the model draws it with the content of the next clip of the batch.

    Args:
        model: draws f, z and their frames as it is now; no gradient reaches it. In training mode the running
            statistics of its norms count what passes here, too.
        content_view: what f is read from, (B, T', C, H, W).
        motion_view: what z is read from, (B, T, C, H, W).

    Returns:
        Clips of the shape of ``motion_view``; a batch of one clip has no other content than its own.
    """
    f, z = model.encode(content_view, motion_view)
    drawn = model.decode(f.sample().roll(-1, dims=0), z.sample())
    # Autocast would lend the pass with gradients the weights that it cast here without (pytorch/pytorch#112583).
    torch.clear_autocast_cache()
    return drawn
