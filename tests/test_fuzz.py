"""Damaged videos: how the benchmark damages them, what it takes for a failure, and a small run of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FILES = 60

pytestmark = pytest.mark.usefixtures("benchmarks_on_the_path")


@given(data=st.binary(min_size=16, max_size=5000), other=st.binary(min_size=16, max_size=500), seed=st.integers(0, 999))
def test_damage_is_real_and_repeatable(data: bytes, other: bytes, seed: int) -> None:
    from mutations import MUTATIONS, mutate

    first = mutate(data, [data, other], np.random.default_rng(seed))
    assert first == mutate(data, [data, other], np.random.default_rng(seed))
    assert first[0] != data
    assert set(first[1].split("+")) <= MUTATIONS.keys()


def test_every_kind_of_damage_changes_a_file() -> None:
    from mutations import MUTATIONS

    random = np.random.default_rng(0)
    data, other = random.bytes(4000), random.bytes(300)
    for name, damage in MUTATIONS.items():
        assert any(damage(data, [other], random) != data for _ in range(20)), name


def test_a_number_is_always_the_same_file(tmp_path: Path) -> None:
    from fuzz import make_files
    from mutations import write_whole_files

    wholes = write_whole_files(tmp_path)
    for name in ("all", "some"):
        (tmp_path / name).mkdir()
    made = make_files(tmp_path / "all", wholes, range(8), seed=3)
    again = make_files(tmp_path / "some", wholes, range(4, 8), seed=3)
    assert len(made) == 8
    assert again.items() <= made.items()
    for name in again:
        assert (tmp_path / "some" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


@pytest.mark.parametrize(
    ("stored", "rejects", "problem"),
    [
        ({"whole.mp4"}, {"a.mp4": "cut short"}, None),
        ({"whole.mp4", "a.mp4"}, {}, None),
        ({"whole.mp4"}, {}, "a.mp4: neither stored nor rejected"),
        ({"whole.mp4", "a.mp4"}, {"a.mp4": "cut short"}, "a.mp4: stored and rejected"),
        ({"whole.mp4", "a.mp4", "b.mp4"}, {}, "b.mp4: never given"),
        ({"whole.mp4"}, {"a.mp4": " "}, "a.mp4: rejected for no reason"),
        ({"whole.mp4"}, {"a.mp4": "one\ntwo"}, "a.mp4: rejected for no reason of one line"),
        ({"a.mp4"}, {"whole.mp4": "cut short"}, "whole.mp4: undamaged and not stored"),
    ],
)
def test_what_counts_as_a_failure(stored: set[str], rejects: dict[str, str], problem: str | None) -> None:
    from fuzz import account

    problems = account({"a.mp4", "whole.mp4"}, stored, rejects)
    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problems[0].startswith(problem)


def test_damaged_videos_are_stored_or_rejected_with_a_reason(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    command = [sys.executable, BENCHMARKS / "fuzz.py", "--files", FILES, "--seed", 11, "--deadline", 20]
    command += ["--out", out, "--bugs", tmp_path / "bugs"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    metrics = result["metrics"]
    assert (metrics["files"], metrics["lost"], metrics["problems"]) == (FILES, 0, 0)
    assert metrics["stored"] + metrics["rejected"] + metrics["duplicates"] == FILES
    assert sum(result["reasons"].values()) == metrics["rejected"] + metrics["duplicates"]
    assert metrics["stored"] > 0
    assert len(result["reasons"]) > 3
