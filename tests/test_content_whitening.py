"""Contents measured against what one content varies by with its motions."""

from __future__ import annotations

import torch
from torch import Tensor

from kineme.models.content_whitening import CONTENTS, content_whitening
from kineme.models.sequential_vae import SequentialVAE, SequentialVAEConfig


def small() -> SequentialVAE:
    torch.manual_seed(2)
    model = SequentialVAE(SequentialVAEConfig(frame_size=32, width=2, f_dim=3, z_dim=2, hidden_dim=8)).eval()
    with torch.no_grad():
        # Fresh weights hardly tell two clips apart.
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def contents_in_two_motions(model: SequentialVAE, steps: int) -> list[tuple[Tensor, Tensor]]:
    """The f of each drawn content as it is read from its two clips, one by one."""
    generator = torch.Generator().manual_seed(0)
    contents = torch.randn(CONTENTS, 3, generator=generator)
    noise = torch.randn(2, CONTENTS, steps, 2, generator=generator)
    read = []
    with torch.no_grad():
        for n, f in enumerate(contents):
            one, other = (model.sample_motion(1, steps, noise[p, n][None]) for p in range(2))
            clips = model.decode(f[None], one), model.decode(f[None], other)
            read.append((model.encode(clips[0])[0].mean[0], model.encode(clips[1])[0].mean[0]))
    return read


def test_the_whitening_is_the_inverse_root_of_the_covariance_within_a_content() -> None:
    model = small()
    within = torch.zeros(3, 3)
    for one, other in contents_in_two_motions(model, 4):
        # The unbiased covariance of two.
        within += torch.outer(one - other, one - other) / 2 / CONTENTS
    found = content_whitening(model, 4, ridge=0.02)
    assert within.diagonal().min() > 1e-4
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found @ (within + 0.02 * torch.eye(3)) @ found, torch.eye(3), atol=1e-3, rtol=0)


def test_every_call_gives_the_same_and_touches_no_other_draw() -> None:
    model = small()
    torch.manual_seed(1)
    first = content_whitening(model, 4)
    following = torch.rand(1)
    torch.manual_seed(1)
    torch.testing.assert_close(torch.rand(1), following)
    torch.testing.assert_close(content_whitening(model, 4), first)


def test_motion_drawn_from_given_noise() -> None:
    """Step by step by the prior's own equation."""
    model = small()
    noise = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found = model.sample_motion(2, 3, noise)
        prior = model.z_prior(found)
    torch.testing.assert_close(found, prior.mean + (0.5 * prior.logvar).exp() * noise)
