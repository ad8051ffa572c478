"""``kineme predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run of a frame-predictor or kernel-predictor recipe.")],
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video, or a folder of numbered images.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="What to write: .mp4, .gif or .png.")],
    context: Annotated[
        int | None, typer.Option(metavar="N", help="True frames to start from; as in the training if left out.")
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            metavar="M",
            help="Frames to draw, at most 1000 without --stream; if left out, as many as follow the context in a clip "
            "of the training.",
        ),
    ] = None,
    actions: Annotated[
        Path | None,
        typer.Option(
            metavar="NPY",
            help="(N + M, A) numbers, for a run trained with actions: row t has the action taken at frame t, which "
            "leads to frame t + 1, and the state there. Rows beyond are not used.",
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(metavar="K", help="Futures to draw, of a run with a z: those of the seeds S, S + 1 and so on."),
    ] = 1,
    spread: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Draw, too, how far the samples lie apart: their mean, and their standard deviation as a heat map.",
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Any horizon: the .mp4 is written while frames are drawn, none is kept.")
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the step from frame to frame first, for a minute: for thousands of frames."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(metavar="S", help="Another seed draws another future.")] = 0,
) -> None:
    """Draw the frames that follow the first frames of a clip.

    A video is sampled at the rate of the clips that the run was trained on; of numbered images each is a frame. The
    middle square is resized to the run's size. A .png has a row for each sample, below the truth as far as the
    clip goes; .mp4 and .gif have the samples alone, in a grid.

    Example: kineme predict runs/predictor clip.mp4 --context 4 --horizon 8 --samples 5 --spread sure.png --out next.png

    Example: kineme predict runs/pushing clip.mp4 --actions plan.npy --horizon 5000 --stream --out long.mp4
    """
    from kineme.pipeline.prediction import count_of
    from kineme.pipeline.prediction import predict as start
    from kineme.pipeline.prediction_pictures import check_files, write_prediction
    from kineme.pipeline.run import load_run

    check_files(out, clip=clip, samples=samples, spread=spread, stream=stream)
    prediction = start(
        load_run(run),
        clip,
        context=context,
        horizon=horizon,
        actions=actions,
        samples=samples,
        seed=seed,
        stream=stream,
        compiled=compiled,
    )
    for note in prediction.notes:
        typer.echo(note, err=True)
    write_prediction(prediction, out, spread)
    futures = "" if samples == 1 else f", {samples} times"
    typer.echo(f"{out}: {count_of(prediction.context, 'frame')} given and {prediction.horizon} drawn{futures}")
    if spread is not None:
        typer.echo(f"{spread}: how far they lie apart")
