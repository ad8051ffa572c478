"""Which clips are held out of a split: chosen by the bytes of their video, so that its clips lie on one side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kineme.shards.errors import ANEW, DataError

# As many hex digits as a float holds exactly.
_DIGITS = 13


@dataclass(frozen=True)
class HoldOut:
    """Divides the clips of a split in two.

    A clip's key begins with the sha256 of its video: read as a number in [0, 1), it is below ``share`` for those that
    are held out. So all clips of a video lie on one side, whoever reads them, and stay there when the folder grows.

    Attributes:
        share: of the videos, in [0, 1); about so many, as their sha256 falls.
        taken: whether the clips that are held out are meant; else the others.
    """

    share: float = 0.0
    taken: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise DataError(f"held_out {self.share}: a share from 0 to below 1; change data.held_out in the recipe")

    def accepts(self, key: str) -> bool:
        """Whether the clip of this key is meant.

        Raises:
            DataError: the key does not begin with a sha256.
        """
        if not self.share:
            return not self.taken
        try:
            below = int(key[:_DIGITS], 16) < self.share * 16.0**_DIGITS
        except ValueError as error:
            raise DataError(f"clip {key}: its key begins with no sha256, so it was altered; {ANEW}") from error
        return below == self.taken

    def nothing_left(self, shards: Path, clips: int) -> DataError:
        """The error to raise where none of so many ``clips`` is meant."""
        if self.taken:
            return DataError(
                f"{shards}: held_out {self.share:g} holds out none of {clips} clips; raise data.held_out in the "
                "recipe, or set it to 0 to train without validation"
            )
        return DataError(
            f"{shards}: held_out {self.share:g} leaves none of {clips} clips; lower data.held_out in the recipe"
        )
