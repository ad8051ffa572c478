"""The video encoder of thesis 7.4.3 and 7.A.2: a 3D ResNet-18, one branch for the statics S, one for the dynamics P.

The residual stages are torchvision's r3d_18 (Hara et al. 2018; Tran et al. 2018) at a width of choice. After the third,
one branch merges time and convolves to S, in the shape of the transformer's features; the other goes through the fourth
stage and, without pooling, fully connected layers to P: averaging over places before P cost it half of what it knew of
motion (docs/lab-notes.md).

The thesis leaves open how time is merged (here by the mean) and the layers after it (two convolutions; one fully
connected layer for P). Where S is to have more places than the third stage leaves, its branch reads the second, too,
and all times of both. A stage that would shrink time below one frame does not: clips may be as short as two frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

from kineme.models.frame_autoencoder import Reduction
from kineme.models.layers import normalise


class VideoEncoder(nn.Module):
    """(B, T, C, H, W) in [0, 1] -> statics (B, latent_channels, H / reduction, W / reduction), P (B, dynamics_dim).

    Args:
        frame_size: H = W, pixels; a multiple of 8.
        clip_frames: T. What keeps times, P and S of finer places, takes clips of this length alone.
        width: channels of the first stage, doubled by each stage; 64 is r3d_18.
        latent_channels: of S.
        dynamics_dim: of P.
        channels: colour channels.
        reduction: side of a frame over that of S.
    """

    def __init__(
        self,
        frame_size: int,
        clip_frames: int,
        width: int,
        latent_channels: int,
        dynamics_dim: int,
        channels: int = 3,
        reduction: Reduction = 8,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(channels, width, kernel_size=(3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.first, self.second = _stage(width, width, 1), _stage(width, 2 * width, 2)
        self.third, self.fourth = _stage(2 * width, 4 * width, 2), _stage(4 * width, 8 * width, 2)
        self._fine = reduction < 8
        merged = 4 * width
        if self._fine:
            merged = 2 * width * _halved(clip_frames, 1) + 4 * width * _halved(clip_frames, 2)
        self.statics = nn.Sequential(
            nn.Conv2d(merged, 4 * width, kernel_size=3, padding=1, bias=False),
            normalise(4 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * width, latent_channels, kernel_size=3, padding=1),
        )
        self.dynamics = nn.Linear(8 * width * _halved(clip_frames, 3) * _halved(frame_size, 4) ** 2, dynamics_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """S and P of (B, T, C, H, W)."""
        device = frames.device.type
        lower, cpu = torch.is_autocast_enabled(device), device == "cpu"
        # On CPUs bf16 gets the gradients of weights wrong where a kernel of three meets two frames.
        with torch.autocast(device, enabled=lower and not (cpu and frames.shape[1] <= 4)):
            hidden = self.second(self.first(self.stem(frames.movedim(2, 1))))
        with torch.autocast(device, enabled=lower and not cpu):
            shared = self.third(hidden.float() if cpu else hidden)
            dynamics = self.dynamics(self.fourth(shared).flatten(1))
        if not self._fine:
            return self.statics(shared.mean(dim=2)), dynamics
        coarse = F.interpolate(shared.flatten(1, 2), hidden.shape[-2:])
        return self.statics(torch.cat([hidden.flatten(1, 2).to(coarse.dtype), coarse], dim=1)), dynamics


def _halved(size: int, times: int) -> int:
    for _ in range(times):
        size = (size + 1) // 2
    return size


def _stage(in_planes: int, planes: int, stride: int) -> nn.Sequential:
    """Two residual blocks; the first has the stride."""
    shortcut = None
    if stride != 1 or in_planes != planes:
        shortcut = nn.Sequential(
            nn.Conv3d(in_planes, planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm3d(planes)
        )
    return nn.Sequential(
        BasicBlock(in_planes, planes, Conv3DSimple, stride, shortcut), BasicBlock(planes, planes, Conv3DSimple)
    )
