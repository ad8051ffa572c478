"""The video encoder: its sizes, what S and P know of time, and gradients in bf16."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.grad import conv3d_weight

from kineme.models.frame_autoencoder import Reduction
from kineme.models.video_encoder import VideoEncoder


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("clip_frames", [2, 3, 5, 8])
@pytest.mark.parametrize("frame_size", [16, 24, 64, 96])
@pytest.mark.parametrize("reduction", get_args(Reduction))
def test_any_size_and_length(frame_size: int, clip_frames: int, reduction: Reduction) -> None:
    encoder = VideoEncoder(frame_size, clip_frames, width=2, latent_channels=5, dynamics_dim=7, reduction=reduction)
    statics, dynamics = encoder(torch.rand(2, clip_frames, 3, frame_size, frame_size))
    assert statics.shape == (2, 5, frame_size // reduction, frame_size // reduction)
    assert dynamics.shape == (2, 7)


def test_the_stages_are_those_of_a_resnet_18() -> None:
    """Against torchvision's own, copied stage by stage."""
    from torchvision.models.video import r3d_18

    reference = r3d_18(weights=None).eval()
    encoder = VideoEncoder(32, 8, width=64, latent_channels=4, dynamics_dim=3).eval()
    pairs = {
        encoder.stem: reference.stem,
        encoder.first: reference.layer1,
        encoder.second: reference.layer2,
        encoder.third: reference.layer3,
        encoder.fourth: reference.layer4,
    }
    for mine, theirs in pairs.items():
        mine.load_state_dict(theirs.state_dict())
    frames = torch.rand(1, 8, 3, 32, 32)
    with torch.no_grad():
        statics, dynamics = encoder(frames)
        hidden = frames.movedim(2, 1)
        for theirs in list(pairs.values())[:-1]:
            hidden = theirs(hidden)
        torch.testing.assert_close(statics, encoder.statics(torch.stack(list(hidden.unbind(2))).mean(0)))
        torch.testing.assert_close(dynamics, encoder.dynamics(reference.layer4(hidden).flatten(1)))


def test_dynamics_are_linear_in_places_and_times() -> None:
    """No pooling before P: what the fourth stage gives can be told apart place by place."""
    encoder = VideoEncoder(64, 16, width=2, latent_channels=4, dynamics_dim=3)
    assert encoder.dynamics.in_features == 16 * 2 * 4 * 4


def test_merging_time_by_its_mean_knows_no_order() -> None:
    """The convolutions before it do know it: with kernels that are alike both ways, S is the same both ways, P is not.

    Of five frames every stride takes the first and the last.
    """
    encoder = VideoEncoder(16, 5, width=4, latent_channels=4, dynamics_dim=6).eval()
    frames = torch.rand(3, 5, 3, 16, 16)
    with torch.no_grad():
        before, _ = encoder(frames)
        assert not torch.allclose(before, encoder(frames.flip(1))[0], atol=1e-3)
        for module in encoder.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.copy_((module.weight + module.weight.flip(2)) / 2)
        (forward, motion), (backward, other) = encoder(frames), encoder(frames.flip(1))
    torch.testing.assert_close(forward, backward, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(motion, other, atol=1e-3)


def test_the_parts_that_each_output_reaches() -> None:
    encoder = VideoEncoder(16, 4, width=4, latent_channels=4, dynamics_dim=3)
    shared = {"stem", "first", "second", "third"}
    for index, own in ((0, {"statics"}), (1, {"fourth", "dynamics"})):
        encoder.zero_grad()
        encoder(torch.rand(2, 4, 3, 16, 16))[index].square().sum().backward()
        reached = {name.split(".")[0] for name, p in encoder.named_parameters() if p.grad is not None}
        assert reached == shared | own


def gradients_in_bf16(clip_frames: int) -> tuple[VideoEncoder, dict[str, tuple[Tensor, Tensor]]]:
    """An encoder with the gradients of a bf16 pass; for each convolution, its input and its output's gradient."""
    encoder = VideoEncoder(32, clip_frames, width=16, latent_channels=8, dynamics_dim=6)
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> None:
        def keep(module: nn.Module, given: tuple[Tensor], result: Tensor) -> None:
            inputs[name] = given[0].detach().float()
            result.register_hook(lambda gradient: outputs.__setitem__(name, gradient.float()))

        module.register_forward_hook(keep)

    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv3d):
            watch(name, module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        statics, dynamics = encoder(torch.rand(6, clip_frames, 3, 32, 32))
    ((statics.float() - 1).square().mean() + (dynamics.float() - 1).square().mean()).backward()
    return encoder, {name: (inputs[name], outputs[name]) for name in inputs}


needs_bf16 = pytest.mark.skipif(
    not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()),
    reason="this CPU has no bf16, which the kernels in question are for",
)


@needs_bf16
@pytest.mark.parametrize("clip_frames", [2, 3, 4, 5, 8, 9, 16])
def test_gradients_of_convolutions_in_bf16(clip_frames: int) -> None:
    """Each against the exact one of the same input and gradient: where two frames meet a kernel of three, oneDNN's in
    bf16 point anywhere."""
    encoder, seen = gradients_in_bf16(clip_frames)
    for name, (given, gradient) in seen.items():
        convolution = encoder.get_submodule(name)
        assert isinstance(convolution, nn.Conv3d)
        exact = conv3d_weight(given, convolution.weight.shape, gradient, convolution.stride, convolution.padding)  # type: ignore[arg-type]
        own = convolution.weight.grad
        assert own is not None
        assert torch.cosine_similarity(exact.flatten(), own.flatten(), dim=0) > 0.99, name


@needs_bf16
def test_bf16_is_used_where_it_is_right() -> None:
    """The first two stages of eight frames, where most of the work is; not the others."""
    encoder = VideoEncoder(32, 8, width=8, latent_channels=8, dynamics_dim=6)
    types: dict[str, torch.dtype] = {}
    for name in ("stem", "first", "second", "third", "fourth", "dynamics"):
        encoder.get_submodule(name).register_forward_hook(
            lambda module, given, result, name=name: types.__setitem__(name, result.dtype)
        )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder(torch.rand(2, 8, 3, 32, 32))
    low = {name for name, dtype in types.items() if dtype == torch.bfloat16}
    assert low == {"stem", "first", "second"}
    encoder(torch.rand(2, 8, 3, 32, 32))
    assert set(types.values()) == {torch.float32}


@needs_bf16
@pytest.mark.parametrize("reduction", get_args(Reduction))
def test_the_whole_gradient_in_bf16_points_the_same_way(reduction: Reduction) -> None:
    """As closely as rounding lets it: fp32 with its activations rounded to bf16 reaches 0.96 here."""
    encoder = VideoEncoder(32, 8, width=16, latent_channels=8, dynamics_dim=6, reduction=reduction)
    frames = torch.rand(8, 8, 3, 32, 32)
    gradients = []
    for enabled in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            statics, dynamics = encoder(frames)
        ((statics.float() - 1).square().mean() + (dynamics.float() - 1).square().mean()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9
