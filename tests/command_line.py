"""The command line as a test calls it."""

from __future__ import annotations

import sys

import pytest

from kineme.pipeline import cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["kineme", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)
