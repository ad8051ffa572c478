"""Training speed: steps of a recipe as it trains, beside the same network written plainly, and the device's peak.

    python benchmarks/training.py                                             # two CPU cores: statics-dynamics/cpu
    python benchmarks/training.py --recipe statics-dynamics/moving-mnist      # a GPU
    python benchmarks/training.py --recipe sequential-vae/sprites --out benchmarks/results/training-sprites-gpu.json

Plain is eager, fp32 (convolutions may use TF32 where torch does by default), torch's usual memory layout; a sequential
VAE has its channels last by itself, so for it the first switch changes nothing. The switches of the recipe are added
one after the other: channels_last, bf16 autocast, torch.compile. All variants of one stage are run in turn,
``--rounds`` times; a figure is the median of the rounds' ratios to the plain one, with the lowest and the highest. A
step is forward, backward and Adam on a batch that lies on the device: what the data path adds is measured by
``data_plane``. The model's FLOPs are counted by torch, a mean over the steps of a round; the peak is that of a large
matrix product in the precision of the fastest variant.
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
from torch.utils.flop_counter import FlopCounterMode

from kineme.pipeline.recipe import Recipe, load_recipe
from kineme.pipeline.run import device_name, environment, pick_device
from kineme.pipeline.tasks import TrainingClips, make_task
from kineme.pipeline.training_module import to_channels_last

RESULTS = Path(__file__).parent / "results"
VARIANTS = {
    "plain": (),
    "channels_last": ("channels_last",),
    "bf16": ("channels_last", "bf16"),
    "compile": ("channels_last", "bf16", "compile"),
}
PEAK_SIDE = {"cuda": 8192, "cpu": 2048}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="statics-dynamics/cpu")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--no-compile", action="store_true", help="where there is no compiler")
    parser.add_argument("--out", type=Path, help="default results/training-{cpu,gpu}.json")
    args = parser.parse_args()
    device = pick_device()
    recipe = load_recipe(args.recipe, args.settings)
    variants = [name for name in VARIANTS if not (args.no_compile and name == "compile")]
    metrics: dict[str, float] = {}
    rounds: dict[str, dict[str, list[float]]] = {}
    for part in make_task(recipe).stages:
        # As it is towards the end of the stage.
        stage, progress = part.name, part.end - 1e-3
        steps = {name: make_step(recipe, VARIANTS[name], progress, device) for name in variants}
        taken = rounds[stage] = {name: [] for name in variants}
        for step in steps.values():
            seconds_a_step(step, 2, device)  # compiling and first allocations
        for number in range(args.rounds):
            for name, step in steps.items():
                # A step may draw what it does: the same for all variants.
                torch.manual_seed(number)
                taken[name].append(seconds_a_step(step, args.steps, device))
        torch.manual_seed(0)
        with FlopCounterMode(display=False) as counter:
            seconds_a_step(steps["plain"], args.steps, device)
        flops = counter.get_total_flops() / args.steps
        for name in variants:
            metrics |= times_plain(f"{stage}/{name}", taken["plain"], taken[name])
        fastest = min(variants, key=lambda name: median(taken[name]))
        reduced = "bf16" in VARIANTS[fastest]
        metrics[f"{stage}/flops_a_clip"] = flops / recipe.data.batch_size
        rate = flops / median(taken[fastest])
        metrics[f"{stage}/of_peak"] = rate / peak_flops(device, torch.bfloat16 if reduced else torch.float32)
        # An absolute figure says something on a known GPU alone.
        if device.type == "cuda":
            metrics[f"{stage}/clips_a_second"] = recipe.data.batch_size / median(taken[fastest])
    name = "gpu" if device.type == "cuda" else "cpu"
    out = args.out or RESULTS / f"training-{name}.json"
    result = {
        "protocol": "training speed",
        "metrics": metrics,
        "device": device_name(device),
        "date": datetime.now(UTC).date().isoformat(),
        "recipe": recipe.model_dump(mode="json"),
        "seconds_a_step": rounds,
        "versions": environment()["versions"],
        "command": "python benchmarks/training.py " + " ".join(sys.argv[1:]),
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(metrics, indent=1))


def make_step(recipe: Recipe, switches: tuple[str, ...], progress: float, device: torch.device) -> Callable[[], None]:
    """One training step on a batch of noise, with these switches."""
    torch.manual_seed(0)
    task = make_task(recipe)
    model = task.model.to(device)
    if "channels_last" in switches:
        to_channels_last(model)
    if "compile" in switches:
        for part in task.compiled_parts():
            part.compile()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    size = task.frame_size
    frames = torch.rand(recipe.data.batch_size, recipe.data.clip_frames, 3, size, size, device=device)
    clips = TrainingClips(frames, None, None, [])

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16) if "bf16" in switches else nullcontext():
            loss = task.losses(clips, progress)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds_a_step(step: Callable[[], None], steps: int, device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    return (time.perf_counter() - started) / steps


def peak_flops(device: torch.device, precision: torch.dtype) -> float:
    """What a large square matrix product reaches, the best of ten."""
    side = PEAK_SIDE[device.type]
    a, b = torch.randn(2, side, side, device=device, dtype=precision)
    fastest = min(seconds_a_step(lambda: torch.mm(a, b), 1, device) for _ in range(10))
    return 2 * side**3 / fastest


if __name__ == "__main__":
    main()
