"""The objectives 7.3, 7.4 and Weizmann's against loops over clips, frames and pixels, and what they train."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kineme.models.statics_dynamics import (
    StaticsDynamics,
    StaticsDynamicsConfig,
    closeness_loss,
    frame_loss,
    statics_loss,
)

CLIPS, STEPS, SIZE = 2, 3, 16


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def model() -> StaticsDynamics:
    """Its localisation networks have left the identity."""
    model = StaticsDynamics(StaticsDynamicsConfig(SIZE, STEPS, 2, 8, 2, 6, 4, 8))
    for localiser in model.transformer.stn.localisers:
        torch.nn.init.normal_(localiser[-1].weight, std=0.05)
    return model


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(CLIPS, STEPS, 3, SIZE, SIZE)


@pytest.fixture
def statics() -> Tensor:
    return torch.randn(CLIPS, 8, 2, 2, requires_grad=True)


def slow_squared_error(one: Tensor, other: Tensor) -> float:
    """Of two (C, H, W), summed over everything."""
    assert one.shape == other.shape
    places = itertools.product(*map(range, one.shape))
    return sum((float(one[c, y, x]) - float(other[c, y, x])) ** 2 for c, y, x in places)


def reached(model: StaticsDynamics, loss: Tensor) -> set[str]:
    """Names of the parameters that get a gradient."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def parameters_of(model: StaticsDynamics, *parts: str) -> set[str]:
    names = {name for name, _ in model.named_parameters() if name.startswith(tuple(f"{part}." for part in parts))}
    assert names
    return names


def test_shapes_and_what_p_is_told(model: StaticsDynamics, frames: Tensor) -> None:
    encoding = model.encode(frames)
    assert encoding.statics.shape == (CLIPS, 8, 2, 2)
    assert encoding.dynamics.shape == (CLIPS, 6)
    assert encoding.frame_dynamics.shape == (CLIPS, STEPS, 4)
    drawn = model.draw(encoding.frame_dynamics, encoding.statics)
    assert drawn.shape == model.warp_statics(frames, encoding.statics).shape == frames.shape
    assert model.draw_statics(encoding.statics).shape == (CLIPS, 3, SIZE, SIZE)
    for clip, step in itertools.product(range(CLIPS), range(STEPS)):
        own = encoding.statics[clip : clip + 1]
        p = model.frame_model.encode(frames[clip, step][None], own)
        torch.testing.assert_close(encoding.frame_dynamics[clip, step], p[0])
        torch.testing.assert_close(drawn[clip, step], model.frame_model.decode(p, own)[0])


def test_objective_7_3_against_loops(model: StaticsDynamics, frames: Tensor, statics: Tensor) -> None:
    total, transformer = 0.0, model.transformer
    with torch.no_grad():
        for clip, step in itertools.product(range(CLIPS), range(STEPS)):
            own, frame = statics[clip : clip + 1], frames[clip, step]
            maps = transformer.stn(own, transformer.encode(frame[None]))
            total += slow_squared_error(transformer.decode(transformer.stn.warp(own, maps))[0], frame)
    loss = float(statics_loss(model, frames, statics).detach())
    assert loss == pytest.approx(total / (CLIPS * STEPS), rel=1e-4)


def test_objective_7_4_against_loops(model: StaticsDynamics, frames: Tensor, statics: Tensor) -> None:
    total = 0.0
    with torch.no_grad():
        for clip, step in itertools.product(range(CLIPS), range(STEPS)):
            own, frame = statics[clip : clip + 1], frames[clip, step]
            p = model.frame_model.encode(frame[None], own)
            total += slow_squared_error(model.frame_model.decode(p, own)[0], frame)
    loss = float(frame_loss(model, frames, statics).detach())
    assert loss == pytest.approx(total / (CLIPS * STEPS), rel=1e-4)


def slow_best(model: StaticsDynamics, clip: Tensor) -> int:
    """The frame whose warps to all other frames are the nearest to them."""
    transformer, errors = model.transformer, []
    with torch.no_grad():
        for source in range(len(clip)):
            s_i, error = transformer.encode(clip[source][None]), 0.0
            for target in range(len(clip)):
                if target != source:
                    s_j = transformer.encode(clip[target][None])
                    warped = transformer.stn.warp(s_i, transformer.stn(s_i, s_j))
                    error += slow_squared_error(transformer.decode(warped)[0], clip[target])
            errors.append(error)
    return errors.index(min(errors))


def test_the_frame_that_warps_best_to_the_others(model: StaticsDynamics) -> None:
    """One that is unlike the others, and one whose own reconstruction is poor, change what is best."""
    frames = torch.rand(4, STEPS, 3, SIZE, SIZE)
    frames[1, 2] += 2
    frames[2, 0] *= 3
    chosen = [slow_best(model, clip) for clip in frames]
    assert len(set(chosen)) > 1
    with torch.no_grad():
        expected = torch.cat([model.transformer.encode(clip[i][None]) for clip, i in zip(frames, chosen, strict=True)])
    torch.testing.assert_close(model.best_warped(frames), expected)


def test_closeness_against_loops(model: StaticsDynamics, frames: Tensor, statics: Tensor) -> None:
    total = 0.0
    with torch.no_grad():
        for own, clip in zip(statics, frames, strict=True):
            best = model.transformer.encode(clip[slow_best(model, clip)][None])[0]
            total += slow_squared_error(own, best)
    assert float(closeness_loss(model, frames, statics).detach()) == pytest.approx(total / CLIPS, rel=1e-4)


def test_s_learns_through_a_frozen_transformer_as_through_a_free_one(
    model: StaticsDynamics, frames: Tensor, statics: Tensor
) -> None:
    """Both ways: by what is warped and by the maps that follow from it."""
    (own,) = torch.autograd.grad(statics_loss(model, frames, statics), statics)
    transformer = model.transformer
    repeated, flat = statics.repeat_interleave(STEPS, dim=0), frames.flatten(0, 1)
    maps = transformer.stn(repeated, transformer.encode(flat).detach())
    drawn = transformer.decode(transformer.stn.warp(repeated, maps))
    (free,) = torch.autograd.grad((drawn - flat).square().sum() / len(flat), statics)
    torch.testing.assert_close(own, free)
    fixed = transformer.decode(transformer.stn.warp(repeated, maps.detach()))
    (without_maps,) = torch.autograd.grad((fixed - flat).square().sum() / len(flat), statics)
    assert not torch.allclose(own, without_maps, rtol=1e-2)


@pytest.mark.parametrize("objective", [statics_loss, closeness_loss])
def test_objectives_of_s_train_the_way_to_s_alone(
    objective: Callable[..., Tensor], model: StaticsDynamics, frames: Tensor
) -> None:
    """Not the transformer, nor the branch to P."""
    statics, _ = model.video_encoder(frames)
    ways = ("stem", "first", "second", "third", "statics")
    expected = parameters_of(model, *(f"video_encoder.{way}" for way in ways))
    assert reached(model, objective(model, frames, statics)) == expected
    for name, parameter in model.named_parameters():
        # A convolution's bias before a norm is all that may have none.
        if name in expected and parameter.dim() > 1:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name


def test_objective_7_4_trains_the_frame_model_alone(model: StaticsDynamics, frames: Tensor) -> None:
    statics, _ = model.video_encoder(frames)
    assert reached(model, frame_loss(model, frames, statics)) == parameters_of(model, "frame_model")


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="frame_size is 20: it must be a multiple of 8"):
        StaticsDynamicsConfig(frame_size=20)
    with pytest.raises(ValueError, match="clip_frames is 1: motion needs at least 2"):
        StaticsDynamicsConfig(clip_frames=1)
    with pytest.raises(ValueError, match=r"blocks is 3: latent_channels \(64\)"):
        StaticsDynamics(StaticsDynamicsConfig(blocks=3, width=2))


def test_parts_of_ours_are_there_where_they_are_asked_for(statics: Tensor) -> None:
    sizes = (SIZE, STEPS, 2, 8, 2, 6, 4, 8)
    with_them = StaticsDynamics(StaticsDynamicsConfig(*sizes, motion_layers=3, appearance_dim=5))
    assert with_them.motion_layers(torch.randn(2, 6)).shape == (2, STEPS - 1, 3, 3, 3)
    assert with_them.appearance(statics).shape == (CLIPS, 5)
    without = StaticsDynamics(StaticsDynamicsConfig(*sizes))
    parts = {name.split(".")[0] for name in with_them.state_dict().keys() - without.state_dict().keys()}
    assert parts == {"motion_layers", "to_appearance"}
    torch.testing.assert_close(without.appearance(statics), torch.stack([each.mean((1, 2)) for each in statics]))
