"""``kineme index``, ``add``, ``remove`` and ``compact``: an index is built, grows and shrinks."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kineme.pipeline.commands.budgets import (
    KindOption,
    LatencyOption,
    MemoryOption,
    RecallOption,
    asked_budget,
    choose_kinds,
)
from kineme.pipeline.commands.options import IndexFolder


class Untrained(StrEnum):
    """The encoders that need no run."""

    motion_histogram = "motion-histogram"


Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Search in Milvus: milvus://HOST:PORT[/COLLECTION], or milvus:///PATH/FILE.db[/COLLECTION] for a file. "
        "Its token is taken from KINEME_MILVUS_TOKEN.",
    ),
]


def index(
    data: Annotated[Path, typer.Option("--data", metavar="SHARDS", help="Folder of shards to index.")],
    out: Annotated[Path, typer.Option("--out", metavar="INDEX", help="Index folder to make.")],
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Folder of a training run, unless --encoder is given.")
    ] = None,
    encoder: Annotated[
        Untrained | None, typer.Option(help="Instead of RUN: histograms of optical flow, without any training.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of --encoder, such as clip_frames=8."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only the clips of this split, such as test.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips encoded at once.")] = 64,
    kind: KindOption = None,
    memory_gb: MemoryOption = None,
    latency_ms: LatencyOption = None,
    recall: RecallOption = None,
    store: Store = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an index that is there already.")] = False,
) -> None:
    """Encode every clip and build an index folder that holds all a query needs.

    Example: kineme index runs/sprites --data data/sprites --out indexes/sprites --split test

    Without a run: kineme index --encoder motion-histogram --data data/mine --out indexes/mine --set frame_size=96

    For many clips: kineme index runs/sprites --data data/sprites --out indexes/sprites --latency-ms 10 --memory-gb 4

    Settings of motion-histogram: clip_frames, frame_step, frame_size (pixels), directions, cells (in each row and
    column of the frame; 1 does not ask where), still_below (pixels a frame), window (of the flow, pixels).
    """
    from kineme.pipeline.errors import RunError
    from kineme.pipeline.indexing import flow_run, index_run
    from kineme.retrieval.kinds.milvus import milvus_structures

    if (run is None) == (encoder is None):
        given = "neither RUN nor --encoder" if run is None else f"both {run} and --encoder {encoder}"
        raise RunError(f"{given} given: name the run that encodes the clips, or --encoder motion-histogram")
    if run is not None and settings:
        raise RunError(f"--set {settings[0]}: only --encoder has settings; a run keeps those it was trained with")
    budget = asked_budget(kind, memory_gb, latency_ms, recall)
    if store is not None and budget is not None:
        raise RunError(f"--store {store} with a kind or limits: Milvus chooses by itself; leave one of the two out")
    structures = None if store is None else milvus_structures(store)
    with flow_run(settings or []) if run is None else nullcontext(run) as folder:
        built = index_run(folder, data, out, split=split, batch_size=batch_size, overwrite=force, structures=structures)
    sizes = ", ".join(f"{space} {size}" for space, size in built.info.dims.items())
    typer.echo(f"{out}: {built.count} clips indexed ({sizes} dimensions)")
    if store is None:
        # Only now: what was encoded is not lost where nothing keeps the limits.
        choose_kinds(out, budget)


def add(
    index_folder: IndexFolder,
    videos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="VIDEO...", help="Video files, cut into clips like those that are there."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="SHARDS", help="Instead of videos: a folder of shards.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of --data, only the clips of this split.")] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Encode clips that are there already, too, and replace them; with a VIDEO, labels stay."
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips of --data encoded at once.")] = 64,
) -> None:
    """Add clips to an index, by its own encoder. Queries that run meanwhile see the index as it was, or as it will be.

    Clips that are in the index already, by the bytes of their video, are left out. A video that cannot be read stops
    it, and none is added; an ingest lists such videos and goes on.

    Example: kineme add indexes/mine new1.mp4 new2.mp4

    Example: kineme ingest ~/videos --out data/mine && kineme add indexes/mine --data data/mine
    """
    from kineme.pipeline.errors import RunError
    from kineme.pipeline.indexing import add_shards, add_videos

    if bool(videos) == (data is not None):
        given = "neither a video nor --data" if data is None else f"both videos and --data {data}"
        raise RunError(f"{given} given: name the videos to add, or the shards that hold them")
    if data is None:
        if split is not None:
            raise RunError(f"--split {split}: only shards have splits; give it with --data")
        added = add_videos(index_folder, videos or [], replace=replace)
    else:
        added = add_shards(index_folder, data, split=split, batch_size=batch_size, replace=replace)
    parts = [f"{added.new} clips added"]
    parts += [f"{added.replaced} replaced"] if added.replaced else []
    parts += [f"{added.skipped} were there already (--replace encodes them again)"] if added.skipped else []
    typer.echo(f"{index_folder}: {', '.join(parts)}; it holds {added.info.count}")


def remove(
    index_folder: IndexFolder,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", help="Clips to remove.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Instead of keys: the clips for which this is true.")
    ] = None,
) -> None:
    """Remove clips from an index. Their bytes go with the next `kineme compact`; the shards are not touched.

    Example: kineme remove indexes/mine --where "source like 'old/%'"
    """
    from kineme.pipeline.errors import RunError
    from kineme.retrieval.growing import remove_clips, remove_where

    if bool(keys) == (where is not None):
        given = "neither a key nor --where" if where is None else "both keys and --where"
        raise RunError(f"{given} given: name the clips to remove, or what is true of them")
    removed = remove_clips(index_folder, keys or ()) if where is None else remove_where(index_folder, where)
    typer.echo(f"{index_folder}: {removed.count} clips removed; it holds {removed.info.count}")


def compact(
    index_folder: IndexFolder,
    kind: KindOption = None,
    memory_gb: MemoryOption = None,
    latency_ms: LatencyOption = None,
    recall: RecallOption = None,
    store: Store = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Search without Milvus from now on.")] = False,
) -> None:
    """Write an index anew: without what was removed, in one piece, with its search structures built for all clips.

    Without limits or a kind, those hold that were asked for last.

    An index that is searched in Milvus stays there, in a new collection, unless --store or --no-store say otherwise.

    Example: kineme compact indexes/mine
    """
    from kineme.pipeline.errors import RunError
    from kineme.retrieval.commits import read_info
    from kineme.retrieval.growing import compact as write_anew
    from kineme.retrieval.kinds.milvus import milvus_structures, store_of

    if no_store and store is not None:
        raise RunError(f"both --store {store} and --no-store given: keep one")
    budget = asked_budget(kind, memory_gb, latency_ms, recall)
    url = None if no_store else store or store_of(read_info(index_folder).structures)
    if url is None:
        count = choose_kinds(index_folder, budget)
    elif budget is None:
        count = write_anew(index_folder, milvus_structures(url)).count
    else:
        raise RunError(f"{url} with a kind or limits: Milvus chooses by itself; leave them out, or give --no-store")
    typer.echo(f"{index_folder}: {count} clips in one piece")
