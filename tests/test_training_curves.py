"""The curves of a run: what is drawn over what."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from kineme.pipeline.training_curves import draw_curves, read_curves

LOGGED = """beta,epoch,loss,nonfinite_steps,stage,step,validation/psnr
0.0,0.5,3.0,0.0,1.0,19,
0.1,1.0,2.0,0.0,1.0,39,
,1.0,,,,39,17.5
0.2,1.5,1.5,2.0,1.0,59,
"""
WHOLE_EPOCHS = """epoch,loss,step
0,3.0,19
0,2.0,39
1,1.0,59
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "metrics.csv"
    path.write_text(text)
    return path


def test_quantities_over_the_epochs_the_loss_first(tmp_path: Path) -> None:
    curves = read_curves(write(tmp_path, LOGGED))
    assert curves.by_epoch
    assert curves.end == 1.5
    assert list(curves.points.items()) == [
        ("loss", [(0.5, 3.0), (1.0, 2.0), (1.5, 1.5)]),
        ("beta", [(0.5, 0.0), (1.0, 0.1), (1.5, 0.2)]),
        ("nonfinite_steps", [(0.5, 0.0), (1.0, 0.0), (1.5, 2.0)]),
        ("validation/psnr", [(1.0, 17.5)]),
    ]


def test_over_the_steps_where_many_share_an_epoch(tmp_path: Path) -> None:
    curves = read_curves(write(tmp_path, WHOLE_EPOCHS))
    assert not curves.by_epoch
    assert curves.points == {"loss": [(19, 3.0), (39, 2.0), (59, 1.0)]}


def test_what_a_killed_run_left(tmp_path: Path) -> None:
    """Half a line, and steps that were done again after it."""
    again = "0.3,1.0,7.0,0.0,1.0,39,\n0.4,1.5,6.0,0.0,1.0,59,\n"
    curves = read_curves(write(tmp_path, f"{LOGGED}0.2,2.\n{again}0.5,2.0,5.0,0.0"))
    assert curves.points["loss"] == [(0.5, 3.0), (1.0, 7.0), (1.5, 6.0)]
    assert curves.points["beta"] == [(0.5, 0.0), (1.0, 0.3), (1.5, 0.4)]


@pytest.mark.parametrize("text", [None, "", "epoch,loss,step\n"])
def test_nothing_is_drawn_where_nothing_is_logged(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        write(tmp_path, text)
    draw_curves({"": tmp_path / "metrics.csv"}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("loss", ["nan", "inf", "0", "-1", "1e-30"])
def test_odd_values_are_drawn(loss: str, tmp_path: Path) -> None:
    path = write(tmp_path, LOGGED.replace("1.0,2.0,", f"1.0,{loss},"))
    draw_curves({"one": path, "other": path}, tmp_path / "deep" / "curves.png")
    with Image.open(tmp_path / "deep" / "curves.png") as picture:
        # Two rows of four panels.
        assert picture.size == (1080, 420)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
