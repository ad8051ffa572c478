"""Clips as pictures: film strips with captions, and the contact sheet of a query; how pictures are written."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kineme.pipeline.errors import RunError
from kineme.shards.sample import Frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME_HEIGHT = 96
_GAP = 3
_MARGIN = 16
_ROW_GAP = 14
_CAPTION_WIDTH = 200
_PAPER, _INK, _FAINT = (255, 255, 255), (28, 32, 38), (98, 106, 117)
_QUERY_PAPER, _QUERY_EDGE = (232, 240, 252), (38, 98, 196)
_HEADLINE_SIZE, _TEXT_SIZE = 14, 12
_LINE = 17


def film_strips(clips: Sequence[Frames], captions: Sequence[str], frames_per_clip: int | None = 8) -> Image.Image:
    """One row a clip: its caption at the left, evenly spaced frames at the right.

    Args:
        clips: each (T, H, W, 3) uint8 RGB; sizes and lengths may differ.
        captions: one each. The first line is the headline; the rest is wrapped to the column, at plain spaces only, and
            cut at the row's height.
        frames_per_clip: frames drawn at most, first and last among them; None for all.

    Returns:
        An RGB picture; every frame is 96 px high, small frames enlarged without smoothing.

    Raises:
        RunError: no clips, a clip that is not RGB frames, or another number of captions.
    """
    return _stack([_row(*pair, frames_per_clip) for pair in _pairs(clips, captions)])


def given_frames(count: int) -> str:
    """How a caption says that the first ``count`` frames of a prediction are true ones."""
    return "the first frame is given" if count == 1 else f"the first {count} frames are given"


def contact_sheet(
    queries: Sequence[tuple[Frames, str]], hits: Sequence[tuple[Frames, str]], frames_per_clip: int = 8
) -> Image.Image:
    """The clips that ask on a coloured ground, and below them the hits, best first.

    Args:
        queries: (frames (T, H, W, 3) uint8 RGB, caption as in :func:`film_strips`) of each clip that asks.
        hits: likewise of each hit.
        frames_per_clip: frames drawn at most.

    Raises:
        RunError: a clip that is not RGB frames.
    """
    rows = [_row(frames, caption, frames_per_clip) for frames, caption in [*queries, *hits]]
    return _stack(rows, len(queries))


def figure_picture(figure: Figure) -> Image.Image:
    """A figure of matplotlib's as an RGB picture, 100 pixels an inch."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return Image.open(file).convert("RGB")


def picture_kind(path: Path) -> str:
    """The format that a picture's suffix names. Raises RunError for one that is no picture's."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise RunError(f"{path}: suffix {path.suffix!r} is no picture's; name it .png")
    return kind


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all; the suffix of ``path`` chooses the format, and folders are made.

    Raises:
        RunError: a suffix that is no picture's.
    """
    kind = picture_kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        image.save(partial, format=kind)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _pairs(clips: Sequence[Frames], captions: Sequence[str]) -> list[tuple[Frames, str]]:
    if not clips or len(clips) != len(captions):
        raise RunError(
            f"{len(captions)} captions for {len(clips)} clips: at least one clip, and a caption each, expected"
        )
    return list(zip(clips, captions, strict=True))


def _row(frames: Frames, caption: str, count: int | None) -> tuple[Image.Image, str]:
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0 or frames.dtype != np.uint8:
        raise RunError(f"a clip to draw is {frames.dtype} of shape {frames.shape}: uint8 (T, H, W, 3) expected")
    count = len(frames) if count is None else count
    if count < 1:
        raise RunError(f"{count} frames a clip: at least 1 expected")
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    cells = [_at_height(Image.fromarray(frames[number])) for number in chosen]
    strip = Image.new("RGBA", (sum(cell.width + _GAP for cell in cells) - _GAP, FRAME_HEIGHT))
    left = 0
    for cell in cells:
        strip.paste(cell, (left, 0))
        left += cell.width + _GAP
    return strip, caption


def _at_height(frame: Image.Image) -> Image.Image:
    """A frame at 96 px: large ones smoothed down; small ones by whole pixels first, so that their edges stay sharp."""
    size = (max(1, round(frame.width * FRAME_HEIGHT / frame.height)), FRAME_HEIGHT)
    if frame.height >= FRAME_HEIGHT:
        return frame.resize(size, Image.Resampling.LANCZOS)
    times = -(-2 * FRAME_HEIGHT // frame.height)
    enlarged = frame.resize((frame.width * times, frame.height * times), Image.Resampling.NEAREST)
    return enlarged.resize(size, Image.Resampling.BOX)


def _stack(rows: Sequence[tuple[Image.Image, str]], queries: int = 0) -> Image.Image:
    """The rows below one another; the first ones, the ``queries``, stand on a ground of their own."""
    width = 2 * _MARGIN + _CAPTION_WIDTH + max(strip.width for strip, _ in rows)
    # The queries' ground reaches a margin beyond their last row, and the hits keep a clear distance from it.
    distance = 2 * _ROW_GAP if queries else 0
    height = 2 * _MARGIN + len(rows) * (FRAME_HEIGHT + _ROW_GAP) - _ROW_GAP + distance
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if queries:
        bottom = 2 * _MARGIN + queries * (FRAME_HEIGHT + _ROW_GAP) - _ROW_GAP
        draw.rectangle((0, 0, width, bottom), fill=_QUERY_PAPER)
        draw.rectangle((0, 0, 5, bottom), fill=_QUERY_EDGE)
    top = _MARGIN
    for number, (strip, caption) in enumerate(rows):
        _write(draw, caption, (_MARGIN, top), _QUERY_EDGE if number < queries else _INK)
        sheet.paste(strip, (_MARGIN + _CAPTION_WIDTH, top), strip)
        top += FRAME_HEIGHT + _ROW_GAP + (distance if number == queries - 1 else 0)
    return sheet


def _write(draw: ImageDraw.ImageDraw, caption: str, corner: tuple[int, int], ink: tuple[int, int, int]) -> None:
    headline, _, text = caption.partition("\n")
    large, small = _font("DejaVuSans-Bold", _HEADLINE_SIZE), _font("DejaVuSans", _TEXT_SIZE)
    room = _CAPTION_WIDTH - 12
    draw.text(corner, _cut(headline, large, room), fill=ink, font=large)
    lines = _wrap(text, small, room)
    most = (FRAME_HEIGHT - 22) // _LINE
    if len(lines) > most:
        lines = [*lines[: most - 1], _cut(f"{lines[most - 1]} ...", small, room)]
    for number, line in enumerate(lines):
        draw.text((corner[0], corner[1] + 22 + number * _LINE), line, fill=_FAINT, font=small)


@lru_cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of matplotlib's: the one inside Pillow has no letters beyond ASCII, and file names do."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, room: int) -> list[str]:
    """Lines that fit, broken at spaces where there are any."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > room:
                lines.append(_cut(line, font, room))
                longer = word
            line = longer
        lines.append(_cut(line, font, room))
    return lines


def _cut(line: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    """The line, or as much of it as fits with dots in the middle: the ends of a file name say most."""
    if font.getlength(line) <= room:
        return line
    for kept in range(len(line) - 1, 1, -1):
        short = f"{line[: (kept + 1) // 2]}...{line[len(line) - kept // 2 :]}"
        if font.getlength(short) <= room:
            return short
    return line[:1]
