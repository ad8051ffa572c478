"""What a latent traversal is to the service: a few numbers of a clip's code that can be moved, and the clip redrawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kineme.retrieval.vectors import Frames

Part = Literal["appearance", "motion"]
"""What a number of a code belongs to: what a clip shows, or how it moves."""


@dataclass(frozen=True)
class LatentDim:
    """One number of a code.

    Attributes:
        name: distinct in a traversal, such as "f 12".
        part: whether it belongs to what a clip shows or to how it moves.
        spread: its standard deviation over the clips of the library: the unit in which it is moved.
    """

    name: str
    part: Part
    spread: float


class Traversal(Protocol):
    """The codes of a network with a decoder, ready to be moved. Safe to share between threads."""

    @property
    def dims(self) -> Sequence[LatentDim]:
        """The dimensions that differ most between clips, appearance first, the most used of each part first."""

    @property
    def clips(self) -> int:
        """Over how many clips of the library they were found, and their spreads measured."""

    def draw(self, frames: Frames, moves: Mapping[str, float]) -> Frames:
        """A clip redrawn with its code moved.

        Args:
            frames: of the clip, (T, H, W, 3) uint8.
            moves: name of a dimension -> how far, in its spreads; the others stay.

        Returns:
            (T', S, S, 3) uint8: as many frames as the network takes, at its size.

        Raises:
            RetrievalError: no such dimension, or a clip that is too short.
        """
