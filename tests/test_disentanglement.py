"""The matrix of labels that search by motion and by appearance finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import FRAMES, TEST_CLIPS

from kineme.pipeline.encoders import load_encoder
from kineme.pipeline.errors import RunError
from kineme.pipeline.evaluation import evaluate_run
from kineme.pipeline.protocols.disentanglement import measure_disentanglement, precision_matrix, shared_labels
from kineme.pipeline.run import load_run
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.evaluation import precision_at_k
from kineme.shards.reader import load_clip_frames
from kineme.shards.records import read_records

FIGURE = "disentanglement/{}/{}/{}/precision_at_10".format


def test_vectors_that_know_one_thing_each() -> None:
    """Forty characters of four hair colours in six actions: every label is found in its own space alone."""
    character, action = np.divmod(np.arange(240), 6)
    hair = character % 4
    labels = {"action": action.tolist(), "hair": hair.tolist(), "character": character.tolist()}
    spaces = {
        "motion": (np.eye(6, dtype=np.float32)[action], "cosine"),
        "appearance": (np.eye(4, dtype=np.float32)[hair], "l2"),
    }
    matrix = precision_matrix(spaces, labels)
    assert matrix[FIGURE("motion", "action", "without_same_character")] == 1
    assert matrix[FIGURE("appearance", "hair", "without_same_action")] == 1
    for name in ("hair/without_same_action", "hair/without_same_character", "character/without_same_action"):
        found, chance = (matrix[FIGURE(space, *name.split("/"))] for space in ("motion", "chance"))
        assert found == pytest.approx(chance, abs=0.03), name
    # All clips of a character have its hair: none is left that could be found.
    assert not any("character/without_same_hair" in name for name in matrix)
    cells = {"/".join(name.split("/")[2:4]) for name in matrix}
    columns = ["action/among_all", "action/without_same_hair", "action/without_same_character", "hair/among_all"]
    columns += ["hair/without_same_action", "hair/without_same_character", "character/among_all"]
    assert cells == {*columns, "character/without_same_action"}
    assert len(matrix) == 3 * len(cells)


labellings = st.integers(10, 16).flatmap(
    lambda clips: st.lists(
        st.lists(st.integers(0, 3), min_size=clips, max_size=clips) | st.permutations(range(clips)),
        min_size=1,
        max_size=3,
    )
)


@settings(max_examples=60, deadline=None)
@given(labellings)
def test_it_asks_what_can_be_asked_and_nothing_else(columns: list[list[int]]) -> None:
    labels = {f"l{number}": values for number, values in enumerate(columns)}
    clips = len(columns[0])
    vectors = np.random.default_rng(0).normal(size=(clips, 3)).astype(np.float32)
    matrix = precision_matrix({"motion": (vectors, "cosine")}, labels)
    for label, values in labels.items():
        for other, left_out in {"": None, **labels}.items():
            if other == label:
                continue
            name = FIGURE("motion", label, f"without_same_{other}" if other else "among_all")
            try:
                answer = precision_at_k(vectors, relevant=values, leave_out=left_out)
            except RetrievalError:
                assert name not in matrix
                continue
            tells_nothing = len(set(values)) < 2 or (left_out is not None and len(set(left_out)) in (1, clips))
            assert (name in matrix) == (not tells_nothing)
            if name in matrix:
                assert matrix[name] == answer.value
                assert matrix[name.replace("motion", "chance")] == answer.chance


def test_labels_with_too_many_values_are_left_out_but_not_asked() -> None:
    clips = 500
    many, few = [number // 2 for number in range(clips)], [number % 5 for number in range(clips)]
    vectors = np.random.default_rng(0).normal(size=(clips, 3)).astype(np.float32)
    matrix = precision_matrix({"motion": (vectors, "cosine")}, {"many": many, "few": few, "clip": list(range(clips))})
    assert {"/".join(name.split("/")[2:4]) for name in matrix} == {"few/among_all", "few/without_same_many"}


def test_a_run_end_to_end(encoder_run: Path, digits: Path) -> None:
    result = evaluate_run(encoder_run, digits / "shards", "disentanglement")
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    records = [record for record in read_records(digits / "shards") if record.split == "test"]
    frames = np.stack([load_clip_frames(digits / "shards", record.key) for record in records])[:, :FRAMES]
    motion, appearance = load_encoder(encoder_run).encode(frames)
    pixels = frames.reshape(len(frames), -1).astype(np.float32)
    labels = shared_labels(records)
    assert list(labels) == ["digits", "directions", "speeds", "wall_hit"]
    for space, vectors in (("motion", motion), ("appearance", appearance), ("raw_pixels", pixels)):
        for label, other in (("speeds", "wall_hit"), ("wall_hit", "speeds"), ("wall_hit", None)):
            answer = precision_at_k(vectors, relevant=labels[label], leave_out=None if other is None else labels[other])
            column = "among_all" if other is None else f"without_same_{other}"
            assert metrics[FIGURE(space, label, column)] == pytest.approx(answer.value)
            assert metrics[FIGURE("chance", label, column)] == pytest.approx(answer.chance)
    assert metrics["clips"] == TEST_CLIPS
    assert all(0 <= value <= 1 for name, value in metrics.items() if name != "clips")
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_at_most_so_many_clips(encoder_run: Path, digits: Path) -> None:
    assert measure_disentanglement(load_run(encoder_run), digits / "shards", "test", most=15)["clips"] == 15


def test_clips_without_labels_to_ask(encoder_run: Path, digits: Path) -> None:
    with pytest.raises(RunError, match=r"no label of the 6 clips of split test can be asked: it needs 2 to") as error:
        measure_disentanglement(load_run(encoder_run), digits / "shards", "test", most=6)
    assert "\n" not in str(error.value)
