"""The picture of the schedule study: validation PSNR and KL over the training, a panel for each pair of schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from kineme.pipeline.pictures import figure_picture
from kineme.pipeline.training_curves import Curves

_PSNR, _KL, _BETA, _FORCING = "tab:blue", "tab:red", "0.85", "0.35"
_STRIP = 0.25
"""Part of a panel's height, at its foot, for the two schedules."""


def draw_prediction_schedules(
    curves: Mapping[tuple[str, str], Sequence[Curves]], psnr: Mapping[tuple[str, str], float]
) -> Image.Image:
    """Draw a row of panels for each KL annealing and a column for each teacher forcing, on shared axes.

    Args:
        curves: by (annealing, teacher forcing) those of each seed, with ``validation/psnr``, ``kl``, ``beta`` and
            ``teacher_forcing``.
        psnr: by the same the one to write in the panel, dB.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*curves, strict=True))
    figure = Figure(figsize=(2.9 * len(columns) + 0.8, 2.3 * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    nats: list[Axes] = []
    for (annealing, forcing), runs in curves.items():
        row, column = rows.index(annealing), columns.index(forcing)
        axis = axes[row, column]
        nats.append(_panel(axis, runs))
        # On the axis that is drawn last, over the curves.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        figures = f"{psnr[annealing, forcing]:.2f} dB"
        nats[-1].text(0.97, 0.5, figures, color=_PSNR, ha="right", bbox=box, transform=axis.transAxes)
        if row == 0:
            axis.set_title(f"teacher forcing: {forcing}", fontsize=10)
        if column == 0:
            axis.set_ylabel(f"KL annealing: {annealing}\nPSNR, dB", fontsize=9)
        if row == len(rows) - 1:
            axis.set_xlabel("epochs", fontsize=9)
        if column == len(columns) - 1:
            nats[-1].set_ylabel("KL, nats", fontsize=9)
        else:
            nats[-1].tick_params(which="both", labelright=False)
    # matplotlib shares the left axes alone.
    low, high = min(axis.get_ylim()[0] for axis in nats), max(axis.get_ylim()[1] for axis in nats)
    for axis in nats:
        axis.set_ylim(low, high)
    figure.legend(
        handles=[
            Line2D([], [], color=_PSNR, label="PSNR of held-out clips"),
            Line2D([], [], color=_KL, label="KL of training clips"),
            Patch(color=_BETA, label="weight of the KL"),
            Line2D([], [], color=_FORCING, linestyle=":", label="teacher forcing"),
        ],
        loc="outside upper center",
        ncols=4,
        fontsize=9,
        frameon=False,
    )
    return figure_picture(figure)


def _panel(axis: Axes, runs: Sequence[Curves]) -> Axes:
    """Draw one panel; returns the axis of its KL."""
    schedules, nats = axis.twinx(), axis.twinx()
    schedules.set_ylim(0, 1 / _STRIP)
    schedules.set_axis_off()
    places, beta = zip(*runs[0].points["beta"], strict=True)
    schedules.fill_between(places, [value / (max(beta) or 1.0) for value in beta], color=_BETA, linewidth=0)
    schedules.plot(*zip(*runs[0].points["teacher_forcing"], strict=True), color=_FORCING, linestyle=":", linewidth=1.2)
    # The curves lie above what is shaded.
    schedules.set_zorder(0)
    axis.set_zorder(1)
    axis.patch.set_visible(False)
    nats.set_zorder(2)
    for run in runs:
        for target, quantity, colour in ((axis, "validation/psnr", _PSNR), (nats, "kl", _KL)):
            target.plot(*zip(*run.points[quantity], strict=True), color=colour, linewidth=1.3)
    nats.set_yscale("log")
    axis.set_xlim(0, max(run.end for run in runs))
    for one, colour in ((axis, _PSNR), (nats, _KL)):
        one.tick_params(axis="y", which="both", labelsize=7, colors=colour)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(alpha=0.25)
    return nats
