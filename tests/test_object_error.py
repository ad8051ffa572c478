"""Where predicted frames of simulated pushing show the objects that were pushed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from kineme.pipeline.frames import to_model
from kineme.pipeline.protocols.object_error import SEEN_PX, object_errors
from kineme.shards.sources.pushing import draw_sequence

LENGTH = 12


def sequences(count: int) -> tuple[Tensor, Tensor]:
    """Simulated clips (N, T, 3, 64, 64) uint8 and the centres of their objects (N, T, 4, 2)."""
    videos = [draw_sequence(LENGTH, np.random.default_rng((11, index))) for index in range(count)]
    frames = torch.from_numpy(np.stack([video.frames for video in videos])).movedim(-1, 2)
    return frames, torch.from_numpy(np.stack([video.keypoints for video in videos]))


@pytest.fixture(scope="module")
def scenes() -> tuple[Tensor, Tensor]:
    return sequences(40)


def errors(
    scenes: tuple[Tensor, Tensor], size: int = 64, truth: Tensor | None = None, **drawn: Tensor
) -> dict[str, Tensor]:
    """Between the second frame and the last."""
    frames, places = to_model(scenes[0], size), scenes[1][:, [1, -1]]
    return object_errors(frames[:, 1], frames[:, -1] if truth is None else truth, drawn, places, (64, 64))


@pytest.mark.parametrize("size", [64, 32, 128])
def test_objects_are_found_where_they_are(scenes: tuple[Tensor, Tensor], size: int) -> None:
    last = to_model(scenes[0][:, -1:], size)[:, 0]
    found = errors(scenes, size, _itself=last)
    moved = (scenes[1][:, -1] - scenes[1][:, 1]).norm(dim=-1)
    pushed = int((moved >= 4).sum())
    # The arm hides some of those that it pushes.
    assert 0.8 * pushed < len(found["object_error_px_truth"]) <= pushed
    assert found["object_error_px_truth"].mean() < (0.45 if size == 32 else 0.35)
    assert torch.equal(found["object_error_px_itself"], found["object_error_px_truth"])
    assert (found["objects_found_itself"] == 1).all()
    assert (found["object_error_px_still"] >= 4).all()


def test_blurred_objects_are_found_too(scenes: tuple[Tensor, Tensor]) -> None:
    last = to_model(scenes[0][:, -1:], 64)[:, 0]
    blurred = torch.from_numpy(gaussian_filter(last.numpy(), (0, 0, 1.5, 1.5)))
    found = errors(scenes, _blurred=blurred)
    assert found["objects_found_blurred"].mean() > 0.95
    assert (found["object_error_px_blurred"] - found["object_error_px_truth"]).abs().median() < 0.2


def test_objects_that_stayed_are_off_by_their_way(scenes: tuple[Tensor, Tensor]) -> None:
    before = to_model(scenes[0][:, 1:2], 64)[:, 0]
    found = errors(scenes, _copied=before)
    assert (found["object_error_px_copied"] - found["object_error_px_still"]).abs().median() < 0.5


def test_objects_that_are_not_drawn_have_stayed(scenes: tuple[Tensor, Tensor]) -> None:
    frames = to_model(scenes[0][:, -1:], 64)[:, 0]
    table = frames.flatten(2).median(dim=2).values[:, :, None, None].expand_as(frames)
    found = errors(scenes, _empty=table)
    assert (found["objects_found_empty"] == 0).all()
    assert torch.equal(found["object_error_px_empty"], found["object_error_px_still"])


def test_objects_that_the_true_frame_hides_do_not_count(scenes: tuple[Tensor, Tensor]) -> None:
    """A grey bar over the left half of each true frame."""
    truth = to_model(scenes[0][:, -1:], 64)[:, 0]
    truth[..., :32] = 0.5
    x, moved = scenes[1][:, -1, :, 0], (scenes[1][:, -1] - scenes[1][:, 1]).norm(dim=-1) >= 4
    whole, half = errors(scenes), errors(scenes, truth=truth)
    assert (half["object_error_px_truth"] <= SEEN_PX).all()
    assert len(half["object_error_px_truth"]) <= (moved & (x > 31.5 - SEEN_PX)).sum() < moved.sum()
    assert len(half["object_error_px_truth"]) < len(whole["object_error_px_truth"])


def test_still_scenes_have_no_objects_to_look_for(scenes: tuple[Tensor, Tensor]) -> None:
    frames, places = scenes
    still = places[:, 1:2].expand(-1, LENGTH, -1, -1)
    assert {len(values) for values in errors((frames, still), _any=frames[:, -1] / 255).values()} == {0}
