"""The motion layers: maps and their composition, the loss against loops, and what it is the least for."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from kineme.models.motion_layers import MotionLayers, compose, draw_pairs, motion_loss

SIZE = 32
FRAMES = 5
VELOCITIES = ((2, 1), (-1, 1))
"""Of two squares, x before y, pixels a frame."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def translations(shifts: Tensor, size: int) -> Tensor:
    """Maps of shifts (..., 2) in pixels a step, x before y: a place asks where it was."""
    maps = torch.eye(3).repeat(*shifts.shape[:-1], 1, 1)
    maps[..., :2, 2] = -shifts * 2 / size
    return maps


def two_squares() -> Tensor:
    """One clip (1, T, 3, SIZE, SIZE), squares of 5 pixels that do not meet."""
    clip = torch.zeros(1, FRAMES, 3, SIZE, SIZE)
    for (left, top), (dx, dy), colour in zip(((3, 3), (22, 18)), VELOCITIES, (0.9, 0.6), strict=True):
        for t in range(FRAMES):
            y, x = top + dy * t, left + dx * t
            clip[0, t, :, y : y + 5, x : x + 5] = colour
    return clip


def layers_of(*velocities: tuple[float, float]) -> Tensor:
    """Constant motion of each layer: (1, T-1, K, 3, 3)."""
    return translations(torch.tensor(velocities, dtype=torch.float32).expand(1, FRAMES - 1, -1, -1), SIZE)


def all_pairs() -> tuple[Tensor, Tensor]:
    pairs = torch.tensor(list(itertools.combinations(range(FRAMES), 2)))
    return pairs[None, :, 0], pairs[None, :, 1]


def test_a_translation_is_a_shift_in_pixels_of_what_is_seen() -> None:
    """From t to t+1, each step and layer with its own; a positive x is to the right."""
    head = MotionLayers(dynamics_dim=3, clip_frames=4, frame_size=8, layers=2)
    shifts = torch.randint(-2, 3, (1, 3, 2, 2)).float()
    torch.nn.init.zeros_(head.to_maps.weight)
    head.to_maps.bias.data = shifts.flatten()
    maps = head(torch.randn(1, 3))
    assert maps.shape == (1, 3, 2, 3, 3)
    frame = torch.zeros(1, 1, 8, 8)
    frame[0, 0, 3, 4] = 1
    for step, layer in itertools.product(range(3), range(2)):
        grid = F.affine_grid(maps[:, step, layer, :2], [1, 1, 8, 8], align_corners=False)
        dx, dy = shifts[0, step, layer].int().tolist()
        moved = torch.zeros_like(frame)
        moved[0, 0, 3 + dy, 4 + dx] = 1
        torch.testing.assert_close(F.grid_sample(frame, grid, align_corners=False), moved, atol=1e-5, rtol=0)


def test_affine_maps_have_six_numbers_beside_the_identity() -> None:
    head = MotionLayers(dynamics_dim=3, clip_frames=4, frame_size=8, layers=2, affine=True)
    dynamics = torch.randn(5, 3)
    maps = head(dynamics)
    assert maps.shape == (5, 3, 2, 3, 3)
    assert torch.equal(maps[..., 2, :], torch.tensor([0.0, 0, 1]).expand(5, 3, 2, 3))
    expected = head.to_maps(dynamics).view(5, 3, 2, 2, 3) * 2 / 8 + torch.eye(3)[:2]
    torch.testing.assert_close(maps[..., :2, :], expected)


def test_the_head_is_linear() -> None:
    """Near vectors are near motions, and what is between two is their mean."""
    head = MotionLayers(dynamics_dim=3, clip_frames=4, frame_size=8, layers=2)
    one, other = torch.randn(2, 5, 3)
    torch.testing.assert_close(head((one + other) / 2), (head(one) + head(other)) / 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 6), st.integers(1, 3))
def test_a_composed_map_follows_a_place_step_by_step(seed: int, clips: int, frames: int, layers: int) -> None:
    """Backwards in time: from the later frame to the one before, and so on."""
    torch.manual_seed(seed)
    maps = torch.eye(3).repeat(clips, frames - 1, layers, 1, 1)
    maps[..., :2, :] += 0.3 * torch.randn(clips, frames - 1, layers, 2, 3)
    starts, ends = draw_pairs(clips, frames, 4, max_gap=frames)
    composed = compose(maps, starts, ends)
    assert composed.shape == (clips, 4, layers, 3, 3)
    for clip, pair, layer in itertools.product(range(clips), range(4), range(layers)):
        place = expected = torch.tensor([0.3, -0.7, 1.0])
        for step in reversed(range(int(starts[clip, pair]), int(ends[clip, pair]))):
            expected = maps[clip, step, layer] @ expected
        torch.testing.assert_close(composed[clip, pair, layer] @ place, expected, atol=1e-4, rtol=1e-4)


def test_warping_once_is_warping_step_by_step() -> None:
    """With whole pixels, inside of the frame, exactly."""
    frame = torch.zeros(1, 1, SIZE, SIZE)
    frame[..., 9:14, 9:14] = torch.rand(5, 5)
    shifts = torch.tensor([[[[2.0, 1]], [[-1, 1]], [[1, -3]]]])
    maps = translations(shifts, SIZE)

    def warp(image: Tensor, matrix: Tensor) -> Tensor:
        grid = F.affine_grid(matrix[None, :2], list(image.shape), align_corners=False)
        return F.grid_sample(image, grid, align_corners=False)

    stepwise = frame
    for step in range(3):
        stepwise = warp(stepwise, maps[0, step, 0])
    at_once = warp(frame, compose(maps, torch.tensor([[0]]), torch.tensor([[3]]))[0, 0, 0])
    torch.testing.assert_close(at_once, stepwise, atol=1e-5, rtol=0)
    torch.testing.assert_close(at_once, torch.roll(frame, (-1, 2), (2, 3)), atol=1e-5, rtol=0)


def test_translations_add_up() -> None:
    shifts = torch.randn(2, FRAMES - 1, 3, 2)
    starts, ends = (numbers.expand(2, -1) for numbers in all_pairs())
    composed = compose(translations(shifts, SIZE), starts, ends)
    sums = torch.stack([shifts[:, a:b].sum(1) for a, b in zip(starts[0], ends[0], strict=True)], dim=1)
    torch.testing.assert_close(composed, translations(sums, SIZE), atol=1e-5, rtol=1e-5)


def slow_box(image: list[list[float]], side: int) -> list[list[float]]:
    """Means over windows around each place; what is outside counts as zero."""
    half, size = side // 2, len(image)
    means = [[0.0] * size for _ in range(size)]
    for y, x in itertools.product(range(size), repeat=2):
        for v, u in itertools.product(range(y - half, y + half + 1), range(x - half, x + half + 1)):
            if 0 <= v < size and 0 <= u < size:
                means[y][x] += image[v][u] / side**2
    return means


def slow_motion_loss(
    maps: Tensor, frames: Tensor, starts: Tensor, ends: Tensor, still: bool, blur: int, window: int, temperature: float
) -> float:
    size, total, pairs = frames.shape[-1], 0.0, 0
    for clip, pair in itertools.product(range(len(frames)), range(starts.shape[1])):
        a, b = int(starts[clip, pair]), int(ends[clip, pair])
        images = []
        for t in (a, b):
            grey = [[sum(frames[clip, t, :, y, x].tolist()) / 3 for x in range(size)] for y in range(size)]
            for _ in range(blur):
                grey = slow_box(grey, 3)
            images.append(grey)
        layers = [maps[clip, :, k] for k in range(maps.shape[2])] + ([torch.eye(3).expand(b, 3, 3)] if still else [])
        errors = []
        for layer in layers:
            whole = torch.eye(3)
            for step in range(a, b):
                whole = whole @ layer[step]
            squares = [[0.0] * size for _ in range(size)]
            for y, x in itertools.product(range(size), repeat=2):
                u, v, _ = (whole @ torch.tensor([(2 * x + 1) / size - 1, (2 * y + 1) / size - 1, 1])).tolist()
                column, row = ((u + 1) * size - 1) / 2, ((v + 1) * size - 1) / 2
                top, left, value = math.floor(row), math.floor(column), 0.0
                for near_y, near_x in itertools.product((top, top + 1), (left, left + 1)):
                    if 0 <= near_y < size and 0 <= near_x < size:
                        value += (1 - abs(row - near_y)) * (1 - abs(column - near_x)) * images[0][near_y][near_x]
                squares[y][x] = (value - images[1][y][x]) ** 2
            errors.append(slow_box(squares, window))
        for y, x in itertools.product(range(size), repeat=2):
            shares = [math.exp(-error[y][x] / temperature) / len(layers) for error in errors]
            total -= temperature * math.log(sum(shares))
        pairs += 1
    return total / pairs


@pytest.mark.parametrize(
    ("still", "blur", "window", "temperature"), [(False, 2, 5, 0.01), (True, 0, 1, 0.1), (True, 1, 3, 0.003)]
)
def test_the_loss_against_loops(still: bool, blur: int, window: int, temperature: float) -> None:
    frames = torch.rand(2, 3, 3, 7, 7)
    maps = torch.eye(3).repeat(2, 2, 2, 1, 1)
    maps[..., :2, :] += 0.2 * torch.randn(2, 2, 2, 2, 3)
    starts, ends = torch.tensor([[0, 1, 0], [1, 0, 0]]), torch.tensor([[1, 2, 2], [2, 2, 1]])
    options = {"still": still, "blur": blur, "window": window, "temperature": temperature}
    expected = slow_motion_loss(maps, frames, starts, ends, **options)  # type: ignore[arg-type]
    assert float(motion_loss(maps, frames, starts, ends, **options)) == pytest.approx(expected, rel=1e-3)  # type: ignore[arg-type]


def test_the_true_motion_of_two_squares_costs_next_to_nothing() -> None:
    """At most the logarithm of two layers; any wrong motion costs far more."""
    clip, pairs = two_squares(), all_pairs()
    true = float(motion_loss(layers_of(*VELOCITIES), clip, *pairs))
    assert 0 <= true < 0.003 * math.log(2) * SIZE**2
    assert float(motion_loss(layers_of(*VELOCITIES), clip, *pairs, temperature=1e-6)) < 0.01
    for wrong in (
        ((0, 0), (0, 0)),
        ((2, 1), (2, 1)),
        ((-1, 1), (-1, 1)),
        ((-2, -1), (1, -1)),
        ((1, 2), (1, -1)),
        ((2, 1), (0, 0)),
    ):
        assert float(motion_loss(layers_of(*wrong), clip, *pairs)) > true + 1


def test_a_layer_keeps_to_one_thing() -> None:
    """Two layers that change places halfway explain neighbouring frames as well, but no longer stretch."""
    clip = two_squares()
    kept = layers_of(*VELOCITIES)
    swapped = torch.cat([kept[:, :2], kept[:, 2:].flip(2)], dim=1)
    near = (torch.arange(FRAMES - 1)[None], torch.arange(1, FRAMES)[None])
    torch.testing.assert_close(motion_loss(swapped, clip, *near), motion_loss(kept, clip, *near))
    assert float(motion_loss(swapped, clip, *all_pairs())) > float(motion_loss(kept, clip, *all_pairs())) + 1


def test_layers_have_no_order() -> None:
    head = MotionLayers(dynamics_dim=3, clip_frames=FRAMES, frame_size=SIZE, layers=3)
    maps, clips = head(torch.randn(2, 3)), torch.rand(2, FRAMES, 3, SIZE, SIZE)
    starts, ends = draw_pairs(2, FRAMES, 4, max_gap=3)
    loss = motion_loss(maps, clips, starts, ends)
    torch.testing.assert_close(motion_loss(maps[:, :, [2, 0, 1]], clips, starts, ends), loss)


def test_a_still_layer_explains_a_still_scene() -> None:
    clip = torch.rand(1, 1, 3, SIZE, SIZE).expand(1, FRAMES, -1, -1, -1)
    wrong = layers_of((3, 2), (-2, 4))
    without = float(motion_loss(wrong, clip, *all_pairs(), blur=0))
    with_it = float(motion_loss(wrong, clip, *all_pairs(), blur=0, still=True))
    assert with_it <= 0.003 * math.log(3) * SIZE**2 + 1e-4
    assert without > 3 * with_it


def test_gradients_lead_to_the_truth() -> None:
    """From half a pixel away, for each number by itself; and a descent gets nearer."""
    clip, pairs = two_squares(), all_pairs()
    truth = torch.tensor(VELOCITIES, dtype=torch.float32).expand(1, FRAMES - 1, 2, 2)
    shifts = (truth + 0.5 * torch.randn(truth.shape).sign()).requires_grad_()
    optimizer = torch.optim.Adam([shifts], lr=0.02)
    before = (shifts.detach() - truth).abs().mean()
    for step in range(40):
        optimizer.zero_grad()
        motion_loss(translations(shifts, SIZE), clip, *pairs).backward()
        if step == 0:
            assert shifts.grad is not None
            assert (shifts.grad * (shifts.detach() - truth)).sum() > 0
        optimizer.step()
    assert (shifts.detach() - truth).abs().mean() < 0.3 * before


def test_maps_keep_their_precision_under_autocast() -> None:
    maps = torch.eye(3).repeat(2, FRAMES - 1, 2, 1, 1)
    maps[..., :2, :] += 0.05 * torch.randn(2, FRAMES - 1, 2, 2, 3)
    clips = torch.rand(2, FRAMES, 3, SIZE, SIZE)
    starts, ends = draw_pairs(2, FRAMES, 4, max_gap=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = motion_loss(maps, clips, starts, ends)
    assert float(loss) == float(motion_loss(maps, clips, starts, ends))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 9), st.integers(1, 5), st.integers(1, 12), st.data()
)
def test_drawn_pairs_lie_in_the_clip(
    seed: int, clips: int, frames: int, pairs: int, max_gap: int, data: st.DataObject
) -> None:
    """A gap longer than the clip is cut to its length."""
    min_gap = data.draw(st.integers(1, max_gap))
    torch.manual_seed(seed)
    starts, ends = draw_pairs(clips, frames, pairs, min_gap=min_gap, max_gap=max_gap)
    assert starts.shape == ends.shape == (clips, pairs)
    assert starts.dtype == ends.dtype == torch.int64
    assert starts.min() >= 0
    assert ends.max() <= frames - 1
    gaps = ends - starts
    assert gaps.min() >= min(min_gap, frames - 1)
    assert gaps.max() <= min(max_gap, frames - 1)


def test_as_many_pairs_of_neighbours_as_steps_are_all_steps() -> None:
    starts, _ = draw_pairs(50, 8, 7, max_gap=1)
    assert starts.tolist() == [list(range(7))] * 50


def test_every_gap_and_every_start_is_as_likely() -> None:
    starts, ends = draw_pairs(200, 6, 100, min_gap=2, max_gap=4)
    gaps = ends - starts
    for gap in (2, 3, 4):
        of_gap = starts[gaps == gap]
        assert len(of_gap) / starts.numel() == pytest.approx(1 / 3, abs=0.02)
        counts = torch.bincount(of_gap, minlength=6 - gap)
        assert (counts / len(of_gap)).tolist() == pytest.approx([1 / (6 - gap)] * (6 - gap), abs=0.03)
