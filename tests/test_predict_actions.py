"""``kineme predict --actions``: which row leads to which frame, and files that do not fit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from predictions import films, untrained
from tiny_runs import PREDICTOR
from video_files import write_video

from kineme.models.next_frames import rollout
from kineme.pipeline.errors import RunError
from kineme.pipeline.prediction import predict
from kineme.pipeline.run import Run


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A predictor that wants two numbers a frame, an action and a state; no built-in data has them."""
    folder = tmp_path_factory.mktemp("conditioned")
    return untrained(PREDICTOR, folder, "model.condition_dim=2", "objective.action_columns=1", "data.fps=25")


@pytest.fixture(scope="module")
def clip(digits: Path) -> Path:
    return min((digits / "videos" / "test").glob("*.mp4"))


def test_actions_lead_to_the_next_frame_and_states_stay(conditioned: Run, clip: Path, tmp_path: Path) -> None:
    """Against the model, given c_t = (action at frame t - 1, state at frame t)."""
    stored = np.random.default_rng(0).normal(size=(9, 2))
    # Two rows more than needed: they are not used.
    np.save(tmp_path / "actions.npy", stored)
    drawn = films(predict(conditioned, clip, context=3, horizon=4, actions=tmp_path / "actions.npy"))
    condition = np.array([[stored[t - 1, 0] if t else 0, stored[t, 1]] for t in range(7)], np.float32)
    with torch.no_grad():
        expected = rollout(
            conditioned.task.model,
            drawn[:, :3],
            4,
            torch.from_numpy(condition)[None],
            generator=torch.Generator().manual_seed(0),
        )
        assert torch.equal(drawn[:, 3:], torch.stack(list(expected), dim=1))
    # Whole numbers are as good as others.
    np.save(tmp_path / "actions.npy", np.full((7, 2), 5, np.int16))
    whole = films(predict(conditioned, clip, context=3, horizon=4, actions=tmp_path / "actions.npy"))
    assert not torch.equal(drawn, whole)


def test_actions_that_do_not_fit(conditioned: Run, clip: Path, tmp_path: Path) -> None:
    broken = np.zeros((6, 2))
    broken[4, 1] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    np.save(tmp_path / "inf.npy", np.where(np.isnan(broken), np.inf, 0))
    np.save(tmp_path / "huge.npy", np.where(np.isnan(broken), 1e300, 0))
    np.save(tmp_path / "short.npy", np.zeros((5, 2)))
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    np.save(tmp_path / "wide.npy", np.zeros((6, 3)))
    np.save(tmp_path / "flat.npy", np.zeros(12))
    np.save(tmp_path / "words.npy", np.full((6, 2), "left"))
    np.save(tmp_path / "objects.npy", np.array([[1, None]] * 6), allow_pickle=True)
    np.savez(tmp_path / "several.npy.npz", np.zeros((6, 2)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "flat.npy").read_bytes()[:-8])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "several.npy.npz").read_bytes()[:-8])
    (tmp_path / "text.npy").write_text("0 0\n" * 6)
    (tmp_path / "empty.npy").touch()
    cases = {
        "absent.npy": "there is no such file",
        "nan.npy": r"row 4 is \[0.0, nan\], but actions are finite",
        "inf.npy": r"row 4 is \[0.0, inf\], but actions are finite",
        "huge.npy": r"row 4 is \[0.0, 1e\+300\], but actions are finite 32-bit numbers",
        "short.npy": r"actions of shape \(5, 2\), but 6 frames need \(6, 2\)",
        "none.npy": r"actions of shape \(0, 2\)",
        "wide.npy": r"actions of shape \(6, 3\), but 6 frames need \(6, 2\)",
        "flat.npy": r"actions of shape \(12,\)",
        "words.npy": "an array of <U4, not of numbers",
        "objects.npy": "not a NumPy array of numbers",
        "several.npy.npz": "not a NumPy array of numbers",
        "cut.npy": "not a NumPy array of numbers",
        "cut.npz": "not a NumPy array of numbers",
        "text.npy": "not a NumPy array of numbers",
        "empty.npy": "not a NumPy array of numbers",
    }
    for name, message in cases.items():
        with pytest.raises(RunError, match=message) as error:
            predict(conditioned, clip, actions=tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(error.value)
    with pytest.raises(RunError, match=r"--actions is missing: .* 2 numbers a frame; give \(6, 2\)"):
        predict(conditioned, clip)


def test_actions_of_another_rate(conditioned: Run, tmp_path: Path) -> None:
    """The row that leads to a frame is not the one before it where frames were left out."""
    np.save(tmp_path / "actions.npy", np.zeros((6, 2)))
    write_video(tmp_path / "clip.mp4", fps=50)
    with pytest.raises(RunError, match=r"50 frames a second are sampled at the 25 of the training.*give a clip of 25"):
        predict(conditioned, tmp_path / "clip.mp4", actions=tmp_path / "actions.npy")


def test_of_a_long_file_of_actions_only_what_is_needed_is_read(conditioned: Run, clip: Path, tmp_path: Path) -> None:
    # 160 MB that take no room on disk.
    np.lib.format.open_memmap(tmp_path / "long.npy", "w+", np.float64, (10_000_000, 2)).flush()
    tracemalloc.start()
    films(predict(conditioned, clip, actions=tmp_path / "long.npy"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
