"""From a trained run and shards to an index, and from a clip to the clips that are like it."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kineme.pipeline.labels import label_line
from kineme.pipeline.pictures import contact_sheet
from kineme.pipeline.recipe import read_yaml
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.index import Index, build_index, check_free
from kineme.retrieval.search import Hit, search
from kineme.retrieval.vectors import Space
from kineme.shards.codec import decode_clip
from kineme.shards.manifest import Manifest
from kineme.shards.reader import read_samples
from kineme.shards.sample import Frames, Label


@dataclass(frozen=True)
class Answer:
    """What a query found: its own frames (T, H, W, 3) uint8, its labels where it is a clip of the index, the hits."""

    name: str
    frames: Frames
    labels: dict[str, Label]
    by: Space
    hits: list[Hit]


def index_run(
    run: Path, shards: Path, out: Path, *, split: str | None = None, batch_size: int = 64, overwrite: bool = False
) -> Index:
    """Encode the clips of shards with the encoder of a run and build an index folder of them.

    Args:
        run: folder of a training run, or any other that holds an encoder.
        shards: folder of shards.
        out: index folder to build.
        split: only the clips of this split.
        batch_size: clips encoded at once.
        overwrite: replace an index at ``out``.

    Raises:
        RetrievalError, RunError, DataError: ``out`` is taken, the run or the shards cannot be read, or no clips.
    """
    check_free(out, overwrite=overwrite)
    from kineme.pipeline.encoders import load_encoder
    from kineme.pipeline.encoding import encode_shards, encoder_files

    encoder = load_encoder(run)
    vectors, records = encode_shards(encoder, shards, split=split, batch_size=batch_size)
    return build_index(
        out,
        vectors,
        records,
        encoder=str(read_yaml(run / "recipe.yaml")["kind"]),
        encoder_files=encoder_files(run),
        data=str(shards),
        previews=_stored_frames(shards, set(vectors.keys)),
        metrics={"motion": encoder.metric},
        overwrite=overwrite,
    )


def index_by_flow(
    settings: list[str],
    shards: Path,
    out: Path,
    *,
    split: str | None = None,
    batch_size: int = 64,
    overwrite: bool = False,
) -> Index:
    """Build an index without a run: by histograms of optical flow.

    Args:
        settings: ``key=value`` for settings of `kineme.pipeline.encoders.motion_histogram.MotionHistogramRecipe`.
        shards, out, split, batch_size, overwrite: as of `index_run`.

    Raises:
        RetrievalError, RunError, DataError: as of `index_run`; a setting is unknown or out of its range.
    """
    from kineme.pipeline.encoders.motion_histogram import write_recipe

    with tempfile.TemporaryDirectory() as folder:
        write_recipe(Path(folder), settings)
        return index_run(Path(folder), shards, out, split=split, batch_size=batch_size, overwrite=overwrite)


def answer_query(index: Index, clip: str, *, by: Space, k: int, where: str | None = None) -> Answer:
    """Find what is like a clip.

    Args:
        index: an open index.
        clip: a key of the index, which is then no hit itself, or the path of a video.
        by: the space to search.
        k: hits wanted.
        where: boolean SQL expression over the metadata.

    Raises:
        RetrievalError: neither a key nor a file, k < 1, or a bad filter.
        DataError: the video cannot be read.
    """
    if clip in index.vectors.rows:
        labels = index.clip(index.vectors.rows[clip]).labels
        hits = search(index, index.vector(clip, by), by=by, k=k, where=where, exclude=[clip])
        return Answer(clip, index.previews([clip])[clip], labels, by, hits)
    path = Path(clip)
    if not path.exists():
        raise RetrievalError(
            f"{clip!r} is neither a video file nor a key of the index {index.folder}; {_keys_of(index, clip)}"
        )
    # Only now, so that a query by key does not wait for torch.
    from kineme.pipeline.encoders import load_encoder
    from kineme.pipeline.encoding import read_query_clip

    encoder = load_encoder(index.encoder_folder)
    fps, stored_size = _common(index, "fps"), _common(index, "height")
    frames = read_query_clip(
        path,
        encoder,
        fps=None if fps is None else fps / encoder.frame_step,
        stored_size=None if stored_size is None else int(stored_size),
    )
    motion, appearance = encoder.encode(frames[None])
    vector = motion[0] if by == "motion" else appearance[0]
    return Answer(path.name, frames, {}, by, search(index, vector, by=by, k=k, where=where))


def draw_answer(index: Index, answer: Answer) -> Image.Image:
    """The contact sheet of an answer: the query's film strip, then those of the hits with rank, score and labels."""
    strips = index.previews([hit.key for hit in answer.hits])
    query = f"query by {answer.by}\n{answer.name}\n{label_line(answer.labels)}"
    hits = [
        (strips[hit.key], f"{hit.rank}    {hit.score:.3f}\n{label_line(hit.labels)}\n{hit.source}")
        for hit in answer.hits
    ]
    return contact_sheet(answer.frames, query, hits)


def _keys_of(index: Index, clip: str) -> str:
    """What to give instead: keys that begin so, or of the clips of a video of that name."""
    keys = list(index.vectors.rows)
    sources = index.metadata.column("source").to_pylist()
    meant = [
        key for key, source in zip(keys, sources, strict=True) if key.startswith(clip) or Path(source).name == clip
    ]
    if not meant:
        return f"check the path, or take a key such as {keys[0]}"
    return f"did you mean {meant[0]}" + (f", or another of its {len(meant)} clips?" if len(meant) > 1 else "?")


def _common(index: Index, column: str) -> float | None:
    """The value that all clips of an index have in a numeric column of the metadata; None where they differ."""
    values = set(index.metadata.column(column).to_pylist())
    return float(values.pop()) if len(values) == 1 else None


def _stored_frames(shards: Path, keys: Collection[str]) -> Iterator[tuple[str, Frames]]:
    """Decode the clips with these keys, shard by shard."""
    for entry in Manifest.load(shards).shards:
        for sample in read_samples(shards / f"{entry.name}.tar"):
            if sample.record.key in keys:
                yield sample.record.key, decode_clip(sample.mp4)
