"""The bias study: where curves are highest, the signs that it finds, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import call
from PIL import Image
from scipy import stats

from kineme.pipeline.studies import elbo_bias
from kineme.pipeline.studies.elbo_bias import Setting, figures, interval, measure, peak


def test_peak_lies_between_the_points() -> None:
    grid = torch.logspace(-1, 1, 15, dtype=torch.float64)
    tops = torch.tensor([0.37, 1.0, 2.2], dtype=torch.float64)
    places, at_end = peak(grid, -((grid.log() - tops.log().unsqueeze(1)) ** 2))
    torch.testing.assert_close(places, tops)
    assert not at_end.any()


def test_peak_at_an_end_of_the_grid_is_said() -> None:
    grid = torch.logspace(-1, 1, 15, dtype=torch.float64)
    places, at_end = peak(grid, torch.stack([-grid, grid, -(grid.log() ** 2)]))
    torch.testing.assert_close(places, torch.tensor([0.1, 10.0, 1.0], dtype=torch.float64))
    assert at_end.tolist() == [True, True, False]


def test_interval_is_students() -> None:
    values = torch.tensor([0.2, 0.5, 0.1, 0.9], dtype=torch.float64)
    mean, lowest, highest = interval(values)
    expected = stats.ttest_1samp(values.numpy(), 0).confidence_interval(0.95)
    assert mean == pytest.approx(0.425)
    assert (lowest, highest) == pytest.approx((expected.low, expected.high))


SETTINGS = (
    Setting("sigma_x", 0.5),
    Setting("sigma_z", 0.5),
    Setting("sigma_z", 1.0),
    Setting("sigma_z", 0.5, 1.0),
    Setting("sigma_z", 1.0, 1.0),
)


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    measured = measure(SETTINGS, seeds=3, clips=4000, points=16)
    return {name: value for curves in measured for name, value in figures(curves).items()}


def test_observation_noise_is_overestimated(found: dict[str, float]) -> None:
    assert found["elbo_bias/sigma_f_2/sigma_x/0.5/lowest"] > 0.2
    assert found["elbo_bias/sigma_f_2/sigma_x/0.5/argmax_log_likelihood"] == pytest.approx(0.5, abs=0.05)
    assert found["elbo_bias/sigma_f_2/sigma_x/0.5/at_end"] == 0


def test_dynamical_noise_is_underestimated(found: dict[str, float]) -> None:
    assert found["elbo_bias/sigma_f_1/sigma_z/0.5/bias"] < -0.03
    assert found["elbo_bias/sigma_f_2/sigma_z/0.5/highest"] < -0.3
    assert found["elbo_bias/sigma_f_2/sigma_z/1/bias"] < -0.3


def test_dynamical_noise_is_overestimated_where_content_varies_as_little(found: dict[str, float]) -> None:
    """Not what the paper reports: at sigma_f = sigma_z = 1 the sign is the other one, told t or not."""
    assert found["elbo_bias/sigma_f_1/sigma_z/1/lowest"] > 0.1
    assert found["elbo_bias/sigma_f_1/sigma_z/1/bias_told_t"] > 0.05


def test_a_finer_grid_finds_the_same(found: dict[str, float]) -> None:
    (fine,) = measure(SETTINGS[:1], seeds=3, clips=4000, points=60)
    for part in ("bias", "argmax_elbo", "argmax_log_likelihood"):
        name = f"elbo_bias/sigma_f_2/sigma_x/0.5/{part}"
        assert figures(fine)[name] == pytest.approx(found[name], abs=0.01)


def test_command_writes_figures_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(elbo_bias, "SIGMA_F", (1.0, 2.0))
    out = tmp_path / "made" / "here"
    assert call(monkeypatch, "study", "elbo-bias", "--out", out, "--seeds", 2, "--clips", 300, "--points", 12) == 0
    assert sorted(path.name for path in out.iterdir()) == ["elbo-bias.json", "elbo-bias.png"]
    result = json.loads((out / "elbo-bias.json").read_text())
    assert result["study"] == "elbo-bias"
    assert {name: result["settings"][name] for name in ("seeds", "clips", "points")} == {
        "seeds": 2,
        "clips": 300,
        "points": 12,
    }
    assert result["command"].startswith("kineme study elbo-bias")
    assert result["device"].startswith("CPU")
    assert {"date", "seconds", "versions"} <= result.keys()
    metrics, curves = result["metrics"], result["curves"]
    assert len(curves) == 10
    assert len(metrics) == 80
    for name, curve in curves.items():
        place = f"elbo_bias/{name}"
        difference = metrics[f"{place}/argmax_elbo"] - metrics[f"{place}/argmax_log_likelihood"]
        assert metrics[f"{place}/bias"] == pytest.approx(difference, abs=1e-5)
        assert metrics[f"{place}/lowest"] <= metrics[f"{place}/bias"] <= metrics[f"{place}/highest"]
        assert {len(values) for values in curve.values()} == {12}
        assert all(low < high for low, high in zip(curve["elbo"], curve["log_likelihood"], strict=True))
    picture = Image.open(out / "elbo-bias.png")
    assert picture.size == (1100, 660)
    assert len(picture.getcolors(1 << 20)) > 20
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert f"true sigma_x 0.3: the ELBO is highest {metrics['elbo_bias/sigma_f_2/sigma_x/0.3/bias']:+.3f}" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds", "1"], "--seeds 1: 2 to 100 expected"),
        (["--clips", "0"], "--clips 0: 100 to 1000000 expected"),
        (["--clips", "100000000000"], "--clips 100000000000: 100 to 1000000 expected"),
        (["--points", "3"], "--points 3: 10 to 100 expected"),
        (["--out", "FILE/below"], "FILE"),
    ],
)
def test_an_error_of_the_user_is_one_line_and_two(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    out = [] if "--out" in arguments else ["--out", "OUT"]
    assert call(monkeypatch, "study", "elbo-bias", *out, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kineme: ")
    assert expected in line
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def test_help_has_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "study", "elbo-bias", "--help") == 0
    assert "Example: kineme study elbo-bias" in capsys.readouterr().out
    assert call(monkeypatch, "study", "--help") == 0
    assert "elbo-bias" in capsys.readouterr().out
