"""Atari 2600 episodes recorded from an emulator: flicker removed, luminance, 84 x 84.

The preprocessing is that of the fully convolutional VAE text (4.1.1), which follows Mnih et al. (2015): the console
draws some objects in every other frame only, so each frame becomes the maximum of itself and the one before, channel by
channel; then the luminance 0.2126 R + 0.7152 G + 0.0722 B (its equation 4.1; the weights of Rec. 709, applied to the
values as stored, gamma and all, as is usual); then 84 x 84. The text says "cropped" there and names no place. Mnih et
al. rescale the whole screen, and figure 4.2 speaks of paddle and score of Pong both, so that is done unless the option
``crop`` says otherwise.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError, open_media
from kineme.shards.sample import Frames, Label
from kineme.shards.sampling import TimedFrame
from kineme.shards.sources.base import Defaults, FetchOptions, SourceItem, Stamp, Tracks, require_folder
from kineme.shards.sources.folder import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from kineme.shards.sources.listing import files_under, source_name
from kineme.shards.sources.openers import ImageFolder, Missing, VideoFile

SCREEN = (160, 210)
"""Width and height of the console's picture."""

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of R, G and B (Rec. 709)."""

LOSSLESS_IMAGES = frozenset((".png", ".gif", ".bmp"))
LOSSLESS_CODECS = frozenset(
    ("ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "bmp", "gif", "apng", "qtrle", "zmbv")
)
"""Codecs that cannot lose anything. H.264 and VP9 can be told not to, but the file does not say that they were."""

Box = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""


@dataclass(frozen=True, slots=True)
class Episode:
    """The frames of an episode, as the module describes: grey, in three equal channels, squares of ``side`` pixels.

    Attributes:
        frames: reads the recording.
        crop: part of the screen that is taken; None for all of it.
        side: of the square; what is taken is resized to it, whatever its shape.
    """

    frames: VideoFile | ImageFolder
    crop: Box | None
    side: int

    def stamp(self) -> Stamp:
        """Of the recording."""
        return self.frames.stamp()

    def sha256(self) -> str:
        """Of the recording."""
        return self.frames.sha256()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        """The recording's own, followed by the preprocessing. UnreadableError also if ``crop`` leaves the screen."""
        return tuple(partial(self._read, reader) for reader in self.frames.readers())

    def tracks(self) -> Tracks:
        """None."""
        return Tracks()

    def _read(self, reader: Callable[[], Footage]) -> Footage:
        footage = reader()
        return Footage(footage.fps, self._process(footage.frames))

    def _process(self, frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
        before: Frames | None = None
        for frame in frames:
            image = frame.image if before is None else np.maximum(frame.image, before)
            before = frame.image
            yield TimedFrame(frame.start_s, _to_square(luminance(image), self.crop, self.side))


def luminance(image: Frames) -> NDArray[np.uint8]:
    """Rec. 709 luminance of gamma-coded values, (H, W, 3) uint8 to (H, W) uint8, rounded."""
    return np.asarray(np.rint(image @ np.array(LUMINANCE)), np.uint8)


def _to_square(grey: NDArray[np.uint8], crop: Box | None, side: int) -> Frames:
    height, width = grey.shape
    if crop is not None:
        top, left, rows, columns = crop
        if top + rows > height or left + columns > width:
            raise UnreadableError(f"its screen is {width}x{height} px, too small for crop={','.join(map(str, crop))}")
        grey = grey[top : top + rows, left : left + columns]
    if grey.shape != (side, side):
        grey = np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC))
    return np.repeat(grey[..., None], 3, axis=-1)


@dataclass(frozen=True)
class AtariSource:
    """Episodes as ``GAME/EPISODE/`` with numbered images, or as videos ``GAME/.../EPISODE.gif``; no fixed split.

    Labels: ``game`` (the first folder), ``episode`` (what follows, without suffix), ``lossy``. PNG, GIF and BMP, and
    videos of lossless codecs, are what the frames should be kept in: JPEG and most videos leave ripples around every
    sprite (figure 4.2 of the text), which flicker from frame to frame, and of which the maximum picks the brightest.
    Such episodes are taken all the same, with ``lossy`` true and one warning.
    """

    name: str = "atari"
    description: str = "recorded episodes of Atari 2600 games: flicker removed, luminance, 84x84"
    licence: str = "that of your recordings"
    origin: str = "frames from an emulator (Stella, ALE), as GAME/EPISODE/0001.png ... or GAME/EPISODE.gif"
    repeats: bool = True
    options: Mapping[str, str] = field(
        default_factory=lambda: {
            "crop": "top,left,height,width in pixels: the part of the screen to take, 34,0,160,160 for Pong's field "
            "(default all of it)",
            "frame_px": "side of the frames, and of the stored ones unless --size says more (default 84)",
        }
    )
    crop: str = ""
    frame_px: str = "84"

    def __post_init__(self) -> None:
        if not self.frame_px.isdecimal() or not 8 <= int(self.frame_px) <= 1024:
            raise DataError(f"--option frame_px={self.frame_px}: a whole number of pixels from 8 to 1024 is needed")
        _box(self.crop)

    @property
    def defaults(self) -> Defaults:
        """Clips of 16 frames of ``frame_px``."""
        return Defaults(size=int(self.frame_px))

    def present(self, root: Path) -> bool:
        """Whether the first pictures there have the size of an Atari's screen."""
        if not root.is_dir():
            return False
        first = next(iter(files_under(root, LOSSLESS_IMAGES)), None)
        try:
            return first is not None and _picture(first)[0] == SCREEN
        except (OSError, SyntaxError, ValueError):
            return False

    def items(self, root: Path) -> list[SourceItem]:
        """Every episode by name; what lies in no folder named after a game is rejected.

        Warns once (UserWarning) if any was compressed with losses.

        Raises:
            DataError: no episode is there.
        """
        require_folder(root)
        root = root.absolute()
        items = sorted(self._list(root), key=lambda item: item.source)
        if not any(item.labels for item in items):
            raise DataError(f"{root}: no episode is there; {self.origin}")
        lossy = [item.source for item in items if item.labels.get("lossy")]
        if lossy:
            warnings.warn(
                f"{lossy[0]} {f'and {len(lossy) - 1} more are' if len(lossy) > 1 else 'is'} not known to be lossless: "
                "ripples around sprites flicker, and the maximum of two frames gathers them; record PNG or GIF",
                UserWarning,
                stacklevel=2,
            )
        return items

    def attachments(self, root: Path) -> Mapping[str, bytes]:
        """None."""
        return {}

    def fetch(self, to: Path, options: FetchOptions) -> str:
        """Raises DataError: these are the user's own recordings."""
        raise DataError(f"atari: these are your own recordings, nothing to fetch; put under {to} {self.origin}")

    def _list(self, root: Path) -> Iterator[SourceItem]:
        files = files_under(root, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        for folder, group in groupby(sorted(files, key=lambda path: path.parent), lambda path: path.parent):
            paths = list(group)
            gifs = [path for path in paths if path.suffix.lower() == ".gif"]
            stills = set(gifs) if len(gifs) > 1 and not _moves(gifs[0]) else set()
            images = _numbered([path for path in paths if path in stills or path.suffix.lower() in IMAGE_SUFFIXES])
            if len(images) > 1:
                lossy = any(path.suffix.lower() not in LOSSLESS_IMAGES for path in images)
                name = source_name(folder, root)
                yield self._item(name, name.split("/") if folder != root else [], ImageFolder(images), lossy)
            for path in paths:
                if path.suffix.lower() in VIDEO_SUFFIXES and path not in stills:
                    name = source_name(path, root)
                    parts = name[: -len(path.suffix)].split("/")
                    yield self._item(name, parts if len(parts) > 1 else [], VideoFile(path), _loses(path))

    def _item(self, name: str, parts: Sequence[str], frames: VideoFile | ImageFolder, lossy: bool) -> SourceItem:
        if not parts:
            return SourceItem(name, Missing("it lies in no folder named after its game"))
        labels: dict[str, Label] = {"game": parts[0], "episode": "/".join(parts[1:]) or parts[0], "lossy": lossy}
        return SourceItem(name, Episode(frames, _box(self.crop), int(self.frame_px)), labels)


def _numbered(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those with a number in their name, by their numbers: 2 before 10."""
    numbers = {path: [int(digits) for digits in re.findall(r"\d+", path.stem)] for path in paths}
    return tuple(sorted((path for path in numbers if numbers[path]), key=lambda path: (numbers[path], path.name)))


def _picture(path: Path) -> tuple[tuple[int, int], bool]:
    """Width and height of a picture, and whether it holds several; its header alone is read."""
    with Image.open(path) as image:
        return image.size, bool(getattr(image, "is_animated", False))


def _moves(gif: Path) -> bool:
    """Whether a GIF is a whole episode rather than one frame; what cannot be read is left to its reader to refuse."""
    try:
        return _picture(gif)[1]
    except (OSError, SyntaxError, ValueError):
        return True


def _loses(path: Path) -> bool:
    """Whether a video may have been compressed with losses, by its header; one that cannot be read loses nothing."""
    import av

    try:
        with open_media(path) as container:
            stream = container.streams.best("video")
            return stream is not None and getattr(stream.codec_context, "name", None) not in LOSSLESS_CODECS
    except (av.FFmpegError, OSError):
        return False


def _box(text: str) -> Box | None:
    """``top,left,height,width``; None for nothing."""
    if not text:
        return None
    numbers = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if len(numbers) != 4 or text.count(",") != 3 or not (numbers[2] and numbers[3]):
        raise DataError(f"--option crop={text}: top,left,height,width in pixels is needed, such as 34,0,160,160")
    top, left, height, width = numbers
    return top, left, height, width
