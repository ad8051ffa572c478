"""Augmentation of clips on the device: every frame of a clip gets the same draw, every clip its own.

An augmentation is written as names with their parameters, in the order in which they are applied::

    {"horizontal_flip": {"p": 0.5}, "affine": {"degrees": 10, "translate": 0.1}}

Flips and affine maps change where a clip moves to: leave out what the labels, actions or keypoints must not lose.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kornia.augmentation as K
from torch import nn

from kineme.shards.errors import DataError


def _horizontal_flip(p: float = 0.5) -> Any:
    return K.RandomHorizontalFlip(p=p)


def _vertical_flip(p: float = 0.5) -> Any:
    return K.RandomVerticalFlip(p=p)


def _affine(degrees: float = 5.0, translate: float = 0.05, scale: float = 0.1, p: float = 1.0) -> Any:
    """Rotation up to ``degrees``, shift up to that part of the side, zoom by 1 - scale to 1 + scale; edges repeated."""
    return K.RandomAffine(
        degrees, translate=(translate, translate), scale=(1 - scale, 1 + scale), padding_mode="border", p=p
    )


def _colour_jitter(
    brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.02, p: float = 1.0
) -> Any:
    """Factors up to 1 + or - each number; ``hue`` is a part of the colour circle, at most 0.5."""
    return K.ColorJitter(brightness, contrast, saturation, hue, p=p)


def _greyscale(p: float = 0.1) -> Any:
    return K.RandomGrayscale(p=p)


def _blur(sigma: float = 1.0, p: float = 0.5) -> Any:
    """Gaussian blur of up to ``sigma`` pixels."""
    return K.RandomGaussianBlur((5, 5), (0.1, sigma), p=p)


AUGMENTATIONS: Mapping[str, Callable[..., nn.Module]] = {
    "affine": _affine,
    "blur": _blur,
    "colour_jitter": _colour_jitter,
    "greyscale": _greyscale,
    "horizontal_flip": _horizontal_flip,
    "vertical_flip": _vertical_flip,
}


def make_augmentation(steps: Mapping[str, Mapping[str, float]]) -> nn.Module:
    """Build an augmentation; it draws from torch's global random numbers.

    Args:
        steps: parameters by name of augmentation, applied in order; parameters left out keep their defaults, and no
            steps change nothing.

    Returns:
        A module from (B, T, C, H, W) floats in [0, 1], C = 3, to the same, on any device.

    Raises:
        DataError: an unknown name or parameter, with the nearest known one, or a value out of range.
    """
    modules = [_make(name, parameters) for name, parameters in steps.items()]
    if not modules:
        return nn.Identity()
    return K.VideoSequential(*modules, data_format="BTCHW", same_on_frame=True)


def _make(name: str, parameters: Mapping[str, float]) -> nn.Module:
    if name not in AUGMENTATIONS:
        raise DataError(_unknown("augmentation", name, AUGMENTATIONS))
    make = AUGMENTATIONS[name]
    known = inspect.signature(make).parameters
    for parameter, value in parameters.items():
        if parameter not in known:
            raise DataError(_unknown(f"parameter of augmentation {name}:", parameter, known))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise DataError(f"augmentation {name}: {parameter} is {value!r}, it must be a number of 0 or more")
        if parameter in ("p", "translate") and value > 1:
            raise DataError(f"augmentation {name}: {parameter} is {value}, it must be between 0 and 1")
    try:
        return make(**parameters)
    except (ValueError, TypeError) as error:
        raise DataError(f"augmentation {name} with {dict(parameters)}: {error}; change its numbers") from error


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0)
    return f"unknown {kind} {name!r}; did you mean {near[0]!r}? There are {', '.join(names)}"
