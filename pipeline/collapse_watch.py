"""Tells when a representation has collapsed, from ranks, variances and a KL divergence beside the losses of a task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MIN_RANK = 1.5
MIN_VARIANCE = 1e-8
MIN_KL = 0.01
"""Nats a frame, of q(z_t) from its prior."""

_SYMPTOMS = {
    "rank": (MIN_RANK, "of {}, it varies along one direction at most, so it tells clips apart by one number"),
    "variance": (MIN_VARIANCE, "of {}, it is the same for every clip, so it tells none apart"),
    "kl": (
        MIN_KL,
        "of z, it says next to nothing, so all futures drawn are alike; let objective.kl rise (kind: monotonic), feed "
        "the truth at first (objective.teacher_forcing), or take a kernel-predictor with model.latent_dim",
    ),
}


class CollapseWatch:
    """Means over an epoch of the values named rank/NAME and variance/NAME, and of kl, which is that of z.

    Those that are not finite are left out.
    """

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
            mean = float(total / count)
            if mean < least:
                lines.append(f"collapse: {name} is {mean:.3g}, under {least:g}: {meaning.format(what)}")
        self._sums = {}
        return lines
