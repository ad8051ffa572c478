"""The pictures by which a sequential VAE is judged by eye (section 5.3): swapped, drawn and interpolated f and z."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kineme.models.sequential_vae import SequentialVAE
from kineme.pipeline.encoders.sequential_vae import SequentialVAEEncoder
from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model, to_uint8
from kineme.pipeline.generation import sequential_vae_of
from kineme.pipeline.labels import label_line
from kineme.pipeline.protocols.chosen_clips import chosen_batches
from kineme.pipeline.run import Run
from kineme.shards.batch import ClipBatch
from kineme.shards.sample import ClipRecord, Frames

Strips = dict[str, Frames]
"""Films (T, H, W, 3) uint8 by their captions, in the order in which they are drawn, one below the other."""

MOST_SEED = 2**32
_ROW_FRAMES = 16
"""Frames side by side in a row of swaps: more of them are no longer seen at one glance."""


@dataclass(frozen=True)
class ReadClips:
    """N clips and what the model reads from them.

    The paper draws f and z from their posteriors; here they are the posterior means, so that a picture shows what a
    clip was taken for, and nothing in it is chance but what is drawn from a prior.

    Attributes:
        films: (N, T, H, W, 3) uint8, at the model's frame size.
        texts: what is known of each: its labels, or where it comes from.
        f: means of q(f | x), (N, f_dim).
        z: means of q(z_t | x_t), (N, T, z_dim).
    """

    films: Frames
    texts: list[str]
    f: Tensor
    z: Tensor

    def strips(self) -> Strips:
        """The clips themselves."""
        return {self.caption(number): film for number, film in enumerate(self.films)}

    def caption(self, number: int) -> str:
        """The caption of a clip itself; clips are counted from one."""
        return f"clip {number + 1}\n{self.texts[number]}"


@torch.inference_mode()
def read_clips(run: Run, batch: ClipBatch) -> ReadClips:
    """Clips as a run reads them.

    Raises:
        RunError: the run is no sequential-vae run.
    """
    model = sequential_vae_of(run)
    frames = to_model(batch.frames.to(run.device), model.config.frame_size)
    f, z = model.encode(frames)
    return ReadClips(to_uint8(frames).numpy(), [_text(record) for record in batch.records], f.mean, z.mean)


def swaps(model: SequentialVAE, clips: ReadClips, draws: int = 0) -> Strips:
    """Every clip's content with every clip's motion: f of the row's clip, z of the column's (figures 6, 7 and 13).

    The clips stand above their columns, the first frame of the row's clip at the left, and a clip's own reconstruction
    on the diagonal. A cell shows so many evenly spaced frames of its film that a row stays readable.

    Args:
        model: a sequential VAE.
        clips: N of them.
        draws: nothing is drawn here.

    Returns:
        1 + N rows, each a single wide frame (1, H, W', 3).
    """
    count, length = clips.films.shape[:2]
    shown = np.linspace(0, length - 1, max(2, min(length, _ROW_FRAMES // count))).round().astype(int)
    rows = {"motion of the clips": _side_by_side([np.full_like(clips.films[0, :1], 255), *clips.films[:, shown]])}
    for number, film in enumerate(clips.films):
        # A row at a time: all cells at once would hold the activations of N * N films.
        decoded = _films(model, clips.f[number].expand(count, -1), clips.z[:, shown])
        rows[f"content of {clips.caption(number)}"] = _side_by_side([film[:1], *decoded])
    return rows


def random_content(model: SequentialVAE, clips: ReadClips, draws: int) -> Strips:
    """Each clip, and below it its motion with f drawn from N(0, I) (figures 8, 11 and 14).

    The same f are drawn for every clip, so that one content can be seen in several motions.
    """
    f = torch.randn(draws, model.config.f_dim, device=clips.f.device)
    strips: Strips = {}
    for number, film in enumerate(clips.films):
        strips[clips.caption(number)] = film
        films = _films(model, f, clips.z[number].expand(draws, -1, -1))
        strips |= _numbered("f drawn", f"z of clip {number + 1}", films)
    return strips


def random_motion(model: SequentialVAE, clips: ReadClips, draws: int) -> Strips:
    """Each clip, and below it its content with z drawn from the learned prior (figure 10).

    The same z are drawn for every clip, so that one motion can be seen with several contents.
    """
    z = model.sample_motion(draws, clips.films.shape[1])
    strips: Strips = {}
    for number, film in enumerate(clips.films):
        strips[clips.caption(number)] = film
        films = _films(model, clips.f[number].expand(draws, -1), z)
        strips |= _numbered("z drawn", f"f of clip {number + 1}", films)
    return strips


def random_films(model: SequentialVAE, clips: ReadClips, draws: int) -> Strips:
    """The clips to compare with, and below them films of which f and z are both drawn (figure 9)."""
    f = torch.randn(draws, model.config.f_dim, device=clips.f.device)
    z = model.sample_motion(draws, clips.films.shape[1])
    return clips.strips() | _numbered("f and z drawn", "", _films(model, f, z))


def interpolation(model: SequentialVAE, clips: ReadClips, draws: int) -> Strips:
    """From each clip to the next: f along the straight line with the first one's z, then z along it with its f.

    The paper has no such picture; it shows whether what lies between two clips is a film, too.

    Args:
        model: a sequential VAE.
        clips: N of them, for N - 1 lines of each kind.
        draws: films on a line between its two ends, which are shown as well.
    """
    weights = torch.linspace(0, 1, draws + 2, device=clips.f.device)
    strips = clips.strips()
    for a, b in pairwise(range(len(clips.films))):
        names = [f"{100 * weight:.4g}% of clip {b + 1}" for weight in weights.tolist()]
        f = torch.lerp(clips.f[a], clips.f[b], weights[:, None])
        z = torch.lerp(clips.z[a], clips.z[b], weights[:, None, None])
        for letter, held, films in (
            ("f", "z", _films(model, f, clips.z[a].expand_as(z))),
            ("z", "f", _films(model, clips.f[a].expand_as(f), z)),
        ):
            captions = [f"{letter} {name}\n{held} of clip {a + 1}" for name in names]
            strips |= dict(zip(captions, films, strict=True))
    return strips


class Show(NamedTuple):
    """One kind of picture: what draws it, how many clips it takes unless told otherwise, and at least."""

    draw: Callable[[SequentialVAE, ReadClips, int], Strips]
    clips: int
    least: int


SHOWS = {
    "swaps": Show(swaps, 4, 2),
    "random-content": Show(random_content, 2, 1),
    "random-motion": Show(random_motion, 2, 1),
    "random": Show(random_films, 2, 1),
    "interpolation": Show(interpolation, 2, 2),
}
"""Kind of picture -> how it is made."""


def find_show(name: str) -> Show:
    """A kind of picture by its name. Raises RunError, with the names that there are, for another one."""
    if name not in SHOWS:
        raise RunError(f"--show {name}: there is no such picture; use one of {', '.join(SHOWS)}")
    return SHOWS[name]


@torch.inference_mode()
def sample_strips(
    run: Run, shards: Path, show: str, *, clips: int | None = None, draws: int = 3, split: str = "test", seed: int = 0
) -> Strips:
    """The film strips of one kind of picture, from clips of a split that are chosen at random.

    Args:
        run: a sequential-vae run.
        shards: ingested data.
        show: a name in `SHOWS`.
        clips: how many; the kind's own number if None.
        draws: films drawn, for each clip where clips are read; on an interpolated line, those between its ends.
        split: of the shards, or what a label picks out: ``actor=daria``.
        seed: decides the choice of clips and the draws; a picture is the same again on the same device.

    Raises:
        RunError: no such kind of picture, a run of another kind, a number that is too small, or fewer clips in the
            split than asked for.
        DataError: no clips of the split, clips too short for the run, or damaged shards.
    """
    kind = find_show(show)
    model = sequential_vae_of(run)
    count = kind.clips if clips is None else clips
    for name, value, least in (("clips", count, kind.least), ("draws", draws, 1), ("seed", seed, 0)):
        if value < least:
            raise RunError(f"--{name} {value}: at least {least} is needed for {show}")
    if seed >= MOST_SEED:
        raise RunError(f"--seed {seed}: must be below {MOST_SEED}")
    batches = list(chosen_batches(shards, SequentialVAEEncoder(run), split, count, seed))
    found = sum(map(len, batches))
    if found < count:
        raise RunError(f"{shards}: {found} clips of split {split}, fewer than the {count} asked for; lower --clips")
    frames = torch.cat([batch.frames for batch in batches])
    records = [record for batch in batches for record in batch.records]
    torch.manual_seed(seed)
    return kind.draw(model, read_clips(run, ClipBatch(frames, records)), draws)


def _films(model: SequentialVAE, f: Tensor, z: Tensor) -> Frames:
    """f (N, f_dim) and z (N, T, z_dim) -> N films (N, T, H, W, 3) uint8."""
    films: Frames = to_uint8(model.decode(f, z)).numpy()
    return films


def _numbered(headline: str, text: str, films: Frames) -> Strips:
    return {f"{headline} {number}\n{text}": film for number, film in enumerate(films, 1)}


def _side_by_side(films: Sequence[Frames]) -> Frames:
    """Films as one wide frame (1, H, W', 3): narrow white gaps between frames, wide ones between films."""
    height = films[0].shape[1]
    narrow, wide = (np.full((height, width, 3), 255, np.uint8) for width in (max(1, height // 32), height // 3))
    pieces = []
    for film in films:
        for frame in film:
            pieces += [frame, narrow]
        pieces[-1] = wide
    return np.concatenate(pieces[:-1], axis=1)[None]


def _text(record: ClipRecord) -> str:
    """The labels of a clip; where it comes from if it has none."""
    return label_line(record.labels) or record.source
