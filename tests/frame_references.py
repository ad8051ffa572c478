"""Random frames, and errors of frames, (C, H, W) each in [0, 1], by plain loops."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def random_frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def slow_psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((a - b) ** 2))
    return 100.0 if error == 0 else min(100.0, 10 * math.log10(1 / error))


def slow_psnr_channelwise(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([slow_psnr(one, other) for one, other in zip(a, b, strict=True)]))


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """One window after the other, (2 ma mb + c1) (2 sab + c2) / (ma^2 + mb^2 + c1) (sa^2 + sb^2 + c2)."""
    place = np.arange(11) - 5
    line = np.exp(-(place**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for one, other in zip(a, b, strict=True):
        one, other = (np.pad(channel, 5, mode="reflect") for channel in (one, other))
        for y in range(a.shape[1]):
            for x in range(a.shape[2]):
                p, q = (channel[y : y + 11, x : x + 11] for channel in (one, other))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                both = (window * (p - mp) * (q - mq)).sum()
                c1, c2 = 0.01**2, 0.03**2
                values.append((2 * mp * mq + c1) * (2 * both + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


def slow_sum(a: np.ndarray, b: np.ndarray, power: int) -> float:
    channels, height, width = a.shape
    total = 0.0
    for y in range(height):
        for x in range(width):
            total += sum(abs(float(a[c, y, x]) - float(b[c, y, x])) ** power for c in range(channels)) / channels
    return total


SLOW = {
    "psnr": slow_psnr,
    "psnr_channelwise": slow_psnr_channelwise,
    "ssim": slow_ssim,
    "mse": lambda a, b: slow_sum(a, b, 2),
    "mae": lambda a, b: slow_sum(a, b, 1),
}
