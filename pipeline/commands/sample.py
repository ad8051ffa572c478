"""``kineme sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run of a sequential-vae recipe.")],
    data: Annotated[Path, typer.Option("--data", metavar="SHARDS", help="Folder of shards.")],
    show: Annotated[
        str,
        typer.Option(metavar="NAME", help="swaps, random-content, random-motion, random or interpolation."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="Picture to write.")],
    clips: Annotated[
        int | None, typer.Option(metavar="N", help="Clips to take; 4 for swaps and 2 for the others if left out.")
    ] = None,
    draws: Annotated[
        int, typer.Option(metavar="N", help="Films drawn for each clip, or between the ends of an interpolation.")
    ] = 3,
    split: Annotated[
        str, typer.Option(help="Where the clips come from: a split of the shards, or LABEL=VALUE or LABEL!=VALUE.")
    ] = "test",
    seed: Annotated[int, typer.Option(help="Another seed chooses other clips and draws other films.")] = 0,
) -> None:
    """Draw what a sequential VAE makes of content f and motion z.

    swaps: each clip's content (rows) with each clip's motion (columns). random-content and random-motion: a clip, and
    below it films with one of the two drawn at random. random: both drawn, below clips to compare with. interpolation:
    from one clip towards the next, once in content alone and once in motion alone.

    Example: kineme sample runs/sprites --data data/sprites --show swaps --out swaps.png
    """
    from kineme.pipeline.pictures import film_strips, picture_kind, save_picture
    from kineme.pipeline.run import load_run
    from kineme.pipeline.sampling_pictures import find_show, sample_strips

    picture_kind(out)
    find_show(show)
    strips = sample_strips(load_run(run), data, show, clips=clips, draws=draws, split=split, seed=seed)
    save_picture(film_strips(list(strips.values()), list(strips)), out)
    typer.echo(f"{out}: {show} from clips of {split}")
