"""A latent traversal: the dimensions of a code that differ most between clips, and a clip redrawn as they are moved."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from kineme.models.sequential_vae import SequentialVAE
from kineme.models.statics_dynamics import StaticsDynamics
from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model, to_uint8
from kineme.pipeline.recipe import SequentialVAERecipe, StaticsDynamicsRecipe
from kineme.pipeline.run import Run
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index
from kineme.retrieval.service.latents import LatentDim, Part
from kineme.shards.sample import Frames

DIMS_A_PART = 6
"""Dimensions offered of what is shown, and as many of the motion."""
CLIPS = 300
"""They are found in at most so many clips of a library."""


class Code(NamedTuple):
    """What a network keeps of clips: ``appearance`` with its dimensions at 1, (B, A, ...), ``motion`` (B, T, M)."""

    appearance: Tensor
    motion: Tensor


class Coder(Protocol):
    """A network that reads clips into codes and draws clips from them.

    Attributes:
        clip_frames: frames T it takes.
        frame_step: distance of two of them, in stored frames.
        frame_size: their height and width, pixels.
        letters: what the papers call the two parts of its code.
    """

    clip_frames: int
    frame_step: int
    frame_size: int
    letters: tuple[str, str]

    @abstractmethod
    def read(self, clips: Tensor) -> Code:
        """Clips (B, T, C, S, S) in [0, 1] -> their codes."""

    @abstractmethod
    def draw(self, code: Code) -> Tensor:
        """Codes -> clips (B, T, C, S, S)."""


class SequentialVAECoder(Coder):
    """The posterior means of f and z_t."""

    letters = ("f", "z")

    def __init__(self, recipe: SequentialVAERecipe, model: SequentialVAE) -> None:
        self.clip_frames = recipe.encode_frames
        self.frame_step = recipe.data.frame_step
        self.frame_size = recipe.model.frame_size
        self._model = model

    def read(self, clips: Tensor) -> Code:
        """See `Coder`."""
        f, z = self._model.encode(clips)
        return Code(f.mean, z.mean)

    def draw(self, code: Code) -> Tensor:
        """See `Coder`."""
        return self._model.decode(code.appearance, code.motion)


class StaticsDynamicsCoder(Coder):
    """The channels of S, each moved alike at all its places, and p_t."""

    letters = ("S", "p")

    def __init__(self, recipe: StaticsDynamicsRecipe, model: StaticsDynamics) -> None:
        self.clip_frames = recipe.model.clip_frames
        self.frame_step = recipe.data.frame_step
        self.frame_size = recipe.model.frame_size
        self._model = model

    def read(self, clips: Tensor) -> Code:
        """See `Coder`."""
        encoding = self._model.encode(clips)
        return Code(encoding.statics, encoding.frame_dynamics)

    def draw(self, code: Code) -> Tensor:
        """See `Coder`."""
        return self._model.draw(code.motion, code.appearance)


class LatentTraversal:
    """A run's code and its most used dimensions over some clips: a `kineme.retrieval.service.latents.Traversal`.

    Used most are those whose means vary most between clips (and, of the motion, between frames): what a network has no
    use for stays at its prior, whatever the clip.
    """

    def __init__(self, run: Run, clips: Iterable[Frames]) -> None:
        """Read the clips, one after the other.

        Args:
            run: of a statics-dynamics or sequential-vae recipe.
            clips: a few hundred, each (T, H, W, 3) uint8.

        Raises:
            RunError: another kind of run.
            RetrievalError: no clips, or one that is too short.
        """
        self._run = run
        self._coder = coder_of(run)
        codes = [self._read(frames) for frames in clips]
        if not codes:
            raise RetrievalError(
                f"the index keeps no film of a clip of {frames_needed(self._coder)} frames, which the run needs; "
                "add longer clips, or build the index again"
            )
        self.clips = len(codes)
        appearance = torch.cat([code.appearance.reshape(*code.appearance.shape[:2], -1).mean(2) for code in codes])
        motion = torch.cat([code.motion.flatten(0, 1) for code in codes])
        self._places: dict[str, tuple[int, int]] = {}
        self.dims: list[LatentDim] = []
        parts: tuple[tuple[Part, Tensor], ...] = (("appearance", appearance), ("motion", motion))
        for part, (name, numbers) in enumerate(parts):
            spreads = numbers.std(0, correction=0)
            for place in spreads.argsort(descending=True, stable=True)[:DIMS_A_PART].tolist():
                dim = LatentDim(f"{self._coder.letters[part]} {place + 1}", name, float(spreads[place]))
                self._places[dim.name] = (part, place)
                self.dims.append(dim)

    @torch.inference_mode()
    def draw(self, frames: Frames, moves: Mapping[str, float]) -> Frames:
        """See `kineme.retrieval.service.latents.Traversal`."""
        code = self._read(frames)
        spreads = {dim.name: dim.spread for dim in self.dims}
        for name, move in moves.items():
            if name not in self._places:
                raise RetrievalError(f"dimension {name!r}: one of {', '.join(self._places)} expected")
            part, place = self._places[name]
            numbers = code.appearance[:, place] if part == 0 else code.motion[..., place]
            numbers += move * spreads[name]
        drawn: Frames = to_uint8(self._coder.draw(code))[0].numpy()
        return drawn

    @torch.inference_mode()
    def _read(self, frames: Frames) -> Code:
        coder = self._coder
        chosen = frames[:: coder.frame_step][: coder.clip_frames]
        if len(chosen) < coder.clip_frames:
            raise RetrievalError(
                f"a clip of {len(frames)} frames: the run needs {frames_needed(coder)}; choose a longer clip"
            )
        clip = torch.from_numpy(np.ascontiguousarray(chosen)).movedim(-1, 1)[None]
        return coder.read(to_model(clip.to(self._run.device), coder.frame_size))


def traversal_of(run: Run, index: Index, decode: Callable[[bytes], Frames]) -> LatentTraversal:
    """The traversal of a run over clips of an index, evenly chosen among those that keep a film long enough.

    Args:
        run: of a statics-dynamics or sequential-vae recipe.
        index: its clips.
        decode: a film of the index -> its frames (T, H, W, 3) uint8.

    Raises:
        RunError: another kind of run.
        RetrievalError: the index keeps no such film.
    """
    long_enough = np.flatnonzero(index.table.column("num_frames").to_numpy() >= frames_needed(coder_of(run)))
    places = np.linspace(0, len(long_enough) - 1, min(CLIPS, len(long_enough))).round().astype(int)

    def films() -> Iterator[Frames]:
        for row in long_enough[places].tolist():
            if film := index.film(index.keys[row]):
                yield decode(film)

    return LatentTraversal(run, films())


def frames_needed(coder: Coder) -> int:
    """Stored frames that a clip must have."""
    return (coder.clip_frames - 1) * coder.frame_step + 1


def coder_of(run: Run) -> Coder:
    """The network of a run as a reader and drawer of clips.

    Raises:
        RunError: the run is of a kind that draws no clips from a code.
    """
    recipe, model = run.recipe, run.task.model
    if isinstance(recipe, SequentialVAERecipe) and isinstance(model, SequentialVAE):
        return SequentialVAECoder(recipe, model)
    if isinstance(recipe, StaticsDynamicsRecipe) and isinstance(model, StaticsDynamics):
        return StaticsDynamicsCoder(recipe, model)
    raise RunError(
        f"{run.folder}: a {recipe.kind} run draws no clips from a code; give a run of a statics-dynamics or "
        "sequential-vae recipe"
    )
