"""Training in two processes that torchrun starts, across the change of a stage."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import STATICS_DYNAMICS, make_recipe

from kineme.pipeline.run import load_run

PROGRAM = """
import hashlib, json, sys
from pathlib import Path
import torch
from kineme.pipeline.recipe import load_recipe
from kineme.pipeline.run_keeper import RunKeeper
from kineme.pipeline.training import train

torch.set_num_threads(1)
recipe, shards, run, out = map(Path, sys.argv[1:])
steps, end = [], RunKeeper.on_train_batch_end

def look(self, trainer, module, outputs, batch, batch_idx):
    parameters = module.model.named_parameters()
    sums = {name: hashlib.sha256(value.detach().numpy().tobytes()).hexdigest() for name, value in parameters}
    steps.append({"keys": [record.key for record in batch.records], "weights": sums,
                  "random": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()})
    (out / f"{trainer.global_rank} of {trainer.world_size}.json").write_text(json.dumps(steps))
    end(self, trainer, module, outputs, batch, batch_idx)

RunKeeper.on_train_batch_end = look
train(load_recipe(recipe), shards, run, accelerator="cpu")
"""


@pytest.mark.slow
def test_two_processes_train_one_network_in_two_stages(digits: Path, tmp_path: Path) -> None:
    """Each has half of the clips; their weights are the same after every step, and a stage trains its part alone."""
    make_recipe(STATICS_DYNAMICS, tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [tmp_path / "tiny.yaml", digits / "shards", tmp_path / "run", tmp_path]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "program.py"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / f"{rank} of 2.json").read_text()) for rank in range(2))
    # Two batches of four in half of twenty clips, and two epochs.
    assert len(one) == len(other) == 4
    for own, theirs in zip(one, other, strict=True):
        assert own["weights"] == theirs["weights"]
        assert not set(own["keys"]) & set(theirs["keys"])
        assert own["random"] != theirs["random"]
    changed = [
        {name.split(".")[0] for name in before["weights"] if before["weights"][name] != after["weights"][name]}
        for before, after in itertools.pairwise(one)
    ]
    rest = {"video_encoder", "frame_model", "predictor", "motion_layers", "to_appearance"}
    assert changed == [{"transformer"}, rest, rest]
    assert torch.isfinite(next(load_run(tmp_path / "run", torch.device("cpu")).task.model.parameters())).all()
