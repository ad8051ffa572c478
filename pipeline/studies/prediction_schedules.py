"""What do KL annealing and teacher forcing do for a next-frame CVAE? The ablation that the lab report discusses.

A recipe is trained with each of three curves of the KL weight and each of four of teacher forcing. All else is shared,
the first weights and the order of the clips included; only where minutes end the runs, those that feed back their own
frames make fewer steps, as they are slower: `epochs` says how many.

Every run is measured on clips held out of the training split, at most 256, never on test clips:

- psnr: of predicted frames, dB, as in training's validation; the mean over 5 drawn futures of every clip.
- kl: of q(z_t | x, c) from the prior, nats a frame.
- reconstruction: the mean squared error of frames 1 .. T-1 with z from the posterior. Own frames are fed back after the
  context, whatever the run was trained with. Unlike psnr it counts the frames of the context, too, but the first.

The report gives curves for its own setting and no table: the fractions of the training at which teacher forcing decays
are ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from kineme.models.predictor_loss import predictor_loss
from kineme.models.schedules import Annealing
from kineme.pipeline.errors import RunError
from kineme.pipeline.pictures import save_picture
from kineme.pipeline.recipe import PredictorRecipe, changed_settings, load_recipe, recipe_of
from kineme.pipeline.recipe_prediction import TeacherForcing
from kineme.pipeline.run import CHECKPOINT, METRICS, Run, environment, load_run
from kineme.pipeline.studies.prediction_schedules_picture import draw_prediction_schedules
from kineme.pipeline.tasks import TrainingClips, complete_recipe
from kineme.pipeline.tasks.prediction import PredictionTask
from kineme.pipeline.training import train
from kineme.pipeline.training_curves import Curves, read_curves
from kineme.pipeline.validation import held_out_batches, mean_figures, validate
from kineme.shards.batch import ClipBatch
from kineme.shards.manifest import Manifest, write_atomically

STUDY = "prediction-schedules"
HELD_OUT = 0.05
FUTURES = 5
MOST_CLIPS = 256
SETTINGS = "settings.json"
FIGURES = "figures.json"
"""Beside a run, once it is trained and measured."""


def _decay(begin: float, end: float) -> TeacherForcing:
    return TeacherForcing(decay_begin=begin, decay_step=1 / (end - begin))


ANNEALING: tuple[Annealing, ...] = get_args(Annealing)
TEACHER_FORCING = {
    "always": TeacherForcing(),
    "early": _decay(0.1, 0.4),
    "late": _decay(0.6, 0.9),
    "never": TeacherForcing(start=0.0),
}
_OF_THE_STUDY = ("objective.kl.kind", "objective.teacher_forcing", "training.seed")


@dataclass(frozen=True)
class Cell:
    """One run of the study: its two schedules and its random seed."""

    annealing: Annealing
    teacher_forcing: str
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.annealing}-{self.teacher_forcing}-{self.seed}"

    def recipe(self, base: PredictorRecipe) -> PredictorRecipe:
        """``base`` with its schedules and seed."""
        kl = base.objective.kl.model_copy(update={"kind": self.annealing})
        schedules = {"kl": kl, "teacher_forcing": TEACHER_FORCING[self.teacher_forcing]}
        objective = base.objective.model_copy(update=schedules)
        training = base.training.model_copy(update={"seed": self.seed})
        return base.model_copy(update={"objective": objective, "training": training})


def study_recipe(
    name: str, settings: Sequence[str] = (), *, minutes: float | None = None, epochs: int | None = None
) -> PredictorRecipe:
    """What all runs share; 0.05 of the videos are held out where the recipe holds out none.

    Args:
        name: of a recipe whose predictor has a z, or a .yaml file.
        settings: ``key=value``, as `load_recipe` takes them.
        minutes: of each run; the recipe's if neither is given.
        epochs: of each run, however long they take.

    Raises:
        RunError: no such recipe or one of another kind, a setting that it has not or that the study makes itself, or
            minutes and epochs.
    """
    if minutes is not None and epochs is not None:
        raise RunError(f"--minutes {minutes:g} and --epochs {epochs}: a run ends by one of them; leave out the other")
    for setting in settings:
        if setting.startswith(_OF_THE_STUDY):
            raise RunError(f"--set {setting}: the study sets that itself, to each of its values; leave it out")
    ends = [] if minutes is None else [f"training.minutes={minutes}"]
    ends += [] if epochs is None else [f"training.epochs={epochs}", "training.minutes=null"]
    recipe = load_recipe(name, [*settings, *ends])
    if not isinstance(recipe, PredictorRecipe) or not recipe.model.latent_dim:
        raise RunError(
            f"{name}: has no KL term to anneal; give a recipe of frame-predictor, or of kernel-predictor with --set "
            "model.latent_dim=8"
        )
    if recipe.data.held_out:
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"held_out": HELD_OUT})})


def run_prediction_schedules(base: PredictorRecipe, shards: Path, out: Path, *, seeds: int = 1) -> dict[str, float]:
    """Train and measure what is missing of the study, then write ``prediction-schedules.json`` and ``.png``.

    Args:
        base: what all runs share.
        shards: ingested clips.
        out: the folder; it is made. Runs that an earlier call has finished are kept, the one that it was in goes on.
        seeds: runs of each pair of schedules, with the random seeds 0, 1, ...

    Returns:
        ``ANNEALING/TEACHER_FORCING/FIGURE``, means over the seeds; ``clips`` that were measured, ``seeds``.

    Raises:
        RunError: fewer than one seed; ``out`` was made with other settings; the recipe does not fit the shards.
        DataError: the shards cannot be read, or nothing of them is held out.
        OSError: the folder cannot be made or written.
    """
    if seeds < 1:
        raise RunError(f"--seeds {seeds}: at least 1 is needed; leave it out for 1")
    completed = complete_recipe(base, shards)
    assert isinstance(completed, PredictorRecipe)
    base = Cell("none", "always", 0).recipe(completed)
    batches = held_out_batches(base.data, shards, MOST_CLIPS)
    manifest = Manifest.load(shards)
    data = {"shards": shards.resolve().name, "dataset": manifest.dataset, "clips": manifest.clips}
    _claim(out, base, data)
    # Whole tables one after the other, the first one as soon as can be.
    cells = [Cell(kind, forcing, seed) for seed, kind, forcing in product(range(seeds), ANNEALING, TEACHER_FORCING)]
    runs = {}
    for number, cell in enumerate(cells, 1):
        print(f"== {cell.name} ({number} of {len(cells)})", flush=True)
        runs[cell.name] = _finish(out / "runs" / cell.name, cell.recipe(base), shards, batches)
    metrics: dict[str, float] = {"clips": sum(len(batch) for batch in batches), "seeds": seeds}
    curves: dict[tuple[str, str], list[Curves]] = {}
    for kind, forcing in product(ANNEALING, TEACHER_FORCING):
        names = [Cell(kind, forcing, seed).name for seed in range(seeds)]
        found = summary([runs[name] for name in names])
        metrics |= {f"{kind}/{forcing}/{figure}": value for figure, value in found.items()}
        curves[kind, forcing] = [read_curves(out / "runs" / name / METRICS) for name in names]
    psnr = {pair: metrics[f"{'/'.join(pair)}/psnr"] for pair in curves}
    save_picture(draw_prediction_schedules(curves, psnr), out / f"{STUDY}.png")
    surroundings = environment()
    result = {
        "protocol": STUDY,
        "recipe": base.model_dump(mode="json"),
        "metrics": metrics,
        "split": base.data.split,
        "options": {"futures": FUTURES, "held_out": base.data.held_out},
        "teacher_forcing": {name: forcing.model_dump() for name, forcing in TEACHER_FORCING.items()},
        "runs": runs,
        "data": data,
        "device": surroundings["device"],
        "date": datetime.now(UTC).date().isoformat(),
        "command": surroundings["command"],
        "versions": surroundings["versions"],
    }
    write_atomically(out / f"{STUDY}.json", (json.dumps(result, indent=2) + "\n").encode())
    return metrics


def measure(run: Run, batches: Sequence[ClipBatch]) -> dict[str, float]:
    """``psnr``, ``kl`` and ``reconstruction`` of a predictor on held-out clips; see the head of this file."""
    task = run.task
    assert isinstance(task, PredictionTask)
    futures = [validate(task, batches, run.device, seed=seed)["psnr"] for seed in range(FUTURES)]
    bound = mean_figures(task, partial(_bound, task), batches, run.device)
    return {"psnr": sum(futures) / FUTURES, **bound}


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the figures of runs that differ by their seed; of several runs the lowest and highest psnr, too."""
    figures = {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}
    if len(runs) > 1:
        psnrs = [run["psnr"] for run in runs]
        figures |= {"psnr_lowest": min(psnrs), "psnr_highest": max(psnrs)}
    return {name: round(value, 6) for name, value in figures.items()}


def table(metrics: Mapping[str, float]) -> list[str]:
    """The metrics of `run_prediction_schedules` as lines of text."""
    columns = {"psnr": 2, "psnr_lowest": 2, "psnr_highest": 2, "kl": 3, "reconstruction": 5, "epochs": 1}
    shown = {name: digits for name, digits in columns.items() if f"{ANNEALING[0]}/always/{name}" in metrics}
    lines = [f"{'KL annealing':<14}{'teacher forcing':<15}" + "".join(f"{name:>16}" for name in shown)]
    for kind, forcing in product(ANNEALING, TEACHER_FORCING):
        values = "".join(f"{metrics[f'{kind}/{forcing}/{name}']:>16.{digits}f}" for name, digits in shown.items())
        lines.append(f"{kind:<14}{forcing:<15}{values}")
    return lines


def _finish(run: Path, recipe: PredictorRecipe, shards: Path, batches: Sequence[ClipBatch]) -> dict[str, float]:
    """The figures of a run, from the file that it left or after training it to its end."""
    if (run / FIGURES).is_file():
        return dict(json.loads((run / FIGURES).read_text()))
    train(recipe, shards, run, resume=(run / CHECKPOINT).is_file())
    found = {**measure(load_run(run), batches), "epochs": read_curves(run / METRICS).end}
    write_atomically(run / FIGURES, (json.dumps(found) + "\n").encode())
    return found


def _bound(task: PredictionTask, clips: TrainingClips) -> dict[str, Tensor]:
    condition = task.condition(clips.actions)
    output = task.model(clips.frames, context=task.context, condition=condition, teacher_forcing=False)
    parts = predictor_loss(output, clips.frames, beta=0.0)
    assert parts.kl is not None
    return {"kl": parts.kl, "reconstruction": parts.reconstruction}


def _claim(out: Path, base: PredictorRecipe, data: Mapping[str, Any]) -> None:
    """Note what the runs of a folder share, or refuse one whose runs share something else."""
    noted = out / SETTINGS
    if noted.is_file():
        _check_same(noted, base, data)
        return
    if (out / "runs").exists():
        raise RunError(f"{out}: holds runs, but no {SETTINGS} of this study; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    settings = {"recipe": base.model_dump(mode="json"), "data": data}
    write_atomically(noted, (json.dumps(settings, indent=2) + "\n").encode())


def _check_same(noted: Path, base: PredictorRecipe, data: Mapping[str, Any]) -> None:
    try:
        before = json.loads(noted.read_text())
        recipe, data_before = dict(before["recipe"]), before["data"]
    except (ValueError, LookupError, TypeError):
        raise RunError(f"{noted}: not written by this study; give another --out") from None
    changed = changed_settings(recipe_of(recipe, noted), base)
    if data_before != data:
        changed["--data"] = f"{_words(data)}, was {_words(data_before)}"
    for name, values in changed.items():
        raise RunError(
            f"{noted.parent}: its runs share other settings, {name} is {values}; give those or another --out"
        )


def _words(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in data.items())
