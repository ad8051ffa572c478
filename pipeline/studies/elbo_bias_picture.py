"""The picture of the bias study: the five panels of the paper's figures 3 and 4, and the bias over sigma_f."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kineme.pipeline.pictures import figure_picture

COLOURS = {"ELBO": "tab:blue", "log-likelihood": "tab:red"}
_LETTERS = {"sigma_x": r"\sigma_x", "sigma_z": r"\sigma_z"}
# How many nats below the ELBO's highest a panel reaches: the curves fall steeply at its left.
_DEPTH = 1.8


def draw_elbo_bias(
    panels: Sequence[Mapping[str, Any]], sigma_f: float, sensitivity: Mapping[str, Mapping[str, Sequence[float]]]
) -> Image.Image:
    """Draw five panels of curves and a sixth with the bias over the true sigma_f.

    Args:
        panels: each has ``parameter``, ``true``, ``grid`` (G,), and by the names ELBO and log-likelihood ``curves``
            (R, G) and ``peaks`` (R,).
        sigma_f: the true one of those panels.
        sensitivity: by ``parameter/true``: ``sigma_f``, ``bias``, ``lowest`` and ``highest`` of equal length.
    """
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _curves(axis, panel)
    axes[0].legend(fontsize=8, loc="lower right")
    _bias_over_sigma_f(axes[-1], sensitivity)
    figure.suptitle(
        "Mean ELBO and log-likelihood, dashed where they are highest, shaded from lowest to highest seed; "
        rf"$\sigma_f$ is {sigma_f:g}, all other deviations 1",
        fontsize=10,
    )
    return figure_picture(figure)


def _curves(axis: Axes, panel: Mapping[str, Any]) -> None:
    grid, letter = panel["grid"], _LETTERS[panel["parameter"]]
    heights = []
    for name, colour in COLOURS.items():
        by_value = list(zip(*panel["curves"][name], strict=True))
        mean = [sum(values) / len(values) for values in by_value]
        heights.append(max(mean))
        axis.plot(grid, mean, color=colour, label=name, linewidth=1.5)
        axis.fill_between(grid, [min(v) for v in by_value], [max(v) for v in by_value], color=colour, alpha=0.2, lw=0)
        peaks = panel["peaks"][name]
        axis.axvline(sum(peaks) / len(peaks), color=colour, linestyle="--", linewidth=1.2)
        axis.axvspan(min(peaks), max(peaks), color=colour, alpha=0.12, linewidth=0)
    axis.axvline(panel["true"], color="black", linestyle=":", linewidth=1.2, label="true value")
    axis.set_xlim(0, 2.5 * panel["true"] + 0.5)
    axis.set_ylim(min(heights) - _DEPTH, max(heights) + 0.4)
    axis.set_xlabel(f"${letter}$")
    axis.set_ylabel("nats a clip")
    axis.set_title(f"true ${letter}$ = {panel['true']:g}", fontsize=10)
    axis.grid(alpha=0.25)


def _bias_over_sigma_f(axis: Axes, lines: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    for name, line in lines.items():
        parameter, true = name.split("/")
        below = [bias - low for bias, low in zip(line["bias"], line["lowest"], strict=True)]
        above = [high - bias for bias, high in zip(line["bias"], line["highest"], strict=True)]
        label = f"${_LETTERS[parameter]}$ = {true}"
        style = "-" if parameter == "sigma_x" else "--"
        axis.errorbar(
            line["sigma_f"], line["bias"], yerr=[below, above], label=label, linestyle=style, marker="o", markersize=3
        )
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xticks(next(iter(lines.values()))["sigma_f"])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_xlabel(r"true $\sigma_f$")
    axis.set_ylabel("bias (best by ELBO - by likelihood)")
    axis.set_title("bias over the true $\\sigma_f$, with 95% intervals", fontsize=10)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.25)
