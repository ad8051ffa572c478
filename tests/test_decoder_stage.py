"""The last stage of a sequential VAE: encoders kept, decoder and prior trained alone, with two terms of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import sequential_vae_task
from torch import Tensor

from kineme.models.decoder_stage import block_error, read_back
from kineme.models.distributions import Gaussian
from kineme.models.restricted_views import rearranged, recoloured
from kineme.models.sequential_vae import SequentialVAE, SequentialVAEConfig, sequential_vae_loss
from kineme.pipeline.tasks import TrainingClips

VIEWS = ("objective.restricted_views=true", "objective.swapped_views=1", "objective.swapped_after=0.25")
ENCODERS = ("convolutions", "z_head", "f_lstm", "f_layer", "f_mean")


def clips(count: int, steps: int, size: int) -> Tensor:
    return torch.rand(count, steps, 3, size, size, generator=torch.Generator().manual_seed(5))


def small() -> SequentialVAE:
    torch.manual_seed(0)
    return SequentialVAE(SequentialVAEConfig(frame_size=32, width=4, f_dim=6, z_dim=5, hidden_dim=12)).eval()


def test_block_error_against_loops() -> None:
    truth, drawn = clips(2, 3, 8), clips(2, 3, 8).flip(0)
    total = 0.0
    for n, t, c, y, x in torch.cartesian_prod(*map(torch.arange, (2, 3, 3, 2, 2))).tolist():
        block = (slice(4 * y, 4 * y + 4), slice(4 * x, 4 * x + 4))
        off = [drawn[n, t, c][block].flatten()[i].item() - truth[n, t, c][block].flatten()[i].item() for i in range(16)]
        total += 16 * (sum(off) / 16) ** 2 / 2
    assert block_error(drawn, truth).item() == pytest.approx(total, rel=1e-5)


def test_block_error_of_an_even_error_is_the_squared_error_and_of_a_chequered_one_none() -> None:
    truth = clips(2, 3, 8)
    even = (truth + 0.1).sub(truth).square().sum() / 2
    torch.testing.assert_close(block_error(truth + 0.1, truth), even)
    chequered = 0.1 * (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
    assert block_error(truth + chequered, truth).item() == pytest.approx(0, abs=1e-9)


def test_read_back_against_loops() -> None:
    """The same draws, in the same order: of f, of the motion, decoded clip by clip."""
    model, decoded = small(), torch.tensor([3, 0])
    q = Gaussian(torch.randn(3, 6), torch.linspace(-8, 0, 18).reshape(3, 6))
    torch.manual_seed(2)
    found = read_back(model, q, 4, decoded)
    torch.manual_seed(2)
    f, total = q.sample(), 0.0
    z = model.sample_motion(3, 4)
    for n in range(3):
        read = model.encode(model.decode(f[n : n + 1], z[n : n + 1, decoded]))[0].mean[0]
        for d in range(6):
            total += (read[d] - f[n, d]).item() ** 2 / (2 * max(0.01, q.logvar[n, d].exp().item())) / 3
    assert found.item() == pytest.approx(total, rel=1e-4)


def test_read_back_trains_the_decoder_alone_also_under_autocast() -> None:
    model, frames = small().train(), clips(3, 4, 32)
    model.train_decoder_alone(keep_norms=False)
    with torch.autocast("cpu", torch.bfloat16):
        found = read_back(model, model.encode(frames)[0], 4)
        found.backward()
        trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert trained == {f"decoder.{name}" for name, _ in model.decoder.named_parameters()}
        model.zero_grad()
        (sequential_vae_loss(model(frames), frames)["loss"] + read_back(model, model.encode(frames)[0], 4)).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith(ENCODERS)}


def test_stages(tmp_path: Path) -> None:
    """Before its time the loss is that of all; then the encoders get no gradient and nothing is swapped."""
    settings = ("after=0.5", "block_error=3", "read_back=2")
    task = sequential_vae_task(tmp_path, *VIEWS, *(f"objective.decoder_stage.{setting}" for setting in settings))
    assert [(stage.name, stage.end) for stage in task.stages] == [("training", 0.5), ("decoder", 1.0)]
    batch = TrainingClips(clips(3, 4, task.frame_size), None, None, [])
    everything = {name for name, _ in task.model.named_parameters()}
    for progress, trained in ((0.49, everything), (0.5, {n for n in everything if not n.startswith(ENCODERS)})):
        task.model.zero_grad()
        before = {name: buffer.clone() for name, buffer in task.model.convolutions.named_buffers()}
        torch.manual_seed(7)
        found = task.losses(batch, progress)
        found["loss"].backward()
        assert {n for n, parameter in task.model.named_parameters() if parameter.grad is not None} == trained
        after = dict(task.model.convolutions.named_buffers())
        kept_as_they_were = all(torch.equal(after[name], value) for name, value in before.items())
        assert kept_as_they_were is (progress == 0.5)
        assert ("read_back" in found) is ("block_error" in found) is (progress == 0.5)
    torch.manual_seed(7)
    output = task.model(rearranged(batch.frames), recoloured(batch.frames))
    expected = sequential_vae_loss(output, batch.frames)["loss"]
    expected = expected + 3 * block_error(output.reconstruction, batch.frames) / 2
    expected = expected + 2 * read_back(task.model, output.f_posterior, 4)
    torch.testing.assert_close(found["loss"], expected)


def test_the_decoder_s_norms_keep_their_statistics_at_last(tmp_path: Path) -> None:
    task = sequential_vae_task(tmp_path, *VIEWS, "objective.decoder_stage={after: 0.5, keep_norms_after: 0.5}")
    batch = TrainingClips(clips(3, 4, task.frame_size), None, None, [])
    for progress, kept in ((0.74, False), (0.75, True)):
        task.model.train().zero_grad()
        before = {name: buffer.clone() for name, buffer in task.model.decoder.named_buffers()}
        task.losses(batch, progress)["loss"].backward()
        after = dict(task.model.decoder.named_buffers())
        assert all(torch.equal(after[name], value) for name, value in before.items()) is kept
        assert all(parameter.grad is not None for parameter in task.model.decoder.parameters())


def test_without_a_stage_of_its_own_there_is_one_stage(tmp_path: Path) -> None:
    assert [stage.end for stage in sequential_vae_task(tmp_path).stages] == [1.0]
