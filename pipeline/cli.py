"""The ``kineme`` command: registers the verbs and turns every error into one line and an exit code."""

from __future__ import annotations

import sys
import warnings

import typer

from kineme.pipeline.commands import (
    export,
    indexing,
    ingest,
    learn,
    predict,
    sample,
    search,
    serve,
    shards,
    sources,
    study,
)
from kineme.pipeline.errors import RunError
from kineme.retrieval.errors import RetrievalError
from kineme.shards.errors import DataError

INTERRUPTED = 130

app = typer.Typer(
    name="kineme",
    help="Find video by how it moves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (
    sources.datasets,
    sources.fetch,
    ingest.ingest,
    shards.inspect,
    shards.verify,
    learn.train,
    learn.evaluate,
    indexing.index,
    indexing.add,
    indexing.remove,
    indexing.compact,
    search.query,
    export.export,
    serve.serve,
    predict.predict,
    learn.swap,
    sample.sample,
    learn.demo,
):
    app.command()(command)
app.add_typer(study.app, name="study")


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 the user can mend it, 1 our fault, 130 interrupted.

    ``--debug`` anywhere on the line shows the traceback of whatever goes wrong.
    """
    warnings.formatwarning = _format_warning
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments)
    except SystemExit as stop:
        # Typer's own way to say that a command was interrupted.
        if stop.code == INTERRUPTED:
            _say("interrupted; what was finished is kept, run the same command again to go on", INTERRUPTED)
        raise
    except (DataError, RetrievalError, RunError, OSError) as error:
        if debug:
            raise
        raise SystemExit(_say(_one_line(error), 2)) from None
    except Exception as error:
        if debug:
            raise
        raise SystemExit(
            _say(f"internal error: {type(error).__name__}: {_one_line(error)}; add --debug for the traceback", 1)
        ) from None


def _one_line(error: BaseException) -> str:
    """An error as one line; an OSError by its file and reason rather than by its number."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    """One line, without the place in our source that Python would add."""
    return f"kineme: warning: {' '.join(str(message).split())}\n"


def _say(message: str, code: int) -> int:
    print(f"kineme: {message}", file=sys.stderr)
    return code
