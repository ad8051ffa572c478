"""A run that starts from the weights of another one."""

from __future__ import annotations

from pathlib import Path

import torch

from kineme.pipeline.errors import RunError
from kineme.pipeline.run import load_run
from kineme.pipeline.tasks import Task

_SHARED_ENCODER = {"statics-dynamics", "video-baseline"}
"""Kinds around the same video encoder, which either may start from the other's: the pretraining of thesis 7.5.3."""


def start_from(task: Task, kind: str, run: Path) -> str:
    """Copy into the network of ``task`` every tensor of ``run`` whose name and shape it has, too.

    Args:
        task: of the new run.
        kind: of the new run's recipe.
        run: a trained run, of the same kind or of one that has the video encoder in common.

    Returns:
        One line: how many of how many tensors start from there.

    Raises:
        RunError: no run there or a damaged one, one of another kind, nothing of it fits, or it lacks the transformer
            that the new run will not train.
    """
    other = load_run(run, torch.device("cpu"))
    if other.recipe.kind != kind and not {other.recipe.kind, kind} <= _SHARED_ENCODER:
        raise RunError(f"--init {run}: is a {other.recipe.kind} run and has nothing a {kind} run could start from")
    own, given = task.model.state_dict(), other.task.model.state_dict()
    fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    # Counters and other single numbers fit any network.
    if not any(value.dim() for value in fitting.values()):
        raise RunError(
            f"--init {run}: none of its {len(given)} tensors has name and shape of one of the {len(own)} here: "
            "give both recipes the same model section"
        )
    lacking = [name for name in own if name.startswith("transformer.") and name not in fitting]
    if lacking and task.stages[0].name != "transformer" and kind == "statics-dynamics":
        raise RunError(
            f"--init {run}: gives no {lacking[0]} of this size, and objective.transformer.fraction 0 trains none; "
            "start from a statics-dynamics run with the same model section"
        )
    task.model.load_state_dict(fitting, strict=False)
    return f"{run}: {len(fitting)} of {len(own)} tensors start from there"
