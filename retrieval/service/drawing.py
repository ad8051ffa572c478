"""Clips that are drawn by networks: the futures of a clip, and one clip's looks with another's motion."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kineme.retrieval.previews import small_strip
from kineme.retrieval.service.asking import MP4, PNG, data_uri
from kineme.retrieval.service.clip_routes import film_of, strip_png
from kineme.retrieval.service.desk import Desk
from kineme.retrieval.service.problems import ProblemError
from kineme.retrieval.service.questions import Prediction, Swap
from kineme.retrieval.service.studio import Film
from kineme.retrieval.vectors import Frames


async def predict(desk: Desk, asked: Prediction, video: Path | None = None) -> dict[str, Any]:
    """Draw futures of a clip of the index or of a file, as `PredictionAnswer` describes them.

    Raises:
        ProblemError: there is no predictor or no such clip, or too much is asked for.
        RetrievalError: the predictor cannot.
        RefusedVideoError: the file cannot be used.
    """
    started, studio = time.perf_counter(), desk.studio
    if not studio.can_predict:
        raise ProblemError(409, "this service has no predictor: start it with --predictor RUN")
    for name, value, most in (
        ("samples", asked.samples, desk.settings.samples),
        ("horizon", asked.horizon or 1, desk.settings.horizon),
    ):
        if value > most:
            raise ProblemError(422, f"{name}: {value}, at most {most} are drawn")
    if (video is None) == (asked.key is None):
        raise ProblemError(422, "one of key or a file is needed")
    if video is None:
        beginning = await _of_clip(desk, str(asked.key), studio.beginning)
    else:
        beginning = await desk.decoders.run(lambda: studio.beginning(video))
    futures = await desk.networks.run(
        lambda: studio.predict(beginning, samples=asked.samples, seed=asked.seed, horizon=asked.horizon)
    )
    drawn = await desk.decoders.run(lambda: [_shown(desk, frames, futures.fps) for frames in futures.frames])
    return {
        "context": futures.context,
        "horizon": futures.horizon,
        "fps": futures.fps,
        "samples": [{"seed": seed, **shown} for seed, shown in zip(futures.seeds, drawn, strict=True)],
        "note": "; ".join([*beginning.notes, *futures.notes]) or None,
        "seconds": round(time.perf_counter() - started, 6),
    }


async def swap(desk: Desk, asked: Swap) -> dict[str, Any]:
    """Draw one clip's looks with another's motion, as `SwapAnswer` describes it.

    Raises:
        ProblemError: there is no run with a decoder, or no such clip.
        RefusedVideoError: a clip is too short for the run.
    """
    started, studio = time.perf_counter(), desk.studio
    if not studio.can_swap:
        raise ProblemError(409, "this service has no run with a decoder: start it with --run RUN")
    looks, motion = [await _of_clip(desk, key, studio.swappable) for key in (asked.looks, asked.motion)]
    film = await desk.networks.run(lambda: studio.swap(looks, motion))
    shown = await desk.decoders.run(lambda: _shown(desk, film.frames, film.fps))
    return {**shown, "note": "; ".join(film.notes) or None, "seconds": round(time.perf_counter() - started, 6)}


async def _of_clip(desk: Desk, key: str, read: Callable[[Path], Film]) -> Film:
    """A clip of the index, read from its film like a file."""
    index = desk.library.index

    def film() -> Film:
        with desk.scratch() as path:
            path.write_bytes(film_of(index, key))
            return read(path)

    return await desk.decoders.run(film)


def _shown(desk: Desk, frames: Frames, fps: float) -> dict[str, str]:
    return {
        "video": data_uri(desk.studio.mp4(frames, fps), MP4),
        "strip": data_uri(strip_png(small_strip(frames)), PNG),
    }
