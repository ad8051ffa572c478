"""An objective of our own for P: it must tell a few motions that between them explain every pixel.

A linear map of P gives, for each step t -> t+1, maps of K layers (translations, or affine maps), to which a layer that
stands still may be added. Frame x_a, warped along the composed maps of each layer, is compared with a later frame x_b
in small windows, and each place counts with the layer that explains it best:

    L_motion = - tau sum_u log 1/K sum_k exp(-e_k(u) / tau),   e_k = box * (x_a o A_k - x_b)^2,

the negative log-likelihood of a mixture of motions (Jepson & Black 1993) on blurred, grey frames, photometric as in
unsupervised optical flow (Yu et al. 2016). Nothing in it depends on where a thing is or what it looks like: P is asked
for displacements and nothing else. Frames more than a step apart bind each layer to the same thing from step to step.
P's head is linear, so that near vectors are near motions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MotionLayers(nn.Module):
    """The linear map from P to the motions of K layers.

    Args:
        dynamics_dim: of P.
        clip_frames: T of the clips that P describes.
        frame_size: H = W, pixels.
        layers: K.
        affine: maps of six parameters each; else translations.
    """

    def __init__(self, dynamics_dim: int, clip_frames: int, frame_size: int, layers: int, affine: bool = False) -> None:
        super().__init__()
        self._shape = (clip_frames - 1, layers, 6 if affine else 2)
        # The head gives pixels: a unit of 1 would be half of the frame.
        self._unit = 2 / frame_size
        self.to_maps = nn.Linear(dynamics_dim, math.prod(self._shape))
        # Larger than torch's start, so that the layers differ from the first step on.
        nn.init.normal_(self.to_maps.weight, std=0.05)

    def forward(self, dynamics: Tensor) -> Tensor:
        """P (B, dynamics_dim) -> maps (B, T-1, K, 3, 3): where in frame t a place of frame t+1 was, in [-1, 1]."""
        numbers = self.to_maps(dynamics.float()).view(-1, *self._shape) * self._unit
        maps = torch.eye(3, device=numbers.device).repeat(*numbers.shape[:3], 1, 1)
        if numbers.shape[-1] == 6:
            maps[..., :2, :] += numbers.view(*numbers.shape[:-1], 2, 3)
        else:
            # The shift from t to t+1, hence the sign.
            maps[..., :2, 2] -= numbers
        return maps


def motion_loss(
    maps: Tensor,
    frames: Tensor,
    starts: Tensor,
    ends: Tensor,
    *,
    still: bool = False,
    blur: int = 2,
    window: int = 5,
    temperature: float = 0.003,
) -> Tensor:
    """L_motion: sum over places, mean over pairs of frames.

    Args:
        maps: of `MotionLayers`, (B, T-1, K, 3, 3).
        frames: the clips, (B, T, C, H, W) in [0, 1].
        starts: a, indices of the first frames of n pairs a clip, (B, n).
        ends: b > a, likewise.
        still: add a layer that does not move.
        blur: how often the frames are averaged over 3 x 3 pixels before they are compared.
        window: side of the windows, pixels; odd.
        temperature: tau, in squared grey values.
    """
    if still:
        identity = torch.eye(3, device=maps.device).expand(*maps.shape[:2], 1, 3, 3)
        maps = torch.cat([maps, identity], dim=2)
    grey = frames.float().mean(dim=2)
    for _ in range(blur):
        grey = F.avg_pool2d(grey, 3, stride=1, padding=1)
    clips = torch.arange(len(frames), device=frames.device)[:, None]
    sources, targets = (grey[clips, numbers].flatten(0, 1).unsqueeze(1) for numbers in (starts, ends))
    # Autocast would multiply maps in bf16, which is out by a tenth of a pixel.
    with torch.autocast(maps.device.type, enabled=False):
        pairs = compose(maps, starts, ends)[..., :2, :].flatten(0, 1)
        layers = pairs.shape[1]
        grid = F.affine_grid(pairs.flatten(0, 1), [len(sources) * layers, 1, *grey.shape[-2:]], align_corners=False)
    warped = F.grid_sample(sources.repeat_interleave(layers, dim=0), grid, align_corners=False)
    errors = (warped.view(-1, layers, *grey.shape[-2:]) - targets).square()
    errors = F.avg_pool2d(errors, window, stride=1, padding=window // 2)
    explained = torch.logsumexp(-errors / temperature, dim=1) - math.log(layers)
    return -temperature * explained.sum(dim=(1, 2)).mean()


def compose(maps: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Maps of steps (B, T-1, K, 3, 3) -> of pairs a < b, (B, n, K, 3, 3): those of steps a..b-1 multiplied in turn."""
    clips = torch.arange(len(maps), device=maps.device)[:, None]
    identity = torch.eye(3, device=maps.device)
    product = identity.expand(*starts.shape, maps.shape[2], 3, 3)
    for offset in range(int((ends - starts).max())):
        step = starts + offset
        taken = maps[clips, step.clamp(max=maps.shape[1] - 1)]
        inside = (step < ends)[..., None, None, None]
        product = product @ torch.where(inside, taken, identity)
    return product


def draw_pairs(
    clips: int, frames: int, pairs: int, *, min_gap: int = 1, max_gap: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Random frames a < b, ``min_gap`` to ``max_gap`` apart as far as clips go: indices, two (clips, pairs) int64.

    Every gap is as likely, and every start of a gap; the pairs of a clip are spread over it, so that as many pairs of
    neighbours as there are steps are all the steps.
    """
    longest = min(max_gap, frames - 1)
    gaps = torch.randint(min(min_gap, longest), longest + 1, (clips, pairs), device=device)
    places = (torch.rand(clips, pairs, device=device) + torch.arange(pairs, device=device)) / pairs
    starts = (places * (frames - gaps)).long().minimum(frames - gaps - 1)
    return starts, starts + gaps
