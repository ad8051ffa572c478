"""torch.compile where it cannot work: one line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kineme.pipeline.errors import RunError


@contextmanager
def compiling(asked: str, mend: str) -> Iterator[None]:
    """Around the first use of what was compiled.

    Args:
        asked: what made it compile, such as ``training.compile is true``.
        mend: what the user can do.

    Raises:
        RunError: torch cannot compile here.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise
        reason = str(error).splitlines()[0]
        raise RunError(f"{asked}, but torch cannot compile here: {reason}; {mend}") from error
