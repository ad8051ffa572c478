"""The demo, as small as it can be: every step of the program, one after the other."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from kineme.pipeline.demo import DemoSize, run_demo
from kineme.pipeline.errors import RunError
from kineme.pipeline.report import PICTURES, Figure

SETTINGS = ("training.epochs=1", "training.minutes=null", "data.batch_size=8", "model.width=2", "model.hidden_dim=8")
SIZE = DemoSize(
    clips=60,
    train_fraction=0.4,
    encoder_settings=(*SETTINGS, "model.latent_channels=8", "model.dynamics_dim=4", "model.frame_dim=2"),
    predictor_settings=(*SETTINGS, "model.frame_size=32", "model.feature_dim=8", "model.latent_dim=2"),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Figure]]]:
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run_demo(out, SIZE)


def test_metrics_have_their_names(demo: tuple[Path, list[Figure]]) -> None:
    out, figures = demo
    content = json.loads((out / "metrics.json").read_text())
    metrics = content["metrics"]
    assert metrics.keys() >= {
        "motion/precision_at_10",
        "motion/chance",
        "motion/raw_pixels",
        "appearance/precision_at_10",
        "appearance/chance",
        "appearance/raw_pixels",
        "motion/leak/precision_at_10",
        "appearance/leak/precision_at_10",
        "prediction/psnr",
        "prediction/psnr_copy_last",
    }
    assert all(0 <= value <= 1 for name, value in metrics.items() if not name.startswith("prediction"))
    assert content["goals"]["prediction/psnr"]["goal"] == pytest.approx(metrics["prediction/psnr_copy_last"] + 1)
    assert content["goals"]["motion/precision_at_10"]["goal"] == pytest.approx(3 * metrics["motion/chance"])
    assert {figure.name: figure.value for figure in figures}.items() <= metrics.items()
    assert all(seconds >= 0 for seconds in content["seconds"].values())
    assert content["seconds"].keys() >= {"ingest", "train the encoder", "train the predictor", "measure retrieval"}


def test_the_report_holds_every_figure_and_picture(demo: tuple[Path, list[Figure]]) -> None:
    out, figures = demo
    page = (out / "report.html").read_text()
    for figure in figures:
        assert figure.title in page
        assert figure.show(figure.value) in page
        assert all(figure.show(value) in page for value in figure.baselines.values())
    inside = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)]
    assert inside == [(out / "pictures" / f"{name}.png").read_bytes() for name in PICTURES]
    for picture in inside:
        with Image.open(io.BytesIO(picture)) as opened:
            opened.load()
            assert opened.width > 100
    # One file, which shows all of it without a network.
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert (out / "pictures" / "prediction.mp4").stat().st_size > 0


def test_again_over_the_same_folder(demo: tuple[Path, list[Figure]], capsys: pytest.CaptureFixture[str]) -> None:
    out, first = demo
    kept = sorted((out / "shards").glob("*.tar"))
    written = [path.stat().st_mtime_ns for path in kept]
    second = run_demo(out, SIZE)
    assert [path.stat().st_mtime_ns for path in kept] == written
    assert [figure.name for figure in second] == [figure.name for figure in first]
    printed = capsys.readouterr().out
    assert all(figure.line() in printed for figure in second)


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(RunError, match=r"holds holiday\.mp4, which no demo made"):
        run_demo(tmp_path, SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.mp4", "runs"]
