"""Pictures of clips: where things stand, and that the pixels are the clip's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_clips import make_frames
from PIL import Image

from kineme.pipeline.errors import RunError
from kineme.pipeline.pictures import FRAME_HEIGHT, contact_sheet, film_strips, save_picture


def flat(colour: tuple[int, int, int], count: int = 8, size: int = 32) -> np.ndarray:
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (count, size, size, 3))


def columns_of(image: Image.Image, colour: tuple[int, int, int]) -> int:
    """Columns of the picture that hold exactly this colour."""
    return int((np.asarray(image) == colour).all(2).any(0).sum())


@pytest.mark.parametrize(("frames", "wanted", "drawn"), [(8, 8, 8), (20, 8, 8), (3, 8, 3), (8, 4, 4), (1, 8, 1)])
def test_as_many_frames_as_asked_or_as_there_are(frames: int, wanted: int, drawn: int) -> None:
    image = film_strips([flat((250, 10, 10), frames)], ["red"], wanted)
    assert columns_of(image, (250, 10, 10)) == drawn * FRAME_HEIGHT


def test_the_first_and_the_last_frame_are_drawn() -> None:
    clip = np.concatenate([flat((250, 10, 10), 1), flat((0, 0, 0), 30), flat((10, 10, 250), 1)])
    image = film_strips([clip], ["clip"])
    assert columns_of(image, (250, 10, 10)) == columns_of(image, (10, 10, 250)) == FRAME_HEIGHT


def test_small_frames_stay_sharp() -> None:
    """A 48 px frame is enlarged twice exactly: no colour appears that it did not have."""
    clip = np.random.default_rng(0).integers(0, 2, (1, 48, 48, 3)).astype(np.uint8) * 255
    image = np.asarray(film_strips([clip], [""]))
    strip = image[16 : 16 + FRAME_HEIGHT, -16 - FRAME_HEIGHT : -16]
    np.testing.assert_array_equal(strip[::2, ::2], clip[0])
    np.testing.assert_array_equal(strip[1::2, 1::2], clip[0])


def test_clips_of_different_sizes_stand_in_one_picture() -> None:
    clips = [flat((250, 10, 10)), np.zeros((3, 240, 320, 3), dtype=np.uint8), make_frames(3, size=7)]
    image = film_strips(clips, ["small", "large", "tiny"])
    assert image.mode == "RGB"
    assert image.height > 3 * FRAME_HEIGHT


def test_a_caption_shows_and_never_reaches_the_frames() -> None:
    clip = [flat((250, 10, 10))]
    blank, short = film_strips(clip, [""]), film_strips(clip, ["rank 1"])
    long = film_strips(
        clip, ["a headline that is much too long for its column\n" + "and\nmany lines of " * 30 + "x" * 500]
    )
    assert blank.size == short.size == long.size
    changed = [np.nonzero((np.asarray(image) != np.asarray(blank)).any(2)) for image in (short, long)]
    left_of_strip = blank.width - 16 - 8 * FRAME_HEIGHT - 7 * 3
    for rows, columns in changed:
        assert 0 < columns.max() < left_of_strip
        assert rows.max() < 16 + FRAME_HEIGHT + 4


def test_letters_beyond_ascii_are_drawn() -> None:
    clip = [flat((250, 10, 10))]
    drawn = [np.asarray(film_strips(clip, [name])) for name in ("ü", "ж", "\uffff")]
    for other in drawn[1:]:
        assert (drawn[0] != other).any()
    assert (drawn[1] != drawn[2]).any(), "not the box of a missing letter"


def test_the_query_is_set_apart() -> None:
    hits = [(flat((10, 250, 10)), "1    0.99"), (flat((10, 10, 250)), "2    0.98")]
    image = np.asarray(contact_sheet([(flat((250, 10, 10)), "query")], hits))
    rows = [np.nonzero((image == colour).all(2))[0] for colour in ((250, 10, 10), (10, 250, 10), (10, 10, 250))]
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()
    assert rows[1].min() - rows[0].max() > rows[2].min() - rows[1].max()
    beside = image[:, -3]
    assert (beside[rows[0][0]] != 255).any()
    assert (beside[rows[1][0]] == 255).all()


def test_a_query_without_hits_is_still_drawn() -> None:
    assert columns_of(contact_sheet([(flat((250, 10, 10)), "query")], []), (250, 10, 10)) == 8 * FRAME_HEIGHT


@pytest.mark.parametrize(
    ("clips", "captions", "message"),
    [
        ([], [], "at least one clip"),
        ([flat((0, 0, 0))], ["a", "b"], "2 captions for 1 clips"),
        ([np.zeros((8, 8, 3), np.uint8)], ["a"], r"uint8 \(T, H, W, 3\) expected"),
        ([np.zeros((8, 8, 8, 3))], ["a"], "float64"),
        ([np.zeros((0, 8, 8, 3), np.uint8)], ["a"], r"shape \(0, 8, 8, 3\)"),
    ],
)
def test_what_cannot_be_drawn(clips: list[np.ndarray], captions: list[str], message: str) -> None:
    with pytest.raises(RunError, match=message):
        film_strips(clips, captions)


def test_a_picture_is_saved_whole(tmp_path: Path) -> None:
    image = film_strips([make_frames(1)], ["one"])
    save_picture(image, tmp_path / "new folder" / "strip.png")
    with Image.open(tmp_path / "new folder" / "strip.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(image))
    with pytest.raises(RunError, match=r"name it \.png"):
        save_picture(image, tmp_path / "strip.docx")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["strip.png"]
