"""What a linear classifier reads from S: votes and fits against references, and the protocol from shards to figures."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ingest_runs import run as ingest_run
from recognition_data import ACTIONS, SIZE, make_untrained, make_video, model_of
from scipy.optimize import minimize
from shard_factory import write_shards
from test_moving_mnist import write_mnist

from kineme.pipeline.errors import RunError
from kineme.pipeline.frames import to_model
from kineme.pipeline.protocols.linear_probe import best_probe, fit_probe, measure_linear_probe, votes
from kineme.pipeline.protocols.recognition import accuracy_figures
from kineme.pipeline.run import Run
from kineme.shards.ingest import IngestSettings
from kineme.shards.loader import clip_loader
from kineme.shards.records import read_records
from kineme.shards.sampling import Sampling
from kineme.shards.sources.moving_mnist import MovingMnistSource


def slow_vote(logits: np.ndarray) -> int:
    """One clip: (T, classes)."""
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    named = Counter(logits.argmax(axis=1).tolist())
    most = max(named.values())
    return max((c for c, count in named.items() if count == most), key=lambda c: probabilities[:, c].sum())


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(2, 4)), elements=st.floats(-4, 4))
)
def test_the_majority_decides_then_the_sum_of_probabilities(logits: np.ndarray) -> None:
    # Voters without a favourite, and classes without a difference, have no right answer.
    logits += np.random.default_rng(0).uniform(0, 1e-3, logits.shape)
    assert votes(torch.from_numpy(logits)).tolist() == [slow_vote(clip) for clip in logits]


@pytest.mark.parametrize("decay", [1e-3, 1e-1])
def test_the_fit_is_the_best_there_is(decay: float) -> None:
    """The objective, written out on standardised features, has its minimum where scipy finds it."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 120)
    features = rng.normal(5, 3, (120, 4)) + 2 * np.eye(3, 4)[targets]

    x = (features - features.mean(axis=0)) / features.std(axis=0)

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[:12].reshape(3, 4), flat[12:]
        scores = x @ weight.T + bias
        right = scores[np.arange(120), targets] - np.log(np.exp(scores).sum(axis=1))
        return float(-right.mean() + decay / 2 * (flat**2).sum())

    best = minimize(objective, np.zeros(15), method="BFGS")
    given = torch.from_numpy(features).float()[:, None]
    probe = fit_probe(given, torch.from_numpy(targets), torch.arange(120), 3, weight_decay=decay, steps=2000, seed=0)
    weight, bias = (parameter.detach().double().numpy() for parameter in probe.parameters())
    assert objective(np.concatenate([weight.ravel(), bias])) == pytest.approx(best.fun, abs=2e-3)
    expected = x @ best.x[:12].reshape(3, 4).T + best.x[12:]
    expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(F.log_softmax(probe(given[:, 0]), dim=1).detach().numpy(), expected, atol=0.05)


def test_only_the_rows_given_are_fitted() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 1, 5, generator=generator)
    targets = (features[:, 0, 0] > 0).long()
    rows = torch.arange(40)
    spoilt = features.clone()
    spoilt[40:] = torch.inf
    fits = [fit_probe(given, targets, rows, 2, weight_decay=1e-4, steps=20, seed=1) for given in (features, spoilt)]
    for one, other in zip(*(fit.parameters() for fit in fits), strict=True):
        torch.testing.assert_close(one, other)


def test_weight_decay_is_chosen_where_it_helps() -> None:
    """One telling number among 400 of noise, and little more examples than numbers."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (1200,), generator=generator)
    features = torch.randn(1200, 1, 401, generator=generator)
    features[:, 0, 0] += 3 * targets
    train, test = slice(0, 600), slice(600, 1200)

    def accuracy(probe: torch.nn.Module) -> float:
        return float((votes(probe(features[test])) == targets[test]).float().mean())

    chosen = accuracy(best_probe(features[train], targets[train], 2, steps=400, seed=0))
    freely = fit_probe(features, targets, torch.arange(600), 2, weight_decay=1e-4, steps=400, seed=0)
    assert chosen > accuracy(freely) + 0.1


def test_every_view_of_an_example_is_trained_on() -> None:
    """Two views, each with the class in a number of its own, which a classifier of the other view never sees."""
    targets = torch.arange(40) % 2
    features = torch.diag_embed((2.0 * targets - 1)[:, None].expand(-1, 2))
    probe = fit_probe(features, targets, torch.arange(40), 2, weight_decay=1e-5, steps=300, seed=0)
    assert (probe(features).argmax(-1) == targets[:, None]).all()


@pytest.mark.parametrize(("right", "of"), [(0, 7), (7, 7), (691, 1000), (1, 2)])
def test_the_interval_of_an_accuracy_is_wilsons(right: int, of: int) -> None:
    figures = accuracy_figures("a", [True] * right + [False] * (of - right))
    p, z = right / of, 1.959963984540054
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    assert figures["a"] == p
    assert figures["a_low"] == pytest.approx((middle - half) / scale, abs=1e-9)
    assert figures["a_high"] == pytest.approx((middle + half) / scale, abs=1e-9)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_untrained(tmp_path_factory.mktemp("run"))


def test_the_place_of_a_bar_is_read_from_an_untrained_s(run: Run, actions: Path) -> None:
    metrics = measure_linear_probe(run, actions, "test", label="action", steps=200)
    assert metrics["clips"] == 9
    assert metrics["linear_probe/training_clips"] == 27
    assert metrics["linear_probe/chance"] == pytest.approx(1 / 3)
    for name in ("statics", "frame_votes"):
        figures = [metrics[f"linear_probe/accuracy_{name}{end}"] for end in ("_low", "", "_high")]
        assert figures == sorted(figures)
        assert figures[1] >= 8 / 9, name
    assert measure_linear_probe(run, actions, "test", label="action", steps=200) == metrics
    # Whoever is left out, all others are trained on.
    other = measure_linear_probe(run, actions, "actor=ann", label="action", steps=5)
    assert (other["clips"], other["linear_probe/training_clips"]) == (9, 27)


def test_the_figures_are_those_of_a_probe_put_together_by_hand(run: Run, digits: Path) -> None:
    """Speeds of real moving digits, which an untrained S hardly knows: right and wrong answers, both counted."""
    shards = digits / "shards"
    metrics = measure_linear_probe(run, shards, "test", label="wall_hit", steps=100, seed=4)
    model, features, answers = model_of(run), {}, {}
    for split in ("train", "test"):
        (batch,) = clip_loader(shards, batch_size=100, clip_frames=4, split=split)
        frames = to_model(batch.frames, SIZE)
        with torch.no_grad():
            statics = model.video_encoder(frames)[0].flatten(1)
            single = torch.stack([model.transformer.encode(clip).flatten(1) for clip in frames])
        features[split] = (statics.half()[:, None], single.half())
        answers[split] = [bool(record.labels["wall_hit"]) for record in batch.records]
    targets = torch.tensor(answers["train"]).long()
    for name, train, test in zip(("statics", "frame_votes"), features["train"], features["test"], strict=True):
        probe = best_probe(train, targets, 2, steps=100, seed=4)
        probabilities = F.softmax(probe(test.float()), dim=-1)
        assert probabilities.shape == (20, 1 if name == "statics" else 4, 2)
        found = [bool(slow_vote(clip)) for clip in probabilities.detach().log().numpy()]
        right = sum(one == other for one, other in zip(found, answers["test"], strict=True))
        assert metrics[f"linear_probe/accuracy_{name}"] == right / 20
    most = max((False, True), key=answers["train"].count)
    assert metrics["linear_probe/chance"] == answers["test"].count(most) / 20


def test_clips_that_can_be_drawn_are_drawn_to_train_on(run: Run, tmp_path: Path) -> None:
    source = MovingMnistSource(train_clips=2, test_clips=12)
    root = write_mnist(tmp_path / "mnist")
    settings = IngestSettings(size=64, sampling=Sampling(clip_frames=20))
    ingest_run(root, tmp_path / "shards", settings, source)
    metrics = measure_linear_probe(run, tmp_path / "shards", "test", drawn_clips=500, steps=4)
    assert metrics["linear_probe/training_clips"] == 500
    assert metrics["clips"] == 12
    again = measure_linear_probe(run, tmp_path / "shards", "test", drawn_clips=500, steps=4)
    assert again == metrics
    with pytest.raises(
        RunError,
        match=r"5 training clips \(--option drawn_clips\): no clip has digits '.*', which is tested \(\d+ such",
    ):
        measure_linear_probe(run, tmp_path / "shards", "test", drawn_clips=5)
    assert {record.split for record in read_records(tmp_path / "shards")} == {"train", "test"}


def test_a_broken_network_is_not_measured(tmp_path: Path, actions: Path) -> None:
    run = make_untrained(tmp_path)
    next(model_of(run).transformer.encode.parameters()).data.fill_(torch.nan)
    with pytest.raises(RunError, match="NaN or infinity for a clip"):
        measure_linear_probe(run, actions, "test", label="action")


def test_errors_are_one_line(run: Run, encoder_run: Path, actions: Path, tmp_path: Path) -> None:
    from kineme.pipeline.run import load_run

    with pytest.raises(RunError, match=r"no label 'digits'; choose one that it has: action, actor$"):
        measure_linear_probe(run, actions, "test")
    with pytest.raises(RunError, match=r"no clip has actor 'dan', which is tested \(1 such of 1 values\)"):
        measure_linear_probe(run, actions, "test", label="actor")
    with pytest.raises(RunError, match="--split train: is what is searched or learned from"):
        measure_linear_probe(run, actions, "train", label="action")
    with pytest.raises(RunError, match="is a sequential-vae run, S and P come from statics-dynamics runs alone"):
        measure_linear_probe(load_run(encoder_run), actions, "test", label="action")
    alike = [make_video("ann", ACTIONS[0], split=split, take=take) for take, split in enumerate(("train", "test"))]
    write_shards(tmp_path / "alike", alike)
    with pytest.raises(RunError, match=r"action has 1 value \(fall\), a classifier needs 2 to tell apart"):
        measure_linear_probe(run, tmp_path / "alike", "test", label="action")
