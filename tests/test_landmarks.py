"""Landmarks of faces from files: 68 points or five, arrays or tables, with gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from face_files import sixty_eight, write_openface

from kineme.shards.errors import DataError
from kineme.shards.media import Footage, UnreadableError
from kineme.shards.sources.landmarks import FileLandmarks, fill_gaps, five_points


def test_five_of_68_points() -> None:
    five = np.random.default_rng(1).uniform(0, 500, (5, 2))
    np.testing.assert_allclose(five_points(sixty_eight(five)), five)


def test_gaps_are_filled_in_time() -> None:
    line = np.arange(12.0)[:, None, None] * np.ones((12, 5, 2))
    holed = line.copy()
    holed[[0, 4, 5, 11]] = np.nan
    filled = fill_gaps(holed)
    np.testing.assert_allclose(filled[1:11], line[1:11])
    np.testing.assert_allclose(filled[[0, 11]], line[[1, 10]])


def test_files_beside_the_video(tmp_path: Path) -> None:
    five = np.random.default_rng(0).uniform(0, 90, (5, 2))
    np.save(tmp_path / "one.npy", five)
    np.save(tmp_path / "many.npy", np.stack([sixty_eight(five)] * 3))
    columns = [f"{axis}_{number}" for number in range(5) for axis in "xy"]
    (tmp_path / "five.csv").write_text(f"{','.join(columns)}\n{','.join(map(str, five.ravel().tolist()))}\n")
    for name, rows in (("one.npy", 1), ("many.npy", 3), ("five.csv", 1)):
        found = FileLandmarks(tmp_path / name).find(_no_reader, 1)
        np.testing.assert_allclose(found, np.repeat(five[None], rows, axis=0))


def _no_reader() -> Footage:
    raise AssertionError("a file of landmarks needs no video")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x_0,y_0\n1,2\n", "no column x_1"),
        ("a.csv", "", "not a CSV file of landmarks"),
        ("a.csv", ",".join(f"{a}_{n}" for n in range(5) for a in "xy") + "\n1,2,3\n", "not a CSV file of landmarks"),
        ("a.csv", ",".join(f"{a}_{n}" for n in range(5) for a in "xy") + "\n" + "b," * 10 + "\n", "not a CSV file"),
        ("a.npy", "hello", "not a NumPy array file"),
    ],
)
def test_a_wrong_landmarks_file_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        FileLandmarks(tmp_path / name).find(_no_reader, 1)
    assert "\n" not in str(caught.value)


def test_landmarks_of_another_shape_or_without_a_face(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 7, 2)))
    with pytest.raises(DataError, match=r"\(4, 7, 2\)"):
        FileLandmarks(tmp_path / "a.npy").find(_no_reader, 1)
    write_openface(tmp_path / "b.csv", np.ones((3, 68, 2)), failed=(0, 1, 2))
    with pytest.raises(UnreadableError, match="no frame with a face"):
        FileLandmarks(tmp_path / "b.csv").find(_no_reader, 1)
