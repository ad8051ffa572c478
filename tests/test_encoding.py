"""Vectors of clips, and the retrieval protocol against a reference that is written out here."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import FRAMES, TEST_CLIPS

from kineme.pipeline.encoders import RunEncoder, load_encoder
from kineme.pipeline.encoding import encode_shards
from kineme.pipeline.errors import RunError
from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.frames import to_model
from kineme.pipeline.protocols import protocols
from kineme.pipeline.run import load_run
from kineme.shards.errors import DataError
from kineme.shards.reader import load_clip_frames
from kineme.shards.records import read_records
from kineme.shards.sample import ClipRecord

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder(encoder_run: Path) -> RunEncoder:
    return load_encoder(encoder_run, CPU)


@pytest.fixture(scope="module")
def clips(digits: Path) -> tuple[list[ClipRecord], np.ndarray]:
    """The test clips: records, and frames (N, T, H, W, 3)."""
    records = [record for record in read_records(digits / "shards") if record.split == "test"]
    assert len(records) == TEST_CLIPS
    return records, np.stack([load_clip_frames(digits / "shards", record.key) for record in records])


def with_recipe(run: Path, folder: Path, old: str, new: str) -> Path:
    copy = Path(shutil.copytree(run, folder / "copy"))
    text = (copy / "recipe.yaml").read_text()
    assert text.count(old) == 1
    (copy / "recipe.yaml").write_text(text.replace(old, new))
    return copy


def test_vectors_have_the_sizes_the_encoder_names(encoder: RunEncoder, clips) -> None:
    motion, appearance = encoder.encode(clips[1][:3])
    assert (encoder.motion_dim, encoder.appearance_dim) == (FRAMES * 3, 5)
    assert motion.shape == (3, FRAMES * 3)
    assert appearance.shape == (3, 5)
    assert motion.dtype == appearance.dtype == np.float32


def test_changes_are_the_differences_of_states(encoder: RunEncoder, encoder_run: Path, clips, tmp_path: Path) -> None:
    changing = load_encoder(with_recipe(encoder_run, tmp_path, "motion_vector: states", "motion_vector: changes"), CPU)
    states, appearance = encoder.encode(clips[1][:3])
    changes, same = changing.encode(clips[1][:3])
    assert changing.motion_dim == changes.shape[1] == (FRAMES - 1) * 3
    np.testing.assert_allclose(changes, np.diff(states.reshape(3, FRAMES, 3), axis=1).reshape(3, -1), atol=1e-6)
    np.testing.assert_array_equal(appearance, same)


def test_drawn_motion_is_a_draw_from_the_posterior_that_stays_the_same(
    encoder: RunEncoder, encoder_run: Path, clips, tmp_path: Path
) -> None:
    """By mean and deviation over 200 clips that differ in one value of one pixel, whose posteriors are nearly alike."""
    drawing = load_encoder(with_recipe(encoder_run, tmp_path, "motion_vector: states", "motion_vector: drawn"), CPU)
    alike = np.repeat(clips[1][:1], 200, axis=0)
    alike[np.arange(200), 0, 0, 0, 0] = np.arange(200)
    drawn, appearance = drawing.encode(alike)
    again, _ = drawing.encode(alike[7:8])
    np.testing.assert_allclose(again[0], drawn[7], atol=1e-4)
    means, same = encoder.encode(alike)
    np.testing.assert_array_equal(appearance, same)
    with torch.no_grad():
        seen = to_model(torch.as_tensor(alike).movedim(-1, 2), encoder.frame_size)
        posterior = load_run(encoder_run, CPU).task.model.encode(seen)[1]
    deviations = (drawn - means) / (0.5 * posterior.logvar).exp().flatten(1).numpy()
    assert np.abs(deviations.mean(axis=0)).max() < 0.3
    assert np.abs(deviations.std(axis=0) - 1).max() < 0.25
    correlations = np.corrcoef(deviations.T)
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.4


def test_shards_are_encoded_in_their_order_whatever_the_batch(encoder: RunEncoder, digits: Path, clips) -> None:
    vectors, records = encode_shards(encoder, digits / "shards", split="test", batch_size=64)
    few, _ = encode_shards(encoder, digits / "shards", split="test", batch_size=3)
    assert records == clips[0]
    assert vectors.keys == few.keys == [record.key for record in records]
    one_by_one = [encoder.encode(frames[None]) for frames in clips[1]]
    for space, place in (("motion", 0), ("appearance", 1)):
        np.testing.assert_allclose(few.space(space), vectors.space(space), atol=1e-5)
        np.testing.assert_allclose(np.concatenate([v[place] for v in one_by_one]), vectors.space(space), atol=1e-5)
        assert np.ptp(vectors.space(space), axis=0).max() > 1e-3


def test_every_split_is_encoded_where_none_is_named(encoder: RunEncoder, digits: Path) -> None:
    vectors, records = encode_shards(encoder, digits / "shards")
    assert vectors.keys == [record.key for record in read_records(digits / "shards")]
    assert {record.split for record in records} == {"train", "test"}


def test_a_split_without_clips_is_one_line(encoder: RunEncoder, digits: Path) -> None:
    with pytest.raises(DataError, match="no clips of split 'validation'") as error:
        encode_shards(encoder, digits / "shards", split="validation")
    assert "\n" not in str(error.value)


def test_a_predictor_encodes_nothing(predictor_run: Path) -> None:
    with pytest.raises(RunError, match="a frame-predictor run encodes no clips"):
        load_encoder(predictor_run, CPU)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (None, "no run here, recipe.yaml is missing"),
        ("model: {}", "a None run encodes no clips"),
        ("kind: [1]", r"a \[1\] run encodes no clips"),
        ("kind: [", "not YAML"),
        ("kind: motion-histogram\ncell: 2", r"unknown key cell \(did you mean cells\?\)"),
        ("kind: sequential-vae", "checkpoints/weights.pt is missing"),
    ],
)
def test_a_folder_without_an_encoder_is_one_line(recipe: str | None, expected: str, tmp_path: Path) -> None:
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe)
    with pytest.raises(RunError, match=expected) as refusal:
        load_encoder(tmp_path, CPU)
    assert str(refusal.value).startswith(str(tmp_path))
    assert "\n" not in str(refusal.value)


def slow_precision(vectors: np.ndarray, wanted: list, left_out: list) -> tuple[float, float]:
    """Precision@10 and chance by cosine, one query after the other."""
    values, chances = [], []
    for query in range(len(vectors)):
        candidates = [i for i in range(len(vectors)) if left_out[i] != left_out[query]]
        good = [i for i in candidates if wanted[i] == wanted[query]]
        if len(candidates) < 10 or not good:
            continue

        def likeness(i: int, query: int = query) -> float:
            a, b = vectors[i].astype(float), vectors[query].astype(float)
            return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

        nearest = sorted(candidates, key=likeness, reverse=True)[:10]
        values.append(len(set(nearest) & set(good)) / 10)
        chances.append(len(good) / len(candidates))
    return float(np.mean(values)), float(np.mean(chances))


def test_retrieval_against_a_slow_reference(encoder: RunEncoder, encoder_run: Path, digits: Path, clips) -> None:
    records, frames = clips
    result = evaluate_run(encoder_run, digits / "shards")
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    vectors = dict(zip(("motion", "appearance"), encoder.encode(frames), strict=True))
    numbers = list(range(len(records)))
    questions = [("motion", "wall_hit", "speeds"), ("motion", "speeds", None), ("appearance", "speeds", "wall_hit")]
    for by, label, leave_out in questions:
        wanted = [record.labels[label] for record in records]
        left_out = numbers if leave_out is None else [record.labels[leave_out] for record in records]
        value, chance = slow_precision(vectors[by], wanted, left_out)
        assert metrics[f"{by}/{label}/precision_at_10"] == pytest.approx(value)
        assert metrics[f"{by}/{label}/chance"] == pytest.approx(chance)
        pixels, _ = slow_precision(frames.reshape(len(frames), -1) / 255, wanted, left_out)
        assert metrics[f"{by}/{label}/raw_pixels"] == pytest.approx(pixels)
    assert len(metrics) == 1 + 3 * len(questions)
    assert result["protocol"] == "retrieval"
    assert result["data"] == {"shards": "shards", "dataset": "moving-digits", "clips": TEST_CLIPS}
    assert json.loads(json.dumps(result)) == result


def test_several_questions_of_one_ranking(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    """Both of motion, leaving out nothing but the clip; their mean, and what no ranking exceeds."""
    run = with_recipe(encoder_run, tmp_path, "leave_out: speeds", "leave_out: null")
    metrics = evaluate_run(run, digits / "shards")["metrics"]
    values = [metrics[f"motion/{label}/precision_at_10"] for label in ("wall_hit", "speeds")]
    assert metrics["motion/precision_at_10"] == pytest.approx(sum(values) / 2)
    assert metrics["motion/precision_at_10"] <= metrics["motion/best_possible"] <= 1
    assert not any(name in metrics for name in ("appearance/precision_at_10", "appearance/best_possible"))


def test_retrieval_by_draws_stands_beside_that_by_means(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    run = with_recipe(encoder_run, tmp_path, "motion_vector: states", "motion_vector: drawn")
    by_draws = evaluate_run(run, digits / "shards")["metrics"]
    by_means = evaluate_run(encoder_run, digits / "shards")["metrics"]
    of_means = [name for name in by_draws if name.endswith("/of_means")]
    assert of_means == ["motion/wall_hit/of_means", "motion/speeds/of_means"]
    for name in of_means:
        assert by_draws[name] == by_means[name.replace("of_means", "precision_at_10")]
    assert len(by_draws) == len(by_means) + len(of_means)


def test_a_label_that_the_shards_lack(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    run = with_recipe(encoder_run, tmp_path, "label: wall_hit", "label: colour")
    with pytest.raises(
        RunError, match=r"no label 'colour'; choose one that it has: digits, directions, speeds, wall_hit"
    ) as error:
        evaluate_run(run, digits / "shards")
    assert "\n" not in str(error.value)


def test_protocols_that_do_not_fit(encoder_run: Path, predictor_run: Path, digits: Path) -> None:
    known = "retrieval, motion-retrieval, disentanglement, disagreement, generation, elbo, linear-probe, "
    with pytest.raises(RunError, match=f"there is none of that name; use one of {known}attentive-linear, finetune"):
        evaluate_run(encoder_run, digits / "shards", "taste")
    with pytest.raises(RunError, match=r"kernel-predictor runs, .* is sequential-vae; use retrieval, motion-retrieval"):
        evaluate_run(encoder_run, digits / "shards", "prediction")
    # Recipes of baselines ask no questions, so that it would not be theirs by default.
    assert "video-baseline" not in protocols()["retrieval"][0]
    for protocol in ("retrieval", "motion-retrieval", "disentanglement"):
        with pytest.raises(RunError, match=r"measures .*sequential-vae.* runs, .* is frame-predictor; use prediction"):
            evaluate_run(predictor_run, digits / "shards", protocol)


def test_options_of_a_protocol(encoder_run: Path, digits: Path) -> None:
    few = evaluate_run(encoder_run, digits / "shards", "motion-retrieval", options={"most_queries": "5"})
    assert isinstance(few["metrics"], dict)
    assert (few["metrics"]["queries"], few["options"], few["split"]) == (5, {"most_queries": "5"}, "test")
    with pytest.raises(RunError, match="no such option; it has most_queries, most_database, baselines, seed"):
        evaluate_run(encoder_run, digits / "shards", "motion-retrieval", options={"queries": "5"})
    with pytest.raises(RunError, match="--option most_queries=many: input should be a valid integer") as error:
        evaluate_run(encoder_run, digits / "shards", "motion-retrieval", options={"most_queries": "many"})
    assert "\n" not in str(error.value)
    with pytest.raises(RunError, match="--option most_queries=0: input should be greater than or equal to 1"):
        evaluate_run(encoder_run, digits / "shards", "motion-retrieval", options={"most_queries": "0"})


def test_a_recipe_that_asks_nothing(encoder_run: Path, digits: Path, tmp_path: Path) -> None:
    recipe = (encoder_run / "recipe.yaml").read_text()
    run = with_recipe(encoder_run, tmp_path, recipe[recipe.index("questions:") :], "questions: []\n")
    with pytest.raises(
        RunError, match=r"lists no questions: add some .* or choose --protocol disentanglement"
    ) as error:
        evaluate_run(run, digits / "shards")
    assert "\n" not in str(error.value)
