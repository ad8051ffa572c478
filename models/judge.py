"""The judge of the sequential VAE's paper (5.4): which labels a clip shows, as far as a trained classifier can tell.

    x_1..x_T -> the same convolutions for every frame -> T feature vectors -> LSTM -> one distribution over each label

The paper trains a network for each label; here one network has a head for each, on what they share. It says no more of
the layers than "a convolutional neural network on each of the frames" and "an RNN". Generated clips are its inputs:
their small errors must not decide, so training adds noise to the frames (`kineme.pipeline.tasks.judge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kineme.models.latent_decoders import SLOPE
from kineme.models.recurrent import run_lstm
from kineme.models.sequential_vae import down


@dataclass(frozen=True)
class JudgeConfig:
    """Sizes of the judge.

    Attributes:
        classes: of each label by name, how many values it has, at least 2.
        frame_size: height and width of a frame in pixels, a multiple of 16.
        width: channels of the first convolution; the other three have 2, 4 and 8 times as many.
        hidden_dim: length of a frame's features and hidden units of the LSTM.
        channels: colour channels of a frame.
    """

    classes: Mapping[str, int] = field(default_factory=dict)
    frame_size: int = 64
    width: int = 16
    hidden_dim: int = 128
    channels: int = 3

    def __post_init__(self) -> None:
        if self.frame_size < 16 or self.frame_size % 16:
            raise ValueError(f"frame_size is {self.frame_size}: it must be a multiple of 16, such as 64")
        few = {name: count for name, count in self.classes.items() if count < 2}
        if not self.classes or few:
            raise ValueError(f"classes are {dict(self.classes)}: at least one label, each of two values or more")


class Judge(nn.Module):
    """Clips (B, T, C, H, W) -> log-probabilities (B, number of values) of each label by name.

    Colours are in [0, 1], but for the noise of training.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.frame_network = nn.Sequential(
            down(config.channels, w),
            down(w, 2 * w),
            down(2 * w, 4 * w),
            down(4 * w, 8 * w),
            nn.Flatten(),
            nn.Linear(8 * w * (config.frame_size // 16) ** 2, config.hidden_dim),
            nn.LeakyReLU(SLOPE),
        )
        self.lstm = nn.LSTM(config.hidden_dim, config.hidden_dim, batch_first=True)
        # A list, as a label may have a name that no module can have.
        self.heads = nn.ModuleList(nn.Linear(config.hidden_dim, count) for count in config.classes.values())
        self.to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of every label, fp32; those of a label sum to one in probability."""
        images = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = self.frame_network(images).reshape(*frames.shape[:2], -1)
        last = run_lstm(self.lstm, features)[0][:, -1]
        return {
            name: head(last).float().log_softmax(dim=-1)
            for name, head in zip(self.config.classes, self.heads, strict=True)
        }


def judge_loss(judged: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy, summed over the labels and averaged over the batch, and the accuracy of each label.

    Args:
        judged: log-probabilities (B, values) of each label.
        targets: the true values, (B,) int64 of each label.

    Returns:
        Scalars: ``loss`` and ``accuracy/LABEL``.
    """
    losses = [F.nll_loss(judged[name], target) for name, target in targets.items()]
    accuracies = {
        f"accuracy/{name}": (judged[name].argmax(dim=-1) == target).float().mean() for name, target in targets.items()
    }
    return {"loss": torch.stack(losses).sum(), **accuracies}
