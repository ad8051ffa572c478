"""``kineme export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kineme.pipeline.commands.options import IndexFolder, Where


class Form(StrEnum):
    """The formats of an export."""

    parquet = "parquet"
    npy = "npy"
    fiftyone = "fiftyone"


def export(
    index_folder: IndexFolder,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="File, or folder for npy and fiftyone, to make.")],
    form: Annotated[Form, typer.Option("--format", help="For tables, for arrays, or for FiftyOne.")] = Form.parquet,
    where: Where = None,
    video_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For fiftyone: the folder that was ingested, where the videos are."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export of this format.")] = False,
) -> None:
    """Write the vectors and the metadata of an index for other programs.

    parquet: one file, a row a clip, each label a column, motion and appearance as lists of float32. npy: a folder of
    motion.npy and appearance.npy, keys.json and metadata.parquet. fiftyone: a folder for FiftyOne 1.0 or later, read by
    fo.Dataset.from_dir(dataset_dir=PATH, dataset_type=fo.types.FiftyOneDataset).

    Example: kineme export indexes/sprites --out sprites.parquet --where "action = 'walk'"

    Example: kineme export indexes/mine --out mine-fo --format fiftyone --video-root ~/videos
    """
    from kineme.pipeline.errors import RunError
    from kineme.pipeline.video_facts import video_facts
    from kineme.retrieval.export import export_index
    from kineme.retrieval.fiftyone_layout import Videos
    from kineme.retrieval.index import open_index

    if video_root is not None and form != Form.fiftyone:
        raise RunError(f"--video-root {video_root}: {form} holds no videos; give it with --format fiftyone")
    if video_root is not None and not video_root.is_dir():
        raise RunError(f"--video-root {video_root}: there is no such folder; name the one that was ingested")
    videos = None if video_root is None else Videos(video_root, video_facts)
    count = export_index(open_index(index_folder), out, form.value, where=where, videos=videos, overwrite=force)
    typer.echo(f"{out}: {count} clips exported as {form}")
