"""``kineme demo``: every step of the program on built-in data, ending in figures, pictures and a report.

The steps are the ones the command line offers, called in turn; ``report.html`` shows them as commands.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
from PIL import Image

from kineme.pipeline.clips import write_clip
from kineme.pipeline.errors import RunError
from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.frames import to_uint8
from kineme.pipeline.generation import swap
from kineme.pipeline.indexing import index_run
from kineme.pipeline.pictures import film_strips, save_picture
from kineme.pipeline.prediction import predict
from kineme.pipeline.querying import draw_hits, find_hits
from kineme.pipeline.question import read_question
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.report import Figure, write_report
from kineme.pipeline.run import Run, environment, load_run
from kineme.pipeline.training import train
from kineme.pipeline.training_curves import draw_curves
from kineme.retrieval.index import open_index
from kineme.shards.decode_pool import default_workers
from kineme.shards.engine_local import LocalEngine
from kineme.shards.ingest import IngestSettings, ingest
from kineme.shards.manifest import write_atomically
from kineme.shards.reader import load_clip_frames
from kineme.shards.records import read_records
from kineme.shards.sample import ClipRecord, Frames
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import FetchOptions
from kineme.shards.sources.registry import find_source

ENCODER = "statics-dynamics/cpu"
ENCODER_MINUTES = 5
PREDICTOR = "frame-predictor/moving-digits-cpu"
METRICS = "metrics.json"
MADE = ("videos", "shards", "runs", "index", "pictures", METRICS, "report.html")


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does. The default is what `make demo` shows; tests take less."""

    clips: int = 3200
    train_fraction: float = 0.75
    encoder_settings: tuple[str, ...] = ()
    predictor_settings: tuple[str, ...] = ()


@dataclass
class _Stages:
    """Announces each step and keeps what it took."""

    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, command: str, work: Callable[[], object]) -> None:
        print(f"\n== {name}\n   {command}", flush=True)
        started = time.monotonic()
        work()
        self.seconds[name] = round(time.monotonic() - started, 1)


def run_demo(out: Path, size: DemoSize | None = None) -> list[Figure]:
    """Fill ``out`` with videos, shards, two runs, an index, pictures, metrics.json and report.html.

    Args:
        out: folder to make. The results of an earlier demo there are replaced; its videos and shards are kept.
        size: how much to do.

    Returns:
        The figures that were printed.

    Raises:
        RunError: ``out`` holds something that no demo made.
    """
    size = size or DemoSize()
    _prepare(out)
    videos, shards, index = out / "videos", out / "shards", out / "index"
    encoder, predictor = out / "runs" / "encoder", out / "runs" / "predictor"
    encoder_recipe = load_recipe(ENCODER, [f"training.minutes={ENCODER_MINUTES}", *size.encoder_settings])
    predictor_recipe = load_recipe(PREDICTOR, list(size.predictor_settings))
    source = find_source("moving-digits")
    frames = predictor_recipe.data.clip_frames
    options = FetchOptions(clips=size.clips, frames=frames, train_fraction=size.train_fraction)
    settings = IngestSettings(sampling=Sampling(clip_frames=frames))
    results: dict[str, dict[str, object]] = {}

    def measure(name: str, run: Path, **options: str) -> None:
        results[name] = evaluate_run(run, shards, options=options)

    stages = _Stages()
    stages.run(
        "make videos",
        f"kineme fetch moving-digits --to {videos} --clips {size.clips} --frames {frames} "
        f"--train-fraction {size.train_fraction}",
        lambda: source.fetch(videos, options),
    )
    stages.run(
        "ingest",
        f"kineme ingest {videos} --dataset moving-digits --clip-frames {frames} --out {shards}",
        lambda: ingest(source, videos, shards, settings, LocalEngine(default_workers())),
    )
    stages.run(
        "train the encoder",
        f"kineme train {ENCODER} --data {shards} --out {encoder} --minutes {ENCODER_MINUTES}",
        lambda: train(encoder_recipe, shards, encoder),
    )
    stages.run(
        "train the predictor",
        f"kineme train {PREDICTOR} --data {shards} --out {predictor}",
        lambda: train(predictor_recipe, shards, predictor),
    )
    stages.run(
        "index the test clips",
        f"kineme index {encoder} --data {shards} --out {index} --split test",
        lambda: index_run(encoder, shards, index, split="test"),
    )
    stages.run("measure retrieval", f"kineme evaluate {encoder} --data {shards}", lambda: measure("retrieval", encoder))
    stages.run(
        "measure prediction",
        # One future of each clip: the demo shows no figure of several, which take ten times as long.
        f"kineme evaluate {predictor} --data {shards} --option samples=1",
        lambda: measure("prediction", predictor, samples="1"),
    )
    figures = _figures(results["retrieval"]["metrics"], results["prediction"]["metrics"])
    stages.run("draw", f"kineme query {index} KEY --by motion --sheet motion.png, and so on", lambda: _draw(out))
    _write_metrics(out, figures, stages.seconds)
    write_report(out, figures, stages.seconds)
    _print(out, figures)
    return figures


def _prepare(out: Path) -> None:
    if out.is_file():
        raise RunError(f"{out}: is a file; give --out a folder")
    strange = sorted(path.name for path in out.iterdir() if path.name not in MADE) if out.is_dir() else []
    if strange:
        raise RunError(f"{out}: holds {strange[0]}, which no demo made; give --out a new folder")
    for made in ("runs", "index", "pictures"):
        if (out / made).exists():
            shutil.rmtree(out / made)


def _figures(retrieval: object, prediction: object) -> list[Figure]:
    """The demo's figures under their short names, each beside its baselines and its goal."""
    assert isinstance(retrieval, dict)
    assert isinstance(prediction, dict)

    def precision(name: str, title: str, key: str, goal: float | None) -> Figure:
        value, chance, pixels = (retrieval[f"{key}/{part}"] for part in ("precision_at_10", "chance", "raw_pixels"))
        # A leak has no goal to reach: it should lie at chance.
        return Figure(
            name, title, value, {"chance": chance, "raw_pixels": pixels}, None if goal is None else goal * chance, ""
        )

    psnr, copied = (prediction[f"prediction/{name}"] for name in ("psnr", "psnr_copy_last"))
    return [
        precision("motion/precision_at_10", "same directions, other digits, by motion", "motion/directions", 3),
        precision("appearance/precision_at_10", "same digits, other directions, by appearance", "appearance/digits", 3),
        precision("motion/leak/precision_at_10", "digits by motion (what leaks)", "motion/digits", None),
        precision(
            "appearance/leak/precision_at_10", "directions by appearance (what leaks)", "appearance/directions", None
        ),
        Figure("prediction/psnr", "predicted frames", psnr, {"copy_last": copied}, copied + 1, "dB"),
    ]


def _write_metrics(out: Path, figures: list[Figure], seconds: dict[str, float]) -> None:
    """metrics.json: {metrics {name: value}, goals, seconds, and what it ran on}."""
    metrics: dict[str, float] = {}
    for figure in figures:
        metrics[figure.name] = figure.value
        for baseline, value in figure.baselines.items():
            separator = "_" if figure.name == "prediction/psnr" else "/"
            stem = figure.name if figure.name == "prediction/psnr" else figure.name.removesuffix("/precision_at_10")
            metrics[f"{stem}{separator}{baseline}"] = value
    goals = {figure.name: {"goal": figure.goal, "met": figure.met} for figure in figures if figure.goal is not None}
    date = datetime.now(UTC).date().isoformat()
    content = {
        "protocol": "demo",
        "metrics": metrics,
        "goals": goals,
        "seconds": seconds,
        "date": date,
        **environment(),
    }
    write_atomically(out / METRICS, (json.dumps(content, indent=2) + "\n").encode())


def _draw(out: Path) -> None:
    """The pictures of the report. The query is the first test clip, not a chosen one."""
    pictures, shards = out / "pictures", out / "shards"
    index = open_index(out / "index")
    tests = [record for record in read_records(shards) if record.split == "test"]
    for by in ("motion", "appearance"):
        question = read_question(index, [tests[0].key], by=by)
        hits = find_hits(index, question, k=6)
        save_picture(draw_hits(index, question, hits), pictures / f"query-{by}.png")
    predictor, encoder = load_run(out / "runs" / "predictor"), load_run(out / "runs" / "encoder")
    save_picture(_prediction_strips(predictor, out, tests[:3]), pictures / "prediction.png")
    strips, _ = swap(encoder, statics=_video(out, tests[0]), dynamics=_video(out, tests[1]))
    save_picture(film_strips(list(strips.values()), list(strips), frames_per_clip=10), pictures / "swap.png")
    draw_curves(
        {name: out / "runs" / name / "metrics" / "metrics.csv" for name in ("encoder", "predictor")},
        pictures / "curves.png",
    )


def _prediction_strips(predictor: Run, out: Path, records: list[ClipRecord]) -> Image.Image:
    context = predictor.recipe.objective.context  # type: ignore[union-attr]
    clips: list[Frames] = []
    captions: list[str] = []
    for record in records:
        truth = load_clip_frames(out / "shards", record.key)
        prediction = predict(predictor, _video(out, record), horizon=len(truth) - context)
        clips += [truth, to_uint8(torch.stack(list(prediction.frames), dim=1))[0].numpy()]
        captions += [f"truth\n{record.labels['digits']}", f"prediction\nthe first {context} frames are given"]
    write_clip(clips[1], prediction.fps, out / "pictures" / "prediction.mp4")
    return film_strips(clips, captions, frames_per_clip=None)


def _video(out: Path, record: ClipRecord) -> Path:
    return out / "videos" / record.source


def _print(out: Path, figures: list[Figure]) -> None:
    print("\nOn the test clips:")
    for figure in figures:
        print(f"  {figure.line()}")
    print(f"\n{out / 'report.html'} shows them with pictures; {out / METRICS} holds them for a program.")
    serve = f"kineme serve {out / 'index'} --predictor {out / 'runs' / 'predictor'} --run {out / 'runs' / 'encoder'}"
    print(f"To search its index on a page, run\n  {serve}\nand open http://127.0.0.1:8000")
