"""Made-up videos to measure with: the same seed makes the same pictures, whatever the machine.

A made-up corpus, because no real one may be copied about and every machine must get the same. It is meant to cost what
real footage costs: textures that pan, textured discs that cross them, and the grain of a camera, so that there is
something to predict for the codec and something that it cannot.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FPS = 25
HEIGHT, WIDTH = 240, 320
FRAMES = 256
"""10.24 s: sixteen whole clips of 16 frames, so that every tool cuts the same ones."""

_MARGIN = 96  # how far the background may pan, pixels
_DISCS = 3
_GRAIN = 5.0  # standard deviation of the camera's noise, of 255


def make_corpus(folder: Path, videos: int, workers: int, frames: int = FRAMES) -> Path:
    """``videos`` files of 320x240, 25 frames a second, H.264 yuv420p, in ``folder``/videos-N-F; made only once."""
    corpus = folder / f"videos-{videos}-{frames}"
    if corpus.is_dir():
        return corpus
    temporary = _fresh(corpus)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(_write_video, temporary, frames), range(videos)))
    temporary.rename(corpus)
    return corpus


def make_tiny_files(folder: Path, files: int, *, kinds: int = 32, frames: int = 16, side: int = 32) -> Path:
    """``files`` videos of one 16-frame clip each, in ``folder``/tiny-N-S: many files, little to decode; made only once.

    There are ``kinds`` different ones; the others are copies with a ``free`` box of their own behind them, which no
    reader shows and which makes every file another one to whoever looks for duplicates.
    """
    corpus = folder / f"tiny-{files}-{side}"
    if corpus.is_dir():
        return corpus
    temporary = _fresh(corpus)
    seeds = []
    for kind in range(kinds):
        path = temporary / "seed.mp4"
        _encode(path, _moving(kind, frames, side, side, grain=False), side, side)
        seeds.append(path.read_bytes())
        path.unlink()
    for number in range(files):
        # A thousand a folder, as a user would have them, and as file systems like them.
        path = temporary / f"{number // 1000:04d}" / f"{number:07d}.mp4"
        if number % 1000 == 0:
            path.parent.mkdir()
        path.write_bytes(seeds[number % kinds] + struct.pack(">I4sQ", 16, b"free", number))
    temporary.rename(corpus)
    return corpus


def _fresh(corpus: Path) -> Path:
    temporary = corpus.with_name(f".{corpus.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def _write_video(folder: Path, frames: int, seed: int) -> None:
    _encode(folder / f"{seed:04d}.mp4", _moving(seed, frames, HEIGHT, WIDTH), HEIGHT, WIDTH)


def _encode(path: Path, pictures: Iterator[NDArray[np.uint8]], height: int, width: int) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "50"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _moving(seed: int, frames: int, height: int, width: int, grain: bool = True) -> Iterator[NDArray[np.uint8]]:
    """The frames of one video, each (height, width, 3)."""
    random = np.random.default_rng(seed)
    margin = _MARGIN * width // WIDTH
    background = _texture(random, height + 2 * margin, width + 2 * margin)
    noise = random.normal(0, _GRAIN if grain else 0, (height + 64, width + 64, 1)).astype(np.float32)
    phase, turns = random.uniform(0, 2 * np.pi, 2), random.uniform(0.5, 2.5, 2)
    discs = [_Disc(random, height, width) for _ in range(_DISCS)]
    for number in range(frames):
        pan = np.rint(margin + margin * np.sin(phase + turns * 2 * np.pi * number / FRAMES)).astype(int)
        picture = background[pan[0] : pan[0] + height, pan[1] : pan[1] + width].copy()
        for disc in discs:
            disc.draw(picture, number)
        top, left = random.integers(0, 64, 2)
        picture += noise[top : top + height, left : left + width]
        yield np.clip(picture, 0, 255).astype(np.uint8)


class _Disc:
    """A textured disc that bounces between the edges."""

    def __init__(self, random: np.random.Generator, height: int, width: int) -> None:
        self._radius = int(random.integers(height // 12, height // 5))
        side = 2 * self._radius
        self._pixels = _texture(random, side, side)
        rows, columns = np.mgrid[:side, :side] - self._radius + 0.5
        self._inside = rows**2 + columns**2 < self._radius**2
        self._room = np.array([height - side, width - side])
        self._start, self._speed = random.uniform(0, 1, 2) * self._room, random.uniform(-4, 4, 2)

    def draw(self, picture: NDArray[np.float32], number: int) -> None:
        """Where it is at frame ``number``."""
        path = (self._start + self._speed * number) % (2 * self._room)
        top, left = np.where(path > self._room, 2 * self._room - path, path).astype(int)
        side = 2 * self._radius
        picture[top : top + side, left : left + side][self._inside] = self._pixels[self._inside]


def _texture(random: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Colour noise of several scales, (height, width, 3), 0 to 255."""
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 7):
        cells = 2**octave
        noise = random.integers(0, 256, (cells, cells, 3), np.uint8)
        total += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)) / cells
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) * (255 / (high - low)), np.float32)
