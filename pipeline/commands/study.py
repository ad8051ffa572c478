"""``kineme study``: studies of the objectives on made-up data, one verb each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def study() -> None:
    """Study an objective on made-up data whose answer is known."""


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
