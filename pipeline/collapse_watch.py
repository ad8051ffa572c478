"""Tells when a representation has collapsed, from the ranks and variances that a task returns beside its losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MIN_RANK = 1.5
MIN_VARIANCE = 1e-8

_SYMPTOMS = {
    "rank": (MIN_RANK, "it varies along one direction at most, so it tells clips apart by one number"),
    "variance": (MIN_VARIANCE, "it is the same for every clip, so it tells none apart"),
}


class CollapseWatch:
    """Means over an epoch of the values named rank/NAME and variance/NAME; those that are not finite are left out."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def note(self, parts: Mapping[str, Tensor]) -> None:
        """Take in what a step returned. Nothing is read from the device."""
        for name, value in parts.items():
            if name.partition("/")[0] in _SYMPTOMS:
                value = value.detach().float()
                finite = value.isfinite()
                total, count = self._sums.get(name, (torch.zeros_like(value), torch.zeros_like(value)))
                self._sums[name] = (total + torch.where(finite, value, 0), count + finite)

    def take(self) -> list[str]:
        """One line for each mean that is too low; then begins anew."""
        lines = []
        for name, (total, count) in sorted(self._sums.items()):
            kind, _, what = name.partition("/")
            least, meaning = _SYMPTOMS[kind]
            # Of no finite value nothing is known: 0 / 0 is under no bound.
            if float(total / count) < least:
                lines.append(f"collapse: {name} is {float(total / count):.3g}, under {least:g}: of {what}, {meaning}")
        self._sums = {}
        return lines
