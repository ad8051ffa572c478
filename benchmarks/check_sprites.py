"""Compare every stored Sprites sequence with its composition from the sheets, pixel by pixel.

python benchmarks/check_sprites.py SHEETS SHARDS benchmarks/results/sprites-exact.json
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kineme.pipeline.run import environment
from kineme.shards.manifest import Manifest, write_atomically
from kineme.shards.reader import decode_sample, read_samples
from kineme.shards.sources.registry import find_source


def main(sheets: Path, shards: Path, out: Path) -> None:
    openers = {item.source: item.opener for item in find_source("sprites").items(sheets)}
    equal = 0
    for entry in Manifest.load(shards).shards:
        for sample in read_samples(shards / f"{entry.name}.tar"):
            (read,) = openers.pop(sample.record.source).readers()
            composed = np.stack([frame.image for frame in read().frames])
            equal += bool(np.array_equal(decode_sample(sample), composed))
        print(f"{entry.name}: {equal} equal so far", flush=True)
    surroundings = environment()
    result = {
        "protocol": "bit-exact",
        "metrics": {"equal": equal, "missing": len(openers)},
        "device": surroundings["device"],
        "date": datetime.now(UTC).date().isoformat(),
        "versions": surroundings["versions"],
    }
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode())
    print(json.dumps(result["metrics"]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
