"""``kineme train``, ``evaluate``, ``swap`` and ``demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")]
ShardsOption = Annotated[Path, typer.Option("--data", metavar="SHARDS", help="Folder of shards.")]


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a .yaml file.")],
    data: ShardsOption,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Run folder to make.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Stop after so many minutes of training, not counting the start.")
    ] = None,
    cache_gb: Annotated[
        float | None, typer.Option(metavar="GB", help="Most that the cache of decoded clips may hold on disk.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", metavar="RUN", help="Start from the weights of another run.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of RUN.")] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
) -> None:
    """Train a recipe on shards.

    --init takes over every tensor of RUN whose name and shape the new network has, too, and says how many.

    Example: kineme train sequential-vae/sprites-cpu --data data/sprites --out runs/sprites --minutes 30
    """
    from kineme.pipeline.recipe import load_recipe
    from kineme.pipeline.training import train as run_training

    start = None if init is None else json.dumps(str(init))
    shorthands = {"training.minutes": minutes, "data.cache_gb": cache_gb, "training.init": start}
    given = [f"{key}={value}" for key, value in shorthands.items() if value is not None]
    run_training(load_recipe(recipe, [*(settings or []), *given]), data, out, resume=resume, accelerator=accelerator)
    typer.echo(f"{out}: trained; weights, metrics and samples are there")


def evaluate(
    run: RunArgument,
    data: ShardsOption,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="retrieval, motion-retrieval, disentanglement, disagreement, generation, elbo, linear-probe, "
            "attentive-linear, finetune, prediction or accuracy; the first that fits the run if left out.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="A split of the shards, or LABEL=VALUE or LABEL!=VALUE; if left out the protocol's own, mostly test."
        ),
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="A setting of the protocol's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="JSON", help="Write the figures to a file, too.")] = None,
) -> None:
    """Measure a run on a split and print the figures as JSON.

    A wrong --option lists those that the protocol has.

    Example: kineme evaluate runs/digits --data data/moving-mnist --protocol motion-retrieval --out digits.json
    """
    from kineme.pipeline.commands.options import read_options
    from kineme.pipeline.evaluation import evaluate_run
    from kineme.shards.manifest import write_atomically

    given = read_options(options or [])
    text = json.dumps(evaluate_run(run, data, protocol, split, given), indent=2) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text.encode())
    typer.echo(text, nl=False)


def swap(
    run: RunArgument,
    statics: Annotated[Path, typer.Option(metavar="CLIP", help="Who is shown.")],
    dynamics: Annotated[Path, typer.Option(metavar="CLIP", help="How it moves.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="What to write: .mp4, .gif or .png.")],
) -> None:
    """Draw what one clip shows, moving as another does.

    A .png shows both clips above the result.

    Example: kineme swap runs/sprites --statics a.mp4 --dynamics b.mp4 --out swapped.png
    """
    from kineme.pipeline.clips import check_suffix, write_clip
    from kineme.pipeline.generation import swap as draw
    from kineme.pipeline.pictures import film_strips, save_picture
    from kineme.pipeline.run import load_run

    check_suffix(out)
    strips, fps = draw(load_run(run), statics=statics, dynamics=dynamics)
    if out.suffix.lower() == ".png":
        save_picture(film_strips(list(strips.values()), list(strips)), out)
    else:
        write_clip(strips["result"], fps, out)
    typer.echo(f"{out}: {statics} moving as {dynamics}")


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to make.")] = Path("demo"),
) -> None:
    """Do all of it on built-in data: ingest, train, search, predict, and write a report.

    Example: kineme demo --out demo
    """
    from kineme.pipeline.demo import run_demo

    run_demo(out)
