"""From a run and shards to an index, and how an index grows: clips of shards, or of single videos."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kineme.pipeline.recipe import read_yaml
from kineme.retrieval.changes import Structures
from kineme.retrieval.growing import Added, add_clips, build_index, check_free
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.metadata import ClipMetadata
from kineme.retrieval.previews import Picture, small_strip
from kineme.retrieval.vectors import ClipVectors, Vectors
from kineme.shards.sample import ClipRecord
from kineme.shards.window import Window

if TYPE_CHECKING:
    from kineme.pipeline.encoders import RunEncoder


def index_run(
    run: Path,
    shards: Path,
    out: Path,
    *,
    split: str | None = None,
    batch_size: int = 64,
    overwrite: bool = False,
    structures: Structures | None = None,
) -> Index:
    """Encode the clips of shards with the encoder of a run and build an index folder of them.

    Args:
        run: folder of a training run, or any other that holds an encoder.
        shards: folder of shards.
        out: index folder to build.
        split: only the clips of this split.
        batch_size: clips encoded at once.
        overwrite: replace an index at ``out``.
        structures: what searches large spaces; exact search if not given.

    Raises:
        RetrievalError, RunError, DataError: ``out`` is taken, the run or the shards cannot be read, or no clips.
    """
    check_free(out, overwrite=overwrite)
    from kineme.pipeline.encoders import load_encoder
    from kineme.pipeline.encoding import ShardClips, encoder_files

    encoder = load_encoder(run)
    clips = ShardClips(encoder, shards, split=split)
    vectors, records = clips.encode(batch_size)
    return build_index(
        out,
        vectors,
        records,
        encoder=str(read_yaml(run / "recipe.yaml")["kind"]),
        encoder_files=encoder_files(run),
        data=str(shards),
        pictures=clips.pictures(),
        metrics={"motion": encoder.metric},
        structures=structures,
        overwrite=overwrite,
    )


@contextmanager
def flow_run(settings: list[str]) -> Iterator[Path]:
    """A folder to index with, as that of a run, whose encoder needs no training: histograms of optical flow.

    Args:
        settings: ``key=value`` for settings of `kineme.pipeline.encoders.motion_histogram.MotionHistogramRecipe`.

    Raises:
        RunError: a setting is unknown or out of its range.
    """
    from kineme.pipeline.encoders.motion_histogram import write_recipe

    with tempfile.TemporaryDirectory() as folder:
        write_recipe(Path(folder), settings)
        yield Path(folder)


def add_shards(
    folder: Path, shards: Path, *, split: str | None = None, batch_size: int = 64, replace: bool = False
) -> Added:
    """Add the clips of shards to an index, by the index's own encoder.

    Args:
        folder: the index.
        shards: folder of shards.
        split: only the clips of this split.
        batch_size: clips encoded at once.
        replace: encode clips that are there, too, and put them in the place of those; else they are left out.

    Raises:
        RetrievalError, RunError, DataError: not an index, or the shards cannot be read.
    """
    from kineme.pipeline.encoders import load_encoder
    from kineme.pipeline.encoding import ShardClips

    index = open_index(folder)
    encoder = load_encoder(index.encoder_folder)
    clips = ShardClips(encoder, shards, split=split, leave_out=frozenset(() if replace else index.keys))
    vectors, records = clips.encode(batch_size)
    return _added(index, vectors, records, clips.pictures(), replace=replace, left_out=clips.left_out)


def add_videos(
    folder: Path, videos: Sequence[Path], *, replace: bool = False, encoder: RunEncoder | None = None
) -> Added:
    """Add the clips of single videos to an index, cut, sampled and sized as those that are there.

    Args:
        folder: the index.
        videos: video files, or folders of numbered images.
        replace: encode clips that are there, too, and put them in the place of those, whose labels, split and source
            they keep; else they are left out.
        encoder: the index's own, if it is loaded already.

    Raises:
        RetrievalError, DataError: not an index, or a video that cannot be read: then none is added.
    """
    from kineme.pipeline.clips import read_stored
    from kineme.pipeline.encoders import load_encoder
    from kineme.pipeline.encoding import picture_of, vectors_of

    index = open_index(folder)
    encoder = encoder or load_encoder(index.encoder_folder)
    window = Window(encoder.clip_frames, encoder.frame_step)
    length = max(window.span, int(common(index, "num_frames") or 0))
    size, fps = stored_size(index, encoder), common(index, "fps")
    records: dict[str, ClipMetadata] = {}
    encoded: list[tuple[Vectors, Vectors]] = []
    pictures: list[Picture] = []
    skipped: set[str] = set()
    for video in videos:
        for record, frames in read_stored(video, clip_frames=length, frame_size=size, fps=fps):
            key, there = record.key, index.has(record.key)
            if there and not replace:
                skipped.add(key)
            elif key not in records:
                records[key] = _with_labels_of(index.clip(index.row_of(key)), record) if there else record
                encoded.append(encoder.encode(frames[None, window.cut(key, len(frames), 0)]))
                pictures.append(picture_of(record, frames)._replace(frames=small_strip(frames)))
    vectors = vectors_of(encoder, list(records), encoded)
    return _added(index, vectors, list(records.values()), pictures, replace=replace, left_out=len(skipped))


def _added(
    index: Index,
    vectors: ClipVectors,
    records: Sequence[ClipMetadata],
    pictures: Iterable[Picture],
    *,
    replace: bool,
    left_out: int,
) -> Added:
    """Add what an index's own encoder encoded; ``left_out``: clips that were seen to be there before."""
    added = add_clips(
        index.folder,
        vectors,
        records,
        pictures,
        present="replace" if replace else "skip",
        encoder_folder=index.info.encoder_folder,
    )
    return dataclasses.replace(added, skipped=added.skipped + left_out)


def _with_labels_of(clip: ClipMetadata, record: ClipRecord) -> ClipRecord:
    """What a file does not say of a clip."""
    known = {name: getattr(clip, name) for name in ("labels", "dataset", "split", "source")}
    return dataclasses.replace(record, **known)


def common(index: Index, column: str) -> float | None:
    """The value that all clips of an index have in a numeric column of the metadata; None where they differ."""
    values = index.table.column(column).unique().to_pylist()
    return float(values[0]) if len(values) == 1 else None


def stored_size(index: Index, encoder: RunEncoder) -> int:
    """Height and width, in pixels, that a video for an index is read at, as its clips are stored; encoders resize."""
    return int(common(index, "height") or encoder.frame_size)


def query_rate(index: Index, encoder: RunEncoder) -> float | None:
    """Frames a second that a video which asks an index is sampled at; None: its own."""
    fps = common(index, "fps")
    return None if fps is None else fps / encoder.frame_step
