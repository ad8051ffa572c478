"""Neighbours that move alike: the protocol from shards to figures, against loops that are written out here."""

from __future__ import annotations

import json
import shutil
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import FRAMES, TEST_CLIPS

from kineme.pipeline.encoders import RunEncoder, load_encoder
from kineme.pipeline.encoders.motion_histogram import MotionHistogramRecipe, motion_histograms
from kineme.pipeline.errors import RunError
from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.protocols.chosen_clips import chosen_batches, database_split
from kineme.pipeline.protocols.motion_retrieval import motion_retrieval, neighbour_figures
from kineme.shards.engine_local import LocalEngine
from kineme.shards.ingest import IngestSettings, ingest
from kineme.shards.loader import clip_loader
from kineme.shards.manifest import Manifest
from kineme.shards.reader import decode_sample, read_samples
from kineme.shards.sample import Sample
from kineme.shards.sampling import Sampling
from kineme.shards.sources.registry import find_source

CPU = torch.device("cpu")


class CentreOfLight(RunEncoder):
    """motion: how the centre of all light moves; appearance: the mean frame; frame dynamics: where the centre is."""

    motion_dim = 2 * (FRAMES - 3)
    appearance_dim = 64 * 64 * 3
    clip_frames = FRAMES - 2
    frame_step = 1
    frame_size = 64
    metric = "l2"

    def encode_batch(self, frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        centres = self.frame_dynamics(frames).reshape(len(frames), -1, 2)
        mean = frames.float().mean(dim=1).flatten(1).numpy()
        return np.diff(centres, axis=1).reshape(len(frames), -1), mean

    def frame_dynamics(self, frames: torch.Tensor) -> np.ndarray:
        grey = frames.float().mean(dim=2)
        places = torch.arange(grey.shape[-1], dtype=torch.float32)
        light = grey.sum(dim=(2, 3)).clamp(min=1)
        x, y = (grey.sum(dim=2) @ places) / light, (grey.sum(dim=3) @ places) / light
        return torch.stack([x, y], dim=-1).flatten(1).numpy()


def slow_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Displacement distance of two clips' keypoints (T, K, 2), the best of every assignment."""
    orders = permutations(range(a.shape[1]))
    a, b = a.astype(float), b.astype(float)
    return min(np.abs(np.diff(a, axis=0) - np.diff(b[:, list(o)], axis=0)).sum() / a.shape[1] for o in orders)


def slow_nearest(query: np.ndarray, database: np.ndarray, metric: str = "cosine") -> int:
    query, database = query.astype(float).ravel(), database.astype(float).reshape(len(database), -1)
    if metric == "l2":
        return int(((database - query) ** 2).sum(axis=1).argmin())
    norms = np.linalg.norm(database, axis=1) * np.linalg.norm(query)
    return int((database @ query / np.where(norms > 0, norms, 1)).argmax())


def flow(frames: np.ndarray) -> np.ndarray:
    return motion_histograms(frames, MotionHistogramRecipe())


@pytest.fixture(scope="module")
def samples(digits: Path) -> dict[str, list[Sample]]:
    """The stored clips by split, as webdataset reads them."""
    shards = digits / "shards"
    found: dict[str, list[Sample]] = {"train": [], "test": []}
    for entry in Manifest.load(shards).shards:
        for sample in read_samples(shards / f"{entry.name}.tar"):
            found[sample.record.split].append(sample)
    return found


def stored(samples: list[Sample], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and frames of the first ``frames`` frames of stored clips."""
    keypoints = [sample.keypoints[:frames] for sample in samples if sample.keypoints is not None]
    return np.stack(keypoints), np.stack([decode_sample(sample)[:frames] for sample in samples])


def test_every_neighbour_against_slow_loops(digits: Path, samples: dict[str, list[Sample]]) -> None:
    encoder = CentreOfLight()
    metrics = motion_retrieval(encoder, digits / "shards", "test")
    (asked, queries), (known, database) = (stored(samples[split], encoder.clip_frames) for split in ("test", "train"))
    distances = np.array([[slow_distance(a, b) for b in known] for a in asked])
    mine, theirs = encoder.encode(queries), encoder.encode(database)
    (dynamics, others) = (encoder.frame_dynamics(torch.from_numpy(f).movedim(-1, 2)) for f in (queries, database))
    found = {
        "motion": [slow_nearest(vector, theirs[0], "l2") for vector in mine[0]],
        "appearance": [slow_nearest(vector, theirs[1]) for vector in mine[1]],
        "frames": [slow_nearest(vector, others, "l2") for vector in dynamics],
        "pixels": [slow_nearest(clip, database) for clip in queries],
        "flow": [slow_nearest(vector, flow(database)) for vector in flow(queries)],
        "trajectory": [
            int(
                np.min(
                    [np.abs(known[:, :, order] - clip).sum(axis=(1, 2, 3)) for order in ([0, 1], [1, 0])], axis=0
                ).argmin()
            )
            for clip in asked
        ],
    }
    random, oracle = distances.mean(), distances.min(axis=1).mean()
    assert metrics["motion_retrieval/displacement_random"] == pytest.approx(random, rel=1e-5)
    assert metrics["motion_retrieval/displacement_oracle"] == pytest.approx(oracle, rel=1e-5)
    for name, rows in found.items():
        distance = distances[np.arange(len(rows)), rows].mean()
        way = (random - distance) / (random - oracle)
        assert metrics[f"motion_retrieval/displacement_{name}"] == pytest.approx(distance, rel=1e-5), name
        assert metrics[f"motion_retrieval/way_to_oracle_{name}"] == pytest.approx(way, rel=1e-4), name
        for figure in (f"displacement_{name}", f"way_to_oracle_{name}"):
            low, high = (metrics[f"motion_retrieval/{figure}_{end}"] for end in ("low", "high"))
            assert low < metrics[f"motion_retrieval/{figure}"] < high
    assert (metrics["queries"], metrics["database"], metrics["clips"]) == (TEST_CLIPS, TEST_CLIPS, 2 * TEST_CLIPS)


def test_a_run_end_to_end(encoder_run: Path, digits: Path) -> None:
    result = evaluate_run(encoder_run, digits / "shards", "motion-retrieval")
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    names = {"motion", "appearance", "pixels", "flow", "trajectory"}
    figures = {f"way_to_oracle_{name}" for name in names}
    figures |= {f"displacement_{name}" for name in names | {"random", "oracle"}}
    expected = {f"motion_retrieval/{figure}{end}" for figure in figures for end in ("", "_low", "_high")}
    read = ("r2_position", "r2_displacement", "r2_position_from_displacement")
    expected |= {"clips", "queries", "database", *(f"motion_retrieval/{name}" for name in read)}
    assert set(metrics) == expected
    assert result["protocol"] == "motion-retrieval"
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert metrics == evaluate_run(encoder_run, digits / "shards", "motion-retrieval")["metrics"]
    alone = evaluate_run(encoder_run, digits / "shards", "motion-retrieval", options={"baselines": "false"})["metrics"]
    assert alone == {name: value for name, value in metrics.items() if "pixels" not in name and "flow" not in name}


def test_what_can_be_read_from_a_motion_vector(digits: Path, samples: dict[str, list[Sample]]) -> None:
    """The centre of light knows the mean of the digits' places, and its changes the mean of their displacements."""

    class Places(CentreOfLight):
        def encode_batch(self, frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
            return self.frame_dynamics(frames), super().encode_batch(frames)[1]

    by_moves, by_places = (motion_retrieval(e, digits / "shards", "test") for e in (CentreOfLight(), Places()))
    assert by_moves["motion_retrieval/r2_displacement"] > by_moves["motion_retrieval/r2_position"] + 0.1
    assert by_places["motion_retrieval/r2_position"] > by_moves["motion_retrieval/r2_position"] + 0.1
    same = "motion_retrieval/r2_position_from_displacement"
    assert by_places[same] == by_moves[same] < 1


def test_neighbours_by_the_truth() -> None:
    """Neighbours by true displacement are the oracle, by true places the trajectory."""
    draw = np.random.default_rng(0)
    queries, database = draw.normal(20, 5, (15, 6, 1, 2)), draw.normal(20, 5, (40, 6, 1, 2))
    moves = [np.diff(clips, axis=1) for clips in (queries, database)]
    closest = [int(np.abs(moves[1] - move).sum(axis=(1, 2, 3)).argmin()) for move in moves[0]]
    figures = neighbour_figures({"true": np.array(closest)}, queries, database, interchangeable=True)
    assert figures["motion_retrieval/displacement_true"] == figures["motion_retrieval/displacement_oracle"]
    for end in ("", "_low", "_high"):
        assert figures[f"motion_retrieval/way_to_oracle_true{end}"] == pytest.approx(1)
    assert figures["motion_retrieval/way_to_oracle_trajectory"] < 1


def test_neighbours_drawn_by_lot_are_random_neighbours() -> None:
    draw = np.random.default_rng(1)
    queries, database = draw.normal(20, 5, (400, 4, 2, 2)), draw.normal(20, 5, (50, 4, 2, 2))
    lots = draw.integers(len(database), size=len(queries))
    figures = neighbour_figures({"lot": lots}, queries, database, interchangeable=False)
    assert figures["motion_retrieval/way_to_oracle_lot"] == pytest.approx(0, abs=0.1)
    assert figures["motion_retrieval/way_to_oracle_lot_low"] < 0 < figures["motion_retrieval/way_to_oracle_lot_high"]


def test_clips_are_those_that_a_loader_gives(digits: Path) -> None:
    encoder, shards = CentreOfLight(), digits / "shards"
    loaded = list(clip_loader(shards, batch_size=64, clip_frames=encoder.clip_frames, split="test"))
    chosen = list(chosen_batches(shards, encoder, "test"))
    assert [record for batch in chosen for record in batch.records] == [r for batch in loaded for r in batch.records]
    for ours, theirs in zip(chosen, loaded, strict=True):
        assert torch.equal(ours.frames, theirs.frames)
        assert ours.keypoints is not None
        assert theirs.keypoints is not None
        assert torch.equal(ours.keypoints, theirs.keypoints)


def test_fewer_clips_are_drawn_by_the_seed_alone(digits: Path) -> None:
    def keys(most: int | None, seed: int = 0) -> list[str]:
        batches = chosen_batches(digits / "shards", CentreOfLight(), "test", most, seed)
        return [record.key for batch in batches for record in batch.records]

    everyone, few = keys(None), keys(7)
    assert len(few) == 7
    assert few == [key for key in everyone if key in few]
    assert keys(7) == few
    assert keys(7, seed=1) != few
    assert keys(TEST_CLIPS) == keys(1000) == everyone
    metrics = motion_retrieval(CentreOfLight(), digits / "shards", "test", most_queries=7, most_database=11)
    assert (metrics["queries"], metrics["database"], metrics["clips"]) == (7, 11, 18)


def test_clips_of_a_label_search_among_the_other_values(digits: Path, samples: dict[str, list[Sample]]) -> None:
    hits = sum(sample.record.labels["wall_hit"] is True for split in samples.values() for sample in split)
    metrics = motion_retrieval(CentreOfLight(), digits / "shards", "wall_hit=true")
    assert (metrics["queries"], metrics["database"]) == (hits, 2 * TEST_CLIPS - hits)


@pytest.mark.parametrize(
    ("split", "rest"),
    [("test", "train"), ("validation", "train"), ("actor=daria", "actor!=daria"), ("actor != daria", "actor=daria")],
)
def test_where_neighbours_are_looked_for(split: str, rest: str) -> None:
    assert database_split(split) == rest


def test_the_training_split_cannot_search_itself(encoder_run: Path, digits: Path) -> None:
    with pytest.raises(RunError, match="--split train: is what is searched or learned from") as error:
        evaluate_run(encoder_run, digits / "shards", "motion-retrieval", "train")
    assert "\n" not in str(error.value)


def test_shards_without_keypoints(encoder_run: Path, videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path / "videos" / "people")
    settings = IngestSettings(sampling=Sampling(clip_frames=FRAMES))
    ingest(find_source("folder"), tmp_path / "videos", tmp_path / "shards", settings, LocalEngine(1))
    with pytest.raises(RunError, match=r"have no keypoints, .* moving-digits, moving-mnist, pushing, ravdess") as error:
        motion_retrieval(load_encoder(encoder_run, CPU), tmp_path / "shards", "folder=people")
    assert "\n" not in str(error.value)
