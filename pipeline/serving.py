"""What the HTTP service is handed: decoders that wait, the index's encoder, a predictor, a run with a decoder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch

from kineme.pipeline.encoders import RunEncoder, load_encoder
from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_uint8
from kineme.pipeline.generation import clip_rate, prediction_task, swap_frames, swapped
from kineme.pipeline.indexing import query_rate, stored_size
from kineme.pipeline.prediction import draw_futures
from kineme.pipeline.run import Run, load_run
from kineme.pipeline.traversal import traversal_of
from kineme.pipeline.warm_decoders import WarmDecoders
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index
from kineme.retrieval.service.latents import Traversal
from kineme.retrieval.service.questions import MOST_WINDOWS
from kineme.retrieval.service.studio import Excerpt, Film, Futures, Reader, Studio
from kineme.retrieval.vectors import Vectors
from kineme.shards.browser_film import browser_film
from kineme.shards.codec import decode_clip
from kineme.shards.decode_pool import Limits
from kineme.shards.decode_video import Bounds
from kineme.shards.sample import Frames
from kineme.shards.sampling import Windows

# Fewer clips of a part of a video ask together where their frames are large.
_WINDOWS_BYTES = 256 << 20
_BATCH = 16
_SHOWN_SIZE = 256


class IndexReader(Reader):
    """Reads videos as those of an index were, and encodes them with its encoder.

    Args:
        index: the index.
        encoder: its own.
        decoders: read the videos.
    """

    def __init__(self, index: Index, encoder: RunEncoder, decoders: WarmDecoders) -> None:
        self._fps = query_rate(index, encoder)
        self._size = stored_size(index, encoder)
        self._encoder = encoder
        self._decoders = decoders

    def read(self, video: Path, start_s: float | None = None, end_s: float | None = None) -> Excerpt:
        """See `kineme.retrieval.service.studio.Reader`."""
        length = self._encoder.clip_frames
        windows = None if start_s is None and end_s is None else self._windows(start_s or 0.0, end_s)
        read = self._decoders.read(video, clip_frames=length, frame_size=self._size, fps=self._fps, windows=windows)
        notes = []
        if windows is None:
            held = int((read.end.seconds or 0.0) * read.end.fps / length + 1e-6)
            if held > 1:
                notes = [f"the file holds {held} such clips, and the first asks: name a part of it to ask with more"]
        elif min(read.end.seconds or 0.0, math.inf if end_s is None else end_s) > read.ends_s[-1] + 1 / read.end.fps:
            notes = [f"no more than {len(read.frames)} clips ask together: those up to {read.ends_s[-1]:.2f} s"]
        return Excerpt(read.frames, np.array(read.starts_s), np.array(read.ends_s), read.end.fps, notes)

    def encode(self, frames: Frames) -> tuple[Vectors, Vectors]:
        """See `kineme.retrieval.service.studio.Reader`."""
        parts = [self._encoder.encode(frames[first : first + _BATCH]) for first in range(0, len(frames), _BATCH)]
        motion, appearance = (np.concatenate(vectors) for vectors in zip(*parts, strict=True))
        return motion, appearance

    def _windows(self, start_s: float, end_s: float | None) -> Windows:
        """The part of a video, or its first clips, as many as may ask."""
        length = self._encoder.clip_frames
        most = min(MOST_WINDOWS, max(1, _WINDOWS_BYTES // (length * self._size**2 * 3)))
        return Windows(max(1, length // 2), start_s, end_s, most)


class RunStudio(Studio):
    """Decoders and trained runs; a context manager, which ends the decoders.

    Args:
        limits, bounds: of what a stranger's video may take.
        predictor: folder of a run that draws what follows a clip.
        run: folder of a run with a decoder, to swap and to traverse.
        decoders: videos read at a time.

    Raises:
        RunError: a run is of another kind, or was trained with actions, which a service has none of.
    """

    def __init__(
        self,
        limits: Limits,
        bounds: Bounds,
        *,
        predictor: Path | None = None,
        run: Path | None = None,
        decoders: int | None = None,
    ) -> None:
        self._predictor = None if predictor is None else _predictor(predictor)
        self._run = None if run is None else load_run(run)
        if self._run is not None:
            swap_frames(self._run)
        self._decoders = WarmDecoders(decoders or os.cpu_count() or 1, limits, bounds)
        self._encoder: tuple[object, RunEncoder] | None = None

    def __enter__(self) -> Self:
        self._decoders.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._decoders.__exit__(kind, error, traceback)

    def reader(self, index: Index) -> IndexReader:
        """See `kineme.retrieval.service.studio.Studio`. An encoder whose files did not change is not loaded again."""
        files = _stamps(index.encoder_folder)
        if self._encoder is None or self._encoder[0] != files:
            try:
                self._encoder = files, load_encoder(index.encoder_folder)
            except RunError as error:
                raise RetrievalError(str(error)) from None
        return IndexReader(index, self._encoder[1], self._decoders)

    def mp4(self, frames: Frames, fps: float) -> bytes:
        """See `kineme.retrieval.service.studio.Studio`."""
        return browser_film(frames, fps, max_side=_SHOWN_SIZE)

    def frames(self, film: bytes) -> Frames:
        """See `kineme.retrieval.service.studio.Studio`."""
        return decode_clip(film)

    @property
    def can_predict(self) -> bool:
        """See `kineme.retrieval.service.studio.Studio`."""
        return self._predictor is not None

    def beginning(self, video: Path) -> Film:
        """See `kineme.retrieval.service.studio.Studio`."""
        assert self._predictor is not None
        task = prediction_task(self._predictor)
        return self._film(video, self._predictor, task.context, task.frame_size)

    def predict(self, beginning: Film, *, samples: int, seed: int, horizon: int | None) -> Futures:
        """See `kineme.retrieval.service.studio.Studio`."""
        assert self._predictor is not None
        task = prediction_task(self._predictor)
        if samples > 1 and not task.model.noise_dim:
            raise RetrievalError(f"samples: {samples}, and this predictor always draws the same future; ask for one")
        horizon = horizon or max(1, self._predictor.recipe.data.clip_frames - task.context)
        # Seeds are numbers below 2^32.
        seeds = [(seed + number) % 2**32 for number in range(samples)]
        drawn = draw_futures(self._predictor, task.model, beginning.frames, horizon, None, seeds)
        frames = to_uint8(torch.stack(list(drawn), dim=1)).numpy()
        return Futures(frames, seeds, task.context, beginning.fps)

    @property
    def can_swap(self) -> bool:
        """See `kineme.retrieval.service.studio.Studio`."""
        return self._run is not None

    def swappable(self, video: Path) -> Film:
        """See `kineme.retrieval.service.studio.Studio`."""
        assert self._run is not None
        return self._film(video, self._run, *swap_frames(self._run))

    def swap(self, looks: Film, motion: Film) -> Film:
        """See `kineme.retrieval.service.studio.Studio`."""
        assert self._run is not None
        return Film(swapped(self._run, looks.frames, motion.frames), motion.fps)

    @property
    def can_traverse(self) -> bool:
        """See `kineme.retrieval.service.studio.Studio`."""
        return self._run is not None

    def traversal(self, index: Index) -> Traversal:
        """See `kineme.retrieval.service.studio.Studio`."""
        assert self._run is not None
        return traversal_of(self._run, index, self.frames)

    def _film(self, video: Path, run: Run, clip_frames: int, frame_size: int) -> Film:
        read = self._decoders.read(video, clip_frames=clip_frames, frame_size=frame_size, fps=clip_rate(run))
        return Film(read.frames[0], read.end.fps)


def _predictor(folder: Path) -> Run:
    run = load_run(folder)
    if numbers := prediction_task(run).model.condition_dim:
        raise RunError(
            f"--predictor {folder}: was trained with {numbers} actions a frame, and the service has none to give; "
            "name a run that was trained without"
        )
    return run


def _stamps(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """What tells whether the files of an encoder are others than before."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (status.st_ino, status.st_mtime_ns, status.st_size) for path in files for status in [path.stat()]}
