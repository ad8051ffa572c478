"""Two real processes under Lightning's DDP share each epoch, and build the cache together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from shard_factory import make_shards

from kineme.shards.loader import clip_loader

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from lightning.pytorch import LightningModule, Trainer
from kineme.shards.loader import clip_loader

class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, _):
        self.seen += [record.key for record in batch.records]
        return self.weight * batch.frames.float().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

# Guarded, as every program that starts processes should be.
if __name__ == "__main__":
    shards, out = map(Path, sys.argv[1:])
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, use_distributed_sampler=False, **quiet
    )
    loader = clip_loader(
        shards, batch_size=2, clip_frames=6, shuffle=True, seed=1, workers=1, cache=out / "cache",
        rank=trainer.global_rank, ranks=trainer.world_size,
    )
    module = Recorder()
    trainer.fit(module, loader)
    (out / f"{trainer.global_rank}.json").write_text(json.dumps(module.seen))
"""


def test_two_ranks_share_every_epoch(tmp_path: Path) -> None:
    """Of 11 clips in 3 shards, every rank gets six, the first one of the order coming twice."""
    make_shards(tmp_path / "shards", (7, 1, 3))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "shards"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    loader = clip_loader(tmp_path / "shards", batch_size=11, clip_frames=6, shuffle=True, seed=1)
    orders = [[record.key for batch in loader for record in batch.records] for _ in range(2)]
    assert [key for pair in zip(one, other, strict=True) for key in pair] == [
        key for order in orders for key in [*order, order[0]]
    ]
