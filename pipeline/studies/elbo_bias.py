"""Does maximising the ELBO give the parameters that made the data? Section 3.2 of Leplae-Arthur & Nichani.

Clips are drawn from the linear Gaussian model with known deviations. All but one are kept at their true values; that
one goes through a grid, and at every value an encoder is trained for the fixed decoder. The bias is where the mean ELBO
of the sample is highest, less where its mean log-likelihood is: the paper's figures 3 and 4, with an interval.

The paper leaves open, and this study chooses:

- The deviations that are not varied: sigma_z and sigma_x are 1. The sign for sigma_z depends on sigma_f. At 2 the study
  finds what the paper describes: an ELBO that falls with sigma_z where the truth is 0.5, and one that is "roughly
  constant" and "no longer monotonic" where it is 1. So that is the main value, and the whole is repeated for the others
  of ``SIGMA_F``. Where an ELBO rises until sigma_z = 0, as if f alone explained the clip, no grid reaches its best
  value, and ``at_end`` says so.
- How many clips (2000), the grid (40 values, evenly spaced in log sigma), how often (10 seeds; the paper shows one).
- The network of the encoder, and how its expectation is taken: see :mod:`kineme.models.linear_gaussian`. The study is
  done with an encoder that is told t, too: the ELBO of any shared network lies between the two.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student_t
from torch import Tensor

from kineme.models.linear_gaussian import (
    Deviations,
    elbo,
    log_likelihood,
    sample_clips,
    second_moments,
    train_encoder,
)
from kineme.pipeline.errors import RunError
from kineme.pipeline.pictures import save_picture
from kineme.pipeline.run import device_name, environment
from kineme.pipeline.studies.elbo_bias_picture import draw_elbo_bias
from kineme.shards.manifest import write_atomically

STUDY = "elbo-bias"
TRUE = {"sigma_x": (0.3, 0.5, 1.0), "sigma_z": (0.5, 1.0)}
RANGES = {"sigma_x": (0.1, 4.0), "sigma_z": (0.05, 4.0)}
SIGMA_F = (0.5, 1.0, 2.0, 4.0)
MAIN_SIGMA_F = 2.0
CONFIDENCE = 0.95

_LIMITS = {
    "seeds": (2, 100, "an interval needs several, more do not fit in memory"),
    "clips": (100, 1_000_000, "fewer give no clear optimum, more do not fit in memory"),
    "points": (10, 100, "fewer miss the optimum, more do not fit in memory"),
}


@dataclass(frozen=True)
class Setting:
    """One panel of the study: the parameter that is varied, its true value, and the true sigma_f; the rest is 1."""

    parameter: str
    true: float
    sigma_f: float = MAIN_SIGMA_F

    @property
    def name(self) -> str:
        """How its figures are called: ``sigma_f_2/sigma_x/0.3``."""
        return f"sigma_f_{self.sigma_f:g}/{self.parameter}/{self.true:g}"

    def deviations(self, varied: float | Tensor) -> dict[str, Any]:
        """sigma_f, sigma_z and sigma_x with the varied one at a value."""
        return {"sigma_f": self.sigma_f, "sigma_z": 1.0, "sigma_x": 1.0, self.parameter: varied}


@dataclass(frozen=True)
class Curves:
    """A measured setting: ``grid`` (G,) and, for every seed and grid value, (R, G) means in nats a clip."""

    setting: Setting
    grid: Tensor
    elbo: Tensor
    elbo_told_t: Tensor
    log_likelihood: Tensor


def all_settings() -> list[Setting]:
    """The paper's five, at every true sigma_f."""
    return [Setting(name, true, f) for f in SIGMA_F for name, values in TRUE.items() for true in values]


def measure(settings: Sequence[Setting], *, seeds: int, clips: int, points: int) -> list[Curves]:
    """Draw the clips of every seed and train an encoder for each setting, seed and grid value, all at once.

    The seeds are 0, 1, ...; a seed has the same noise in all settings.
    """
    moments = torch.stack([_moments(setting, seeds, clips) for setting in settings]).unsqueeze(2)
    grids = [_grid(*RANGES[setting.parameter], points) for setting in settings]
    values = [setting.deviations(grid) for setting, grid in zip(settings, grids, strict=True)]
    # Shapes: settings, seeds, grid.
    theta = Deviations(
        *(
            torch.stack([torch.as_tensor(row[name], dtype=torch.float64).expand(points) for row in values]).unsqueeze(1)
            for name in Deviations._fields
        )
    )
    shared, told_t = (elbo(theta, train_encoder(theta, moments, shared=kind), moments) for kind in (True, False))
    return [
        Curves(*parts) for parts in zip(settings, grids, shared, told_t, log_likelihood(theta, moments), strict=True)
    ]


def peak(grid: Tensor, curves: Tensor) -> tuple[Tensor, Tensor]:
    """Where each curve is highest, between the points of the grid, by the parabola through the best three in log sigma.

    Args:
        grid: (G,) values, evenly spaced in their logarithm.
        curves: (R, G).

    Returns:
        The places (R,), and whether each is an end of the grid (R,), which no parabola can refine.
    """
    best = curves.argmax(dim=1)
    at_end = (best == 0) | (best == len(grid) - 1)
    middle = best.clamp(1, len(grid) - 2)
    left, top, right = (curves.gather(1, (middle + step).unsqueeze(1)).squeeze(1) for step in (-1, 0, 1))
    offset = 0.5 * (left - right) / (left - 2 * top + right)
    refined = grid[middle] * (grid[1] / grid[0]) ** offset
    return torch.where(at_end, grid[best], refined), at_end


def interval(values: Tensor) -> tuple[float, float, float]:
    """The mean of (R,) values and its 95% interval by Student's t: mean, lowest, highest."""
    mean, count = float(values.mean()), len(values)
    half = float(student_t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * float(values.std()) / math.sqrt(count)
    return mean, mean - half, mean + half


def figures(curves: Curves) -> dict[str, float]:
    """The figures of one setting by their full names.

    ``bias`` with ``lowest`` and ``highest``, its 95% interval over the seeds; the mean ``argmax_elbo`` and
    ``argmax_log_likelihood``; ``bias_told_t`` for an encoder that is told t; ``at_end``, the share of seeds whose ELBO
    is highest at an end of the grid, where the bias is only known to be at least so large; ``told_t_at_end`` likewise.
    """
    of_elbo, at_end = peak(curves.grid, curves.elbo)
    of_likelihood, _ = peak(curves.grid, curves.log_likelihood)
    told_t, told_t_at_end = peak(curves.grid, curves.elbo_told_t)
    bias, lowest, highest = interval(of_elbo - of_likelihood)
    found = {
        "bias": bias,
        "lowest": lowest,
        "highest": highest,
        "argmax_elbo": float(of_elbo.mean()),
        "argmax_log_likelihood": float(of_likelihood.mean()),
        "bias_told_t": float((told_t - of_likelihood).mean()),
        "at_end": float(at_end.double().mean()),
        "told_t_at_end": float(told_t_at_end.double().mean()),
    }
    return {f"elbo_bias/{curves.setting.name}/{name}": round(value, 6) for name, value in found.items()}


def run_elbo_bias(out: Path, *, seeds: int = 10, clips: int = 2000, points: int = 40) -> dict[str, float]:
    """Do the study and write ``elbo-bias.json`` and ``elbo-bias.png`` into a folder, each whole or not at all.

    Args:
        out: the folder; it is made, and files of an earlier study in it are replaced.
        seeds: how often data are drawn, 2 to 100.
        clips: clips a seed, 100 to 1,000,000.
        points: values of the grid, 10 to 100.

    Returns:
        The metrics.

    Raises:
        RunError: a number out of its range.
        OSError: the folder cannot be made or written.
    """
    settings = {"seeds": seeds, "clips": clips, "points": points}
    _check(settings)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    measured = measure(all_settings(), **settings)
    metrics = {name: value for curves in measured for name, value in figures(curves).items()}
    panels = [_panel(curves) for curves in measured if _is_main(curves)]
    picture = draw_elbo_bias(panels, MAIN_SIGMA_F, _sensitivity(metrics))
    surroundings = environment()
    result = {
        "study": STUDY,
        "metrics": metrics,
        "curves": {curves.setting.name: _as_lists(curves) for curves in measured},
        "settings": {**settings, "true": TRUE, "ranges": RANGES, "sigma_f": SIGMA_F, "other_deviations": 1.0},
        # Whatever else the machine has: these networks are too small for a GPU.
        "device": device_name(torch.device("cpu")),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - started, 1),
        "command": surroundings["command"],
        "versions": surroundings["versions"],
    }
    save_picture(picture, out / f"{STUDY}.png")
    write_atomically(out / f"{STUDY}.json", (json.dumps(result) + "\n").encode())
    return metrics


def main_lines(metrics: Mapping[str, float]) -> list[str]:
    """One line for each setting at the main sigma_f, to print."""
    lines = []
    for setting in all_settings():
        if setting.sigma_f == MAIN_SIGMA_F:
            bias, lowest, highest = (
                metrics[f"elbo_bias/{setting.name}/{part}"] for part in ("bias", "lowest", "highest")
            )
            at_end = metrics[f"elbo_bias/{setting.name}/at_end"]
            lines.append(
                f"true {setting.parameter} {setting.true:g}: the ELBO is highest {bias:+.3f} "
                f"({lowest:+.3f} to {highest:+.3f}) from where the likelihood is"
                + (f", at least: in {at_end:.0%} of the seeds at the end of the grid" if at_end else "")
            )
    return lines


def _moments(setting: Setting, seeds: int, clips: int) -> Tensor:
    """(R, 3, 3): the second moments of each seed's clips."""
    true = setting.deviations(setting.true)
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    return torch.stack([second_moments(sample_clips(**true, clips=clips, generator=g)) for g in generators])


def _grid(low: float, high: float, points: int) -> Tensor:
    return torch.logspace(math.log10(low), math.log10(high), points, dtype=torch.float64)


def _check(settings: Mapping[str, int]) -> None:
    for name, value in settings.items():
        least, most, why = _LIMITS[name]
        if not least <= value <= most:
            raise RunError(f"--{name} {value}: {least} to {most} expected ({why}); leave it out for the default")


def _is_main(curves: Curves) -> bool:
    return curves.setting.sigma_f == MAIN_SIGMA_F


def _panel(curves: Curves) -> dict[str, Any]:
    """What the picture shows of a setting, without tensors."""
    return {
        "parameter": curves.setting.parameter,
        "true": curves.setting.true,
        "grid": curves.grid.tolist(),
        "curves": {"ELBO": curves.elbo.tolist(), "log-likelihood": curves.log_likelihood.tolist()},
        "peaks": {
            "ELBO": peak(curves.grid, curves.elbo)[0].tolist(),
            "log-likelihood": peak(curves.grid, curves.log_likelihood)[0].tolist(),
        },
    }


def _sensitivity(metrics: Mapping[str, float]) -> dict[str, dict[str, Sequence[float]]]:
    """For the last panel: bias and its interval over the true sigma_f, for each varied parameter and true value."""
    lines: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in TRUE.items():
        for true in values:
            places = [f"elbo_bias/{Setting(name, true, f).name}" for f in SIGMA_F]
            line = {part: [metrics[f"{place}/{part}"] for place in places] for part in ("bias", "lowest", "highest")}
            lines[f"{name}/{true:g}"] = {"sigma_f": SIGMA_F, **line}
    return lines


def _as_lists(curves: Curves) -> dict[str, list[float]]:
    """Means over the seeds, and the deviation over the seeds, as JSON takes them."""
    lists = {"grid": curves.grid, "elbo_told_t": curves.elbo_told_t.mean(0)}
    for name, values in (("elbo", curves.elbo), ("log_likelihood", curves.log_likelihood)):
        lists |= {name: values.mean(0), f"{name}_deviation": values.std(0)}
    return {name: [round(value, 5) for value in values.tolist()] for name, values in lists.items()}
