"""What the benchmarks that compare variants with a plain one share."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch


def times_plain(name: str, plain: Sequence[float], own: Sequence[float]) -> dict[str, float]:
    """How many times as fast as the plain variant, by rounds: the median of their ratios, the least and the most."""
    ratios = [before / after for before, after in zip(plain, own, strict=True)]
    return {
        f"{name}/times_plain": median(ratios),
        f"{name}/times_plain_least": min(ratios),
        f"{name}/times_plain_most": max(ratios),
    }


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
