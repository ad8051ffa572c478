"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: $KINEME_DATA, else ../shared/data beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("KINEME_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set KINEME_DATA")
    return folder
