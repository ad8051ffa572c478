"""``kineme serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kineme.pipeline.commands.options import IndexFolder


def serve(
    index: IndexFolder,
    predictor: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run of a frame-predictor or kernel-predictor recipe: draws what comes next."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Run of a sequential-vae or statics-dynamics recipe: swaps looks and motion, and moves latent "
            "dimensions.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; one that other machines reach needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="KINEME_TOKEN",
            show_envvar=True,
            help="What clients must show, as Authorization: Bearer TOKEN; browsers ask for it once. Others on this "
            "machine can read a command line: the variable is safer.",
        ),
    ] = None,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.001, max=1e6, help="Megabytes (2^20 bytes) of an upload.")
    ] = 64.0,
    max_uploads: Annotated[int, typer.Option(min=1, help="Uploads in work at once; more are sent away.")] = 8,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of a frame of an upload.")] = 3840 * 2160,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of an upload.")] = 600.0,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds in which an upload must be decoded, and a third without a frame.")
    ] = 30.0,
    memory_gb: Annotated[float, typer.Option(max=1e6, help="Memory of a decoder process.")] = 2.0,
) -> None:
    """Search an index over HTTP, by programs and by a web page.

    Example: kineme serve indexes/sprites --predictor runs/predictor --run runs/sprites --port 8000

    Then open http://127.0.0.1:8000, or: curl -F file=@clip.mp4 -F by=motion http://127.0.0.1:8000/search

    Everything but the page is described at /openapi.json. Uploads are decoded in a process of their own, and kept
    nowhere. When the index changes, the service goes on with the new one.
    """
    from kineme.retrieval.service.settings import ServiceSettings, check_address

    check_address(host, token)
    settings = ServiceSettings(token=token, upload_bytes=int(max_upload_mb * (1 << 20)), uploads=max_uploads)
    from kineme.pipeline.server import Bind, run_service
    from kineme.shards.decode_pool import Limits
    from kineme.shards.decode_video import Bounds

    run_service(
        index,
        settings,
        Bind(host, port),
        limits=Limits(silence_s=deadline / 3, memory_bytes=int(memory_gb * (1 << 30)), total_s=deadline),
        bounds=Bounds(pixels=max_pixels, seconds=max_seconds),
        predictor=predictor,
        run=run,
        say=typer.echo,
    )
