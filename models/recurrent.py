"""LSTMs that run the same wherever they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def run_lstm(
    lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """An LSTM in fp32 also under autocast: CPUs without bf16 arithmetic have no bf16 kernel for it, and raise."""
    with torch.autocast(inputs.device.type, enabled=False):
        outputs, last = lstm(inputs.float(), state)
    return outputs, last
