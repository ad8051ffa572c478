"""Our objective for the sequential VAE: its two views, and the bound with them, against references written out here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import sequential_vae_task
from torch import Tensor

from kineme.models.restricted_views import performed_by_another, rearranged, recoloured
from kineme.models.sequential_vae import SequentialVAE, SequentialVAEConfig, sequential_vae_loss
from kineme.pipeline.errors import RunError
from kineme.pipeline.recipe import SequentialVAERecipe, load_recipe
from kineme.pipeline.tasks import TrainingClips


def clips(count: int = 3, steps: int = 4, size: int = 8) -> Tensor:
    return torch.rand(count, steps, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_recoloured_against_loops() -> None:
    frames = clips(2, 3, 2)
    torch.manual_seed(5)
    found = recoloured(frames, 0.7)
    torch.manual_seed(5)
    maps = 0.7 * torch.randn(2, 3, 3)
    for n, t, d, y, x in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        angle = sum(maps[n, d, c].item() * frames[n, t, c, y, x].item() for c in range(3))
        assert found[n, t, d, y, x].item() == pytest.approx(torch.tensor(angle).sin().item() ** 2, abs=1e-6)


def test_a_clip_is_recoloured_alike_in_all_its_frames_and_black_stays_black() -> None:
    frames = clips(4, 1).expand(-1, 5, -1, -1, -1).clone()
    frames[..., 0, :] = 0
    found = recoloured(frames)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))
    assert found[..., 0, :].abs().max() == 0
    assert not torch.allclose(recoloured(frames), found)


def test_recoloured_hides_which_of_two_colours_is_the_redder() -> None:
    frames = torch.zeros(400, 1, 3, 1, 2)
    frames[:, :, 0, :, 0] = frames[:, :, 1, :, 1] = 0.8
    redder = recoloured(frames)[:, 0, 0, 0].diff(dim=-1) > 0
    assert 0.4 < redder.float().mean() < 0.6


def test_rearranged_keeps_the_frames_of_each_clip_and_mirrors_all_or_none() -> None:
    frames = clips(60, 3)
    torch.manual_seed(0)
    orders, mirrored = set(), 0
    for before, after in zip(frames, rearranged(frames), strict=True):
        for flipped in (False, True):
            sources = before.flip(-1) if flipped else before
            order = tuple(i for new in after for i, old in enumerate(sources) if torch.equal(old, new))
            if order:
                break
        assert sorted(order) == [0, 1, 2]
        orders.add(order)
        mirrored += flipped
    assert len(orders) == 6
    assert 15 < mirrored < 45


def test_rearranged_keeps_any_few_frames() -> None:
    torch.manual_seed(0)
    frames = torch.arange(5.0)[None, :, None, None, None].expand(200, 5, 3, 2, 2)
    kept = rearranged(frames, 2)[:, :, 0, 0, 0]
    assert kept.shape == (200, 2)
    assert len({tuple(pair) for pair in kept.tolist()}) == 20


def small(pooled: bool = True) -> SequentialVAE:
    torch.manual_seed(0)
    config = SequentialVAEConfig(32, width=2, f_dim=5, z_dim=3, hidden_dim=8, pooled_content=pooled)
    return SequentialVAE(config)


@pytest.mark.parametrize("pooled", [True, False])
def test_each_half_is_read_from_its_own_view(pooled: bool) -> None:
    model = small(pooled).eval()
    content, motion = clips(2, 3, 32)[:, :2], clips(2, 3, 32).flip(0)
    f, z = model.encode(content, motion)
    torch.testing.assert_close(f.mean, model.encode(content)[0].mean)
    torch.testing.assert_close(z.mean, model.encode(motion)[1].mean)


def test_both_views_share_the_statistics_of_a_batch() -> None:
    """What the norms have seen in training is what they see of a mixture of both views, whose parts are halves."""
    model = small()
    content, motion = clips(2, 3, 32), 0.1 * clips(2, 3, 32)
    model.encode(content, motion)
    first = model.convolutions[0]
    responses = first[0](torch.cat([content, motion]).flatten(0, 1))
    torch.testing.assert_close(first[1].running_mean, 0.1 * responses.mean(dim=(0, 2, 3)))


def test_some_frames_stand_for_all() -> None:
    """The mean of the loss over every choice of two frames of four is the loss of all, whatever was drawn."""
    model = small().eval()
    frames = clips(2, 4, 32)

    def loss(decoded: Tensor | None) -> dict[str, Tensor]:
        torch.manual_seed(2)
        output = model(frames, decoded=decoded)
        truth = frames if decoded is None else frames[:, decoded]
        return sequential_vae_loss(output, truth, beta=2, beta_motion=3, sigma=0.5)

    whole = loss(None)
    pairs = torch.combinations(torch.arange(4), 2)
    some = [loss(pair) for pair in pairs]
    for name in whole:
        torch.testing.assert_close(torch.stack([parts[name] for parts in some]).mean(), whole[name])
    torch.testing.assert_close(whole["loss"], whole["reconstruction"] + 2 * whole["kl_f"] + 3 * whole["kl_z"])


def test_the_task_trains_on_the_views(tmp_path: Path) -> None:
    """The same draws, in the same order, give the loss written out."""
    task = sequential_vae_task(
        tmp_path,
        "objective.restricted_views=true",
        "objective.frames_per_clip=2",
        "objective.content_frames=3",
        "objective.beta_motion=5",
    )
    task.model.eval()
    batch = TrainingClips(clips(2, 4, task.frame_size), None, None, [])
    torch.manual_seed(7)
    found = task.losses(batch, 0.25)
    torch.manual_seed(7)
    decoded = torch.randperm(batch.frames.shape[1])[:2]
    output = task.model(rearranged(batch.frames, 3), recoloured(batch.frames), decoded)
    expected = sequential_vae_loss(output, batch.frames[:, decoded], beta=1, beta_motion=5)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_another_performs_the_motion_of_each_clip() -> None:
    """Each clip's z and the next one's f, in the order drawn, through the decoder; no gradient reaches the model."""
    model, content, motion = small().eval(), clips(3, 2, 32), clips(3, 4, 32).flip(0)
    torch.manual_seed(3)
    found = performed_by_another(model, content, motion)
    torch.manual_seed(3)
    f, z = model.encode(content, motion)
    content_drawn, motion_drawn = f.sample(), z.sample()
    for clip in range(3):
        following = content_drawn[(clip + 1) % 3]
        expected = model.decode(following[None], motion_drawn[clip][None])[0]
        torch.testing.assert_close(found[clip], expected)
    assert not found.requires_grad


def test_both_are_read_from_drawn_swaps_once_it_is_time(tmp_path: Path) -> None:
    """The same draws, in the same order, give the loss written out; before half of the training it is the clip's."""
    task = sequential_vae_task(
        tmp_path, "objective.restricted_views=true", "objective.swapped_views=1", "objective.swapped_after=0.5"
    )
    task.model.eval()
    batch = TrainingClips(clips(3, 4, task.frame_size), None, None, [])
    for progress, swaps in ((0.49, False), (0.5, True)):
        torch.manual_seed(7)
        found = task.losses(batch, progress)
        torch.manual_seed(7)
        content, motion = rearranged(batch.frames), recoloured(batch.frames)
        if swaps:
            torch.rand(())
            swapped = performed_by_another(task.model, content, motion)
            # Drawn clip n has the content of n + 1.
            content = rearranged(torch.stack([swapped[-1], *swapped[:-1]]))
            motion = recoloured(swapped)
        expected = sequential_vae_loss(task.model(content, motion), batch.frames)
        torch.testing.assert_close(found["loss"], expected["loss"])


def test_after_another_s_performance_autocast_leaves_every_parameter_a_gradient() -> None:
    model, frames = small(), clips(2, 3, 32)
    with torch.autocast("cpu", torch.bfloat16):
        motion = recoloured(performed_by_another(model, rearranged(frames), recoloured(frames)))
        output = model(rearranged(frames), motion)
        sequential_vae_loss(output, frames)["loss"].backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_warm_up_is_a_factor_on_both_weights(tmp_path: Path) -> None:
    task = sequential_vae_task(tmp_path, "objective.beta_motion=5", "objective.kl_warmup=0.5")
    parts = task.losses(TrainingClips(clips(2, 4, task.frame_size), None, None, []), 0.25)
    expected = parts["reconstruction"] + 0.5 * (parts["kl_f"] + 5 * parts["kl_z"])
    torch.testing.assert_close(parts["loss"], expected)


@pytest.mark.parametrize("name", ["frames_per_clip", "content_frames"])
def test_more_frames_than_a_clip_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match=rf"{name} is 7: clips have the 6 frames"):
        sequential_vae_task(tmp_path, f"objective.{name}=7")


@pytest.mark.parametrize("setting", ["content_frames=2", "swapped_views=0.5"])
def test_settings_of_restricted_views_alone(tmp_path: Path, setting: str) -> None:
    with pytest.raises(RunError, match=r"it is for objective.restricted_views alone"):
        sequential_vae_task(tmp_path, f"objective.{setting}")


def test_swaps_that_would_begin_after_their_stage(tmp_path: Path) -> None:
    settings = ("restricted_views=true", "swapped_views=0.5", "swapped_after=0.7", "decoder_stage.after=0.65")
    with pytest.raises(RunError, match=r"swapped_after is 0.7: nothing is swapped in the decoder's stage, after 0.65"):
        sequential_vae_task(tmp_path, *(f"objective.{setting}" for setting in settings))


@pytest.mark.parametrize("name", ["sprites-views", "sprites-views-cpu"])
def test_shipped_recipes(name: str) -> None:
    recipe = load_recipe(f"sequential-vae/{name}")
    assert isinstance(recipe, SequentialVAERecipe)
    assert recipe.objective.restricted_views
    assert {question.label for question in recipe.questions} == {"action", "hair", "top", "pants", "skin"}
