"""Speed of search through our classes beside bare FAISS, and of tuned structures beside exact search.

    python benchmarks/retrieval.py             # 10 thousand, 100 thousand, a million vectors: half an hour, two cores
    python benchmarks/retrieval.py --quick     # 5 thousand, to see that it runs at all

Vectors have 512 dimensions and are clustered: a thousand clusters of very different sizes, each a flat of 24 dimensions
with noise around it, at length 1. Queries are drawn likewise and are not among them. Ours is `Index.nearest` on an
index opened from disk, and for one query also `search`, which adds the metadata. Bare is `IndexFlatIP` with all vectors
in memory, or the structure's own file read into memory, at the same nprobe or efSearch, with faiss's defaults. All
answer the same queries in turn, one call each; a figure is the median of the rounds' ratios, with the lowest and the
highest. Up to 100 thousand vectors each round copies the index, and opens and reads it anew. At a million vectors the
structure is what --latency-ms makes `kineme index` choose; below, kinds are forced.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from timing import times_plain

from kineme.pipeline.run import device_name, environment, pick_device
from kineme.retrieval.budget import Budget
from kineme.retrieval.choosing import structures
from kineme.retrieval.growing import build_index, compact
from kineme.retrieval.index import Index, open_index
from kineme.retrieval.index_report import read_report
from kineme.retrieval.metadata import StoredClip
from kineme.retrieval.search import search
from kineme.retrieval.vectors import ClipVectors, Vectors, normalised

RESULTS = Path(__file__).parent / "results"
SIZES = (10_000, 100_000, 1_000_000)
DIM, K, FAR, BATCHES = 512, 10, 100, (1, 64)
MILLION_LATENCY_MS = 10.0
KINDS: dict[int, tuple[Budget, ...]] = {
    10_000: (Budget(kind="ivf"), Budget(kind="hnsw")),
    100_000: (Budget(kind="ivf"), Budget(kind="hnsw"), Budget(kind="ivf-pq")),
    1_000_000: (Budget(latency_ms=MILLION_LATENCY_MS),),
}
CLUSTERS, FLAT, BLOCK = 1000, 24, 50_000
PLACED_ANEW = 100_000

Search = Callable[[Vectors], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="may be repeated; default all three sizes")
    parser.add_argument("--rounds", type=int, default=7, help="three times as many where a round is short")
    parser.add_argument("--work", type=Path, help="folder for indexes, 6 GB at most; removed after; default a new one")
    parser.add_argument("--out", type=Path, default=RESULTS / "retrieval-cpu.json")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    metrics: dict[str, float] = {}
    settings: dict[str, object] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    sizes = [5000] if args.quick else args.rows or SIZES
    for rows in sizes:
        work = Path(tempfile.mkdtemp(prefix="kineme-retrieval-", dir=args.work))
        try:
            measured = measure(
                work / "index", rows, 2 if args.quick else args.rounds * (1 if rows > PLACED_ANEW else 3)
            )
        finally:
            shutil.rmtree(work)
        metrics |= measured.metrics
        settings |= measured.settings
        seconds |= measured.seconds
        result = {
            "protocol": "search speed",
            "metrics": metrics,
            "settings": {"dim": DIM, "k": K, "clusters": CLUSTERS, "dimensions of a cluster": FLAT, **settings},
            "device": device_name(pick_device("cpu")),
            "date": datetime.now(UTC).date().isoformat(),
            "seconds_a_round": seconds,
            "versions": {**dict(environment()["versions"]), "faiss": faiss.__version__},  # type: ignore[call-overload]
            "command": " ".join(["python benchmarks/retrieval.py", *sys.argv[1:]]),
        }
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(metrics, indent=1))


class Clustered:
    """Vectors of the same clusters, block by block, the same from the same seed."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.centres = draw.standard_normal((CLUSTERS, DIM), np.float32)
        # Of 64 sets of directions each cluster has one; the first directions are the widest.
        self.flats = draw.standard_normal((64, FLAT, DIM), np.float32) * np.linspace(1, 0.2, FLAT)[:, None]
        sizes = 1 / np.arange(1, CLUSTERS + 1) ** 0.5
        self.shares = sizes / sizes.sum()

    def block(self, seed: int, count: int) -> Vectors:
        """(count, 512) float32 of length 1."""
        draw = np.random.default_rng((1, seed))
        clusters = draw.choice(CLUSTERS, count, p=self.shares)
        places = draw.standard_normal((count, FLAT), np.float32) * 0.3
        vectors = self.centres[clusters] + 0.1 * draw.standard_normal((count, DIM), np.float32)
        for flat in range(len(self.flats)):
            here = clusters % len(self.flats) == flat
            vectors[here] += places[here] @ self.flats[flat].astype(np.float32)
        return normalised(vectors.astype(np.float32))


@dataclass(frozen=True)
class Measured:
    """Figures, what was chosen, and the seconds of every round."""

    metrics: dict[str, float]
    settings: dict[str, object]
    seconds: dict[str, dict[str, list[float]]]


def measure(folder: Path, rows: int, rounds: int) -> Measured:
    clustered = Clustered()
    done = Measured({}, {}, {})
    exact = build(folder, clustered, rows)
    flat = flat_of(exact)

    def opened() -> Index:
        """Where bytes fall in memory makes a tenth of the time, either way: a small index has new places each round."""
        if rows > PLACED_ANEW:
            return open_index(folder)
        shutil.rmtree(folder.with_name("copy"), ignore_errors=True)
        return open_index(Path(shutil.copytree(folder, folder.with_name("copy"))))

    # More calls where a call is short.
    queries = clustered.block(1_000_000, 512)
    many = {size: [queries[start : start + size] for start in range(0, len(queries), size)] for size in BATCHES}
    few = {1: many[1][: max(8, 1_000_000 // rows)], 64: many[64][: max(1, 100_000 // rows)]}
    for size, questions in few.items():

        def beside_flat(size: int = size) -> dict[str, Search]:
            index = opened()
            plain = flat if rows > PLACED_ANEW else flat_of(index)
            return {"plain": bare(plain, None), "ours": ours(index)} | with_hits(index, size)

        compare(done, f"{rows}/exact/batch_{size}", beside_flat, questions, rounds)
    fresh = clustered.block(1_000_002, 1000)
    truth = exact.nearest(fresh, "motion", FAR)
    for budget in KINDS.get(rows, KINDS[10_000]):
        compact(folder, structures(budget, lambda line: print(f"{rows}: {line}", file=sys.stderr)))
        index, report = open_index(folder), read_report(folder)
        assert report is not None
        chosen = report.spaces["motion"]
        name = f"{rows}/{chosen.kind}"
        done.settings[name] = report.model_dump(mode="json")["spaces"]["motion"]
        for k in (K, FAR):
            found = index.nearest(fresh, "motion", k)
            last = truth.scores[:, k - 1 : k] - 1e-6
            done.metrics[f"{name}/recall_at_{k}"] = float((found.scores >= last).mean())
        if chosen.kind == "exact":
            continue
        parameters = {
            "nprobe": faiss.SearchParametersIVF,
            "efSearch": faiss.SearchParametersHNSW,
        }[str(chosen.effort_name)](**{str(chosen.effort_name): chosen.effort})
        for size in BATCHES:
            if chosen.candidates == 1:  # else bare faiss ranks by codes alone and finds less: nothing to compare with

                def beside_same(size: int = size, parameters: Any = parameters) -> dict[str, Search]:
                    index = opened()
                    same = faiss.read_index(str(index.folder / index.info.structures["motion"].location))
                    return {"plain": bare(same, parameters), "ours": ours(index)} | with_hits(index, size)

                compare(done, f"{name}/batch_{size}", beside_same, many[size], rounds)
            standing = {"exact": ours(exact), "flat": bare(flat, None), "ours": ours(index)}
            compare(done, f"{name}/batch_{size}/beside_exact", lambda variants=standing: variants, few[size], rounds)
        del standing, index
    return done


def compare(
    done: Measured, name: str, make: Callable[[], Mapping[str, Search]], questions: list[Vectors], rounds: int
) -> None:
    """Every variant asks every question, and each goes first as often; ratios of the sums of a round."""
    taken: dict[str, list[float]] = {}
    for number in range(rounds):
        variants = make()
        order = list(variants.items())
        order = order[number % len(order) :] + order[: number % len(order)]
        for counted in (False, True):
            sums = dict.fromkeys(variants, 0.0)
            for question in questions:
                order.append(order.pop(0))  # what comes first finds the caches as another left them
                for variant, ask in order:
                    started = time.perf_counter()
                    ask(question)
                    sums[variant] += time.perf_counter() - started
            for variant in variants if counted else ():
                taken.setdefault(variant, []).append(sums[variant])
    done.seconds[name] = taken
    if "plain" in taken:
        for own in {"ours", "hits"} & taken.keys():
            done.metrics.update(times_plain(f"{name}/{own}", taken["plain"], taken[own]))
    for other in {"exact", "flat"} & taken.keys():
        ratios = times_plain(name.removesuffix("/beside_exact"), taken[other], taken["ours"])
        done.metrics.update({key.replace("times_plain", f"times_{other}"): ratio for key, ratio in ratios.items()})
    print(json.dumps({key: value for key, value in done.metrics.items() if key.startswith(name)}), file=sys.stderr)


def flat_of(index: Index) -> Any:
    flat = faiss.IndexFlatIP(DIM)
    flat.add(np.asarray(index.segments[0].vectors["motion"]))
    return flat


def bare(index: Any, parameters: Any) -> Search:
    return lambda queries: index.search(queries, K, params=parameters)


def ours(index: Index) -> Search:
    return lambda queries: index.nearest(queries, "motion", K)


def with_hits(index: Index, batch: int) -> dict[str, Search]:
    """Whole hits, which are asked for one query at a time."""
    return {"hits": lambda queries: search(index, queries[0], by="motion", k=K)} if batch == 1 else {}


def build(folder: Path, clustered: Clustered, rows: int) -> Index:
    """An index of that many vectors, searched exactly. Appearance has 8 dimensions and is not measured."""
    motion = np.concatenate(
        [clustered.block(start, min(BLOCK, rows - start)) for start in range(0, rows, BLOCK)], dtype=np.float32
    )
    keys = [f"{number:016x}-{0:06d}" for number in range(rows)]
    clips = [
        StoredClip(key, f"videos/{key}.mp4", 0.0, 0.8, "made-up", "test", 20.0, 16, 64, 64, {"number": number % 100})
        for number, key in enumerate(keys)
    ]
    recipe = folder.parent / "recipe.yaml"
    recipe.write_text("kind: made-up\n", encoding="utf-8")
    return build_index(
        folder,
        ClipVectors(keys, motion, np.ascontiguousarray(motion[:, :8])),
        clips,
        encoder="made-up",
        encoder_files={"recipe.yaml": recipe},
        data="made-up",
        pictures=[],
    )


if __name__ == "__main__":
    main()
