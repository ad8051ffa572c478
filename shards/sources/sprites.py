"""The Sprites set of Li and Mandt (2018), composed from the Liberated Pixel Cup sheets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.sample import Frames, Label
from kineme.shards.sampling import TimedFrame
from kineme.shards.sources.base import Defaults, FetchOptions, SourceItem, Stamp, Tracks, require_folder
from kineme.shards.sources.fetching import fetch_files
from kineme.shards.sources.openers import stamp_of

CELL = 64
SHEETS = 6
FPS = 8.0
"""Nominal: the sheets carry no rate."""
LAYERS = ("body", "bottomwear", "topwear", "hair")
TRAINING_CHARACTERS = 1000

_SHOES = "shoes/1.png"
_SHEET_SIZE = (832, 1344)  # width, height
_COLUMNS = {
    "spellcard": (0, 1, 2, 3, 4, 5, 4, 6),
    "walk": (8, 1, 2, 3, 4, 5, 6, 7),
    "slash": (0, 1, 2, 3, 4, 5, 4, 0),
}
_ROWS = {"spellcard": (1, 2, 3), "walk": (9, 10, 11), "slash": (13, 14, 15)}
_VIEWS = ("left", "front", "right")
ACTIONS = {
    f"{motion} {view}": (row, _COLUMNS[motion])
    for motion, rows in _ROWS.items()
    for view, row in zip(_VIEWS, rows, strict=True)
}
"""Row and columns of the 8 frames, in cells, by action: 9 of them."""


@dataclass(frozen=True)
class SpriteSequence:
    """One character doing one action: 8 frames of 64 x 64.

    Attributes:
        root: folder of the sheets.
        sheets: number of the sheet of each of :data:`LAYERS`.
        action: a key of :data:`ACTIONS`.
    """

    root: Path
    sheets: tuple[int, ...]
    action: str

    @property
    def name(self) -> str:
        """Names the sequence: ``body0-bottomwear3-topwear5-hair1/walk-left``."""
        character = "-".join(f"{layer}{sheet}" for layer, sheet in zip(LAYERS, self.sheets, strict=True))
        return f"{character}/{self.action.replace(' ', '-')}"

    def stamp(self) -> Stamp:
        """Of the sheets it is made of."""
        stamps = [_sheet_stamp(path) for path in self._paths()]
        return Stamp(sum(stamp.bytes for stamp in stamps), max(stamp.modified_ns for stamp in stamps))

    def sha256(self) -> str:
        """Of the name and the composed frames: sequences that look alike stay two."""
        return hashlib.sha256(self.name.encode() + self.compose().tobytes()).hexdigest()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """Composing."""
        return (lambda: Footage(FPS, self._frames()),)

    def tracks(self) -> Tracks:
        """None."""
        return Tracks()

    def compose(self) -> Frames:
        """The frames, (8, 64, 64, 3) uint8: body, bottomwear, topwear, hair, shoes over each other on black."""
        strip = Image.new("RGBA", (8 * CELL, CELL), (0, 0, 0, 255))
        for path in self._paths():
            strip.alpha_composite(_strip(path, self.action))
        cells = np.asarray(strip.convert("RGB")).reshape(CELL, 8, CELL, 3)
        return np.ascontiguousarray(cells.transpose(1, 0, 2, 3))

    def _frames(self) -> Iterator[TimedFrame]:
        for number, image in enumerate(self.compose()):
            yield TimedFrame(number / FPS, image)

    def _paths(self) -> list[Path]:
        layers = [self.root / layer / f"{sheet}.png" for layer, sheet in zip(LAYERS, self.sheets, strict=True)]
        return [*layers, self.root / _SHOES]


@lru_cache(maxsize=4 * SHEETS * len(ACTIONS) + len(ACTIONS))
def _strip(path: Path, action: str) -> Image.Image:
    """The 8 cells of an action side by side, RGBA."""
    row, columns = ACTIONS[action]
    strip = Image.new("RGBA", (8 * CELL, CELL))
    sheet = _sheet(path)
    for number, column in enumerate(columns):
        box = (column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)
        strip.paste(sheet.crop(box), (number * CELL, 0))
    return strip


@lru_cache(maxsize=4 * SHEETS + 1)
def _sheet(path: Path) -> Image.Image:
    with Image.open(path) as image:
        if image.size != _SHEET_SIZE:
            raise UnreadableError(f"sheet {path.name} is {image.size} px, {_SHEET_SIZE} are needed")
        return image.convert("RGBA")


@lru_cache(maxsize=4 * SHEETS + 1)
def _sheet_stamp(path: Path) -> Stamp:
    return stamp_of([path])


@dataclass(frozen=True)
class SpritesSource:
    """1296 characters x 9 actions x 8 frames of 64 x 64: 11,664 sequences.

    Characters are numbered in the order of ``itertools.product`` over body, bottomwear, topwear, hair, the last
    fastest: 216 body + 36 bottomwear + 6 topwear + hair. Official split: the first 1000 of
    ``RandomState(423).permutation(1296)`` are train.
    """

    name: str = "sprites"
    description: str = (
        "1296 drawn characters x 9 actions, 8 frames of 64x64 (Li and Mandt 2018), composed from their sheets"
    )
    licence: str = "CC-BY-SA 3.0 or GPL 3.0; artists in LPC_AUTHORS.txt"
    origin: str = (
        "github.com/YingzhenLi/Sprites: its sheets as body/0.png to 5.png, likewise bottomwear, topwear and hair, and "
        "shoes/1.png"
    )
    defaults: Defaults = Defaults(clip_frames=8)
    repeats: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def present(self, root: Path) -> bool:
        """Whether all 25 sheets are there."""
        return not _missing(root)

    def items(self, root: Path) -> list[SourceItem]:
        """All sequences, character by character. Raises DataError if a sheet is missing."""
        require_folder(root)
        missing = _missing(root)
        if missing:
            raise DataError(f"{root}: sprites sheet {missing[0]} is missing ({len(missing)} of 25 are); {self.origin}")
        order = np.random.RandomState(423).permutation(SHEETS ** len(LAYERS))
        train = set(order[:TRAINING_CHARACTERS].tolist())
        return [
            _item(root.absolute(), character, sheets, action, "train" if character in train else "test")
            for character, sheets in enumerate(product(range(SHEETS), repeat=4))
            for action in ACTIONS
        ]

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Download the sheets. Raises DataError where that fails."""
        return fetch_files(self.name, to, options.watcher)


def _item(root: Path, character: int, sheets: tuple[int, ...], action: str, split: str) -> SourceItem:
    sequence = SpriteSequence(root, sheets, action)
    skin, pants, top, hair = sheets
    labels: dict[str, Label] = {
        "character": character,
        "skin": skin,
        "pants": pants,
        "top": top,
        "hair": hair,
        "action": action,
    }
    return SourceItem(sequence.name, sequence, labels, split)


def _missing(root: Path) -> list[str]:
    names = [f"{layer}/{sheet}.png" for layer in LAYERS for sheet in range(SHEETS)]
    return [name for name in [*names, _SHOES] if not (root / name).is_file()]
