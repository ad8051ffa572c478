"""``kineme inspect RUN CLIP`` and ``kineme swap`` of statics/dynamics runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import write_video

from kineme.pipeline import cli
from kineme.pipeline.clips import read_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.generation import look_inside, swap
from kineme.pipeline.run import Run, load_run
from kineme.shards.errors import DataError

FRAMES = 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(statics_run: Path) -> Run:
    return load_run(statics_run, CPU)


@pytest.fixture(scope="module")
def clips(digits: Path) -> list[Path]:
    return sorted((digits / "videos").rglob("*.mp4"))[:2]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kineme", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def as_frames(drawn: torch.Tensor) -> np.ndarray:
    return (drawn.clamp(0, 1) * 255).round().movedim(1, -1).numpy()


def test_what_is_inside_against_the_networks(run: Run, clips: list[Path]) -> None:
    strips = look_inside(run, clips[0])
    assert list(strips) == ["truth", "first warped", "S", "S warped", "reconstruction"]
    assert all(strip.shape == (FRAMES, 32, 32, 3) and strip.dtype == np.uint8 for strip in strips.values())
    np.testing.assert_array_equal(strips["truth"], read_clip(clips[0], clip_frames=FRAMES, frame_size=32).frames)
    model = run.task.model
    frames = torch.from_numpy(strips["truth"]).movedim(-1, 1) / 255
    with torch.no_grad():
        statics, _ = model.video_encoder(frames[None])
        expected = {"S": as_frames(model.transformer.decode(statics)).repeat(FRAMES, 0)}
        repeated = statics.expand(FRAMES, -1, -1, -1)
        features = model.transformer.encode(frames)
        for name, source in (("S warped", repeated), ("first warped", features[:1].expand(FRAMES, -1, -1, -1))):
            expected[name] = as_frames(model.transformer.decode(model.transformer.match(source, features)))
        p = model.frame_model.encode(frames, repeated)
        expected["reconstruction"] = as_frames(model.frame_model.decode(p, repeated))
    for name, strip in expected.items():
        assert np.abs(strips[name] - strip).max() <= 1


def test_a_swap_takes_s_of_one_and_p_of_the_other(run: Run, clips: list[Path]) -> None:
    strips, fps = swap(run, statics=clips[0], dynamics=clips[1])
    assert list(strips) == ["statics", "dynamics", "result"]
    assert all(strip.shape == (FRAMES, 32, 32, 3) for strip in strips.values())
    assert fps == read_clip(clips[1], clip_frames=FRAMES, frame_size=32).fps
    model = run.task.model
    shown, moving = (torch.from_numpy(strips[name]).movedim(-1, 1)[None] / 255 for name in ("statics", "dynamics"))
    with torch.no_grad():
        statics, _ = model.video_encoder(shown)
        of_moving, _ = model.video_encoder(moving)
        p = model.frame_model.encode(moving[0], of_moving.expand(FRAMES, -1, -1, -1))
        expected = as_frames(model.frame_model.decode(p, statics.expand(FRAMES, -1, -1, -1)))
    assert np.abs(strips["result"] - expected).max() <= 1
    back, _ = swap(run, statics=clips[1], dynamics=clips[0])
    assert not np.array_equal(back["result"], strips["result"])


def test_inspect_draws_a_picture(
    statics_run: Path, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sheet = tmp_path / "inside.png"
    assert call(monkeypatch, "inspect", statics_run, clips[0], "--sheet", sheet) == 0
    assert capsys.readouterr().out == f"{sheet}: truth, first warped, S, S warped, reconstruction of {clips[0]}\n"
    with Image.open(sheet) as picture:
        assert min(picture.size) > 100


@pytest.mark.parametrize("suffix", [".png", ".mp4"])
def test_swap_writes_a_file(
    suffix: str, statics_run: Path, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"swapped{suffix}"
    assert call(monkeypatch, "swap", statics_run, "--statics", clips[0], "--dynamics", clips[1], "--out", out) == 0
    assert out.stat().st_size > 500


def test_errors_are_one_line(
    statics_run: Path,
    encoder_run: Path,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    short = tmp_path / "short.mp4"
    write_video(short, FRAMES - 1, size=(32, 32))
    sheet = ("--sheet", tmp_path / "inside.png")
    cases = [
        (("inspect", statics_run, clips[0]), "is a picture: give --sheet PNG"),
        (("inspect", statics_run, clips[0], "--sheet", "x.png", "--json"), "is a picture: give --sheet PNG"),
        (("inspect", encoder_run, clips[0], *sheet), "a sequential-vae run has no S and p_t to show"),
        (("inspect", statics_run, tmp_path / "absent.mp4", *sheet), "absent.mp4"),
        (("inspect", statics_run, short, *sheet), "short.mp4"),
        (("inspect", tmp_path, clips[0], *sheet), "no run here"),
        (("inspect", statics_run), "is a run; give a CLIP"),
    ]
    for arguments, expected in cases:
        assert call(monkeypatch, *arguments) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1
    assert not sheet[1].exists()


def test_errors_of_the_functions(run: Run, encoder_run: Path, predictor_run: Path, clips: list[Path]) -> None:
    with pytest.raises(RunError, match="give one of statics-dynamics"):
        look_inside(load_run(encoder_run, CPU), clips[0])
    with pytest.raises(RunError, match="give a run of a statics-dynamics or sequential-vae recipe"):
        swap(load_run(predictor_run, CPU), statics=clips[0], dynamics=clips[1])
    with pytest.raises(DataError, match=r"absent\.mp4"):
        swap(run, statics=clips[0], dynamics=clips[1].with_name("absent.mp4"))
