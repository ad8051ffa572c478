"""One draw a clip, shared by its frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kineme.shards.augment import AUGMENTATIONS, make_augmentation
from kineme.shards.errors import DataError

ALWAYS = {name: {"p": 1.0} for name in AUGMENTATIONS}


def still_clips(clips: int = 6, frames: int = 5) -> Tensor:
    """Clips whose frames are all alike, every clip the same: what differs afterwards, the augmentation did."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 1, 3, 12, 16, generator=generator).expand(clips, frames, -1, -1, -1).clone()


def differing(clips: Tensor) -> int:
    return len({clip.numpy().tobytes() for clip in clips})


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_all_frames_of_a_clip_get_the_same(name: str) -> None:
    torch.manual_seed(0)
    out = make_augmentation({name: {"p": 1.0}})(still_clips())
    assert out.shape == (6, 5, 3, 12, 16)
    assert not torch.allclose(out, still_clips())
    assert torch.equal(out, out[:, :1].expand_as(out))


@pytest.mark.parametrize("name", ["affine", "blur", "colour_jitter"])
def test_clips_differ_in_what_is_drawn(name: str) -> None:
    torch.manual_seed(0)
    assert differing(make_augmentation({name: {"p": 1.0}})(still_clips())) == 6


@pytest.mark.parametrize("name", ["horizontal_flip", "vertical_flip", "greyscale"])
def test_some_clips_are_changed_and_some_not(name: str) -> None:
    torch.manual_seed(0)
    clips = still_clips(clips=20)
    out = make_augmentation({name: {"p": 0.5}})(clips)
    changed = (out != clips).flatten(1).any(1)
    assert 2 <= changed.sum() <= 18
    assert differing(out) == 2
    assert torch.equal(out, out[:, :1].expand_as(out))


def test_a_flip_is_a_flip_of_every_frame() -> None:
    clips = torch.rand(2, 4, 3, 6, 8)
    torch.testing.assert_close(make_augmentation({"horizontal_flip": {"p": 1}})(clips), clips.flip(-1))


def test_all_together_and_again_with_another_batch() -> None:
    torch.manual_seed(0)
    augment = make_augmentation(ALWAYS)
    for clips, frames in ((6, 5), (3, 5), (1, 2)):
        out = augment(still_clips(clips, frames))
        assert torch.equal(out, out[:, :1].expand_as(out))
        assert differing(out) == clips


def test_the_global_seed_decides() -> None:
    augment = make_augmentation(ALWAYS)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(augment(still_clips()))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_no_steps_change_nothing() -> None:
    clips = still_clips()
    assert torch.equal(make_augmentation({})(clips), clips)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ({"horizontal_flop": {}}, "did you mean 'horizontal_flip'"),
        ({"color_jitter": {}}, "did you mean 'colour_jitter'"),
        ({"affine": {"degree": 3}}, "did you mean 'degrees'"),
        ({"affine": {"degrees": -3}}, "degrees is -3"),
        ({"affine": {"translate": 1.5}}, "between 0 and 1"),
        ({"affine": {"scale": 1.5}}, "scale"),
        ({"affine": {"degrees": "wide"}}, "'wide'"),
        ({"colour_jitter": {"hue": 0.9}}, "hue"),
        ({"horizontal_flip": {"p": 2}}, "p is 2"),
    ],
)
def test_what_is_wrong_is_said(steps: dict[str, dict[str, float]], says: str) -> None:
    with pytest.raises(DataError, match=says):
        make_augmentation(steps)
