"""``kineme study``: studies of the objectives, one verb each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def study() -> None:
    """Study an objective: where its best parameters lie, what its schedules do."""


@app.command("elbo-bias")
def elbo_bias(
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder for elbo-bias.json and .png; earlier ones are replaced."),
    ],
    seeds: Annotated[int, typer.Option(metavar="N", help="How often data are drawn.")] = 10,
    clips: Annotated[int, typer.Option(metavar="N", help="Clips that are drawn each time.")] = 2000,
    points: Annotated[int, typer.Option(metavar="N", help="Values of the parameter that are tried.")] = 40,
) -> None:
    """Find how far the parameters that maximise the ELBO are from those that maximise the likelihood.

    On a linear Gaussian sequential VAE, whose likelihood is known (Leplae-Arthur & Nichani, section 3).

    Example: kineme study elbo-bias --out studies/elbo-bias --seeds 10 --clips 2000
    """
    from kineme.pipeline.studies.elbo_bias import main_lines, run_elbo_bias

    for line in main_lines(run_elbo_bias(out, seeds=seeds, clips=clips, points=points)):
        typer.echo(line)
    typer.echo(f"{out}: elbo-bias.json and elbo-bias.png are there")


@app.command("prediction-schedules")
def prediction_schedules(
    data: Annotated[Path, typer.Option("--data", metavar="SHARDS", help="Folder of shards.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder for the runs, prediction-schedules.json and .png."),
    ],
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="Of a predictor with a z: what all runs share.")
    ] = "frame-predictor/moving-digits-cpu",
    minutes: Annotated[float | None, typer.Option(metavar="M", help="Minutes of training of each run.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs of each run, however long they take.")] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Runs of each pair of schedules.")] = 1,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
) -> None:
    """Train a next-frame CVAE with each KL annealing and each teacher forcing, 12 runs, and compare them.

    Measured on clips held out of the training split. Given again, the command goes on with what is missing.

    Example: kineme study prediction-schedules --data data/pushing --out studies/schedules --minutes 10
    """
    from kineme.pipeline.studies.prediction_schedules import run_prediction_schedules, study_recipe, table

    base = study_recipe(recipe, settings or [], minutes=minutes, epochs=epochs)
    for line in table(run_prediction_schedules(base, data, out, seeds=seeds)):
        typer.echo(line)
    typer.echo(f"{out}: prediction-schedules.json and prediction-schedules.png are there")
