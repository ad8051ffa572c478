"""Speed of rollouts: frames that a predictor draws, its step compiled, beside the plain eager loop.

    python benchmarks/prediction.py                                        # two CPU cores: both narrow pushing recipes
    python benchmarks/prediction.py --recipe frame-predictor/pushing --recipe kernel-predictor/pushing    # a GPU

Plain is eager and fp32 (convolutions may use TF32 where torch does by default). Beside it compiled
(`kineme.models.compiled_predictor`: on a GPU as CUDA graphs), and on a GPU each of the two under bf16 autocast.
Networks have fresh weights, which cost as much as trained ones. All variants are run in turn, ``--rounds`` times, each
drawing ``--horizon`` frames after two; a figure is the median of the rounds' ratios to the plain one, with the lowest
and the highest. Compiling takes minutes on a CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
from timing import times_plain, wait

from kineme.models.compiled_predictor import CompiledPredictor
from kineme.models.next_frames import NextFramePredictor, rollout
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.run import device_name, environment, pick_device
from kineme.pipeline.tasks import make_task
from kineme.pipeline.tasks.prediction import PredictionTask

RESULTS = Path(__file__).parent / "results"
RECIPES = ("frame-predictor/pushing-cpu", "kernel-predictor/pushing-cpu")
BATCHES = (1, 64)
CONTEXT = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", dest="recipes", help="may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--horizon", type=int, default=20)
    parser.add_argument("--out", type=Path, help="default results/prediction-speed-{cpu,gpu}.json")
    args = parser.parse_args()
    device = pick_device()
    metrics: dict[str, float] = {}
    rounds: dict[str, dict[str, list[float]]] = {}
    for name in args.recipes or RECIPES:
        torch.manual_seed(0)
        task = make_task(load_recipe(name))
        if not isinstance(task, PredictionTask):
            parser.error(f"{name} predicts no frames")
        model = task.model.to(device).eval()
        for batch in BATCHES:
            draws = variants(model, batch, args.horizon, device)
            taken = rounds[f"{name}/batch_{batch}"] = {variant: [] for variant in draws}
            for draw in draws.values():
                seconds(draw, device)  # compiling and first allocations
            for _ in range(args.rounds):
                for variant, draw in draws.items():
                    taken[variant].append(seconds(draw, device))
            metrics |= figures(f"{name}/batch_{batch}", taken, batch * args.horizon, device)
    kind = "gpu" if device.type == "cuda" else "cpu"
    out = args.out or RESULTS / f"prediction-speed-{kind}.json"
    result = {
        "protocol": "rollout speed",
        "metrics": metrics,
        "device": device_name(device),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds_a_rollout": rounds,
        "versions": environment()["versions"],
        "command": " ".join(["python benchmarks/prediction.py", *sys.argv[1:]]),
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(metrics, indent=1))


def variants(
    model: NextFramePredictor, batch: int, horizon: int, device: torch.device
) -> dict[str, Callable[[], None]]:
    """What draws one rollout, by name."""
    compiled = CompiledPredictor(model)
    frames = torch.rand(batch, CONTEXT, *model.frame_shape, device=device)
    numbers = model.condition_dim
    condition = torch.randn(batch, CONTEXT + horizon, numbers, device=device) if numbers else None

    def make(predictor: NextFramePredictor, reduced: bool) -> Callable[[], None]:
        def draw() -> None:
            autocast = torch.autocast(device.type, torch.bfloat16) if reduced else nullcontext()
            with torch.inference_mode(), autocast:
                for _ in rollout(predictor, frames, horizon, condition):
                    pass

        return draw

    made = {"plain": make(model, False), "compiled": make(compiled, False)}
    if device.type == "cuda":
        made |= {"bf16": make(model, True), "compiled_bf16": make(CompiledPredictor(model), True)}
    return made


def figures(name: str, taken: dict[str, list[float]], frames: int, device: torch.device) -> dict[str, float]:
    """Ratios to the plain loop; frames a second, too, where an absolute figure says something: on a GPU."""
    found: dict[str, float] = {}
    for variant, own in taken.items():
        found |= times_plain(f"{name}/{variant}", taken["plain"], own)
        if device.type == "cuda":
            found[f"{name}/{variant}/frames_a_second"] = frames / median(own)
    return found


def seconds(draw: Callable[[], None], device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    draw()
    wait(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
