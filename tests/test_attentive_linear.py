"""Leaving one identity out: who is trained on, what is learned from S and P, and the picture of the attention."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from recognition_data import (
    ACTIONS,
    ACTORS,
    FRAMES,
    SIZE,
    clip_of,
    make_trained,
    make_untrained,
    make_video,
    model_of,
)
from shard_factory import write_shards

from kineme.pipeline.attention_picture import AttentionCurve, longest_videos, save_attention_picture
from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols.attentive_linear import (
    FrozenFeatures,
    attentive_answers,
    fit_attentive,
    frozen_features,
    leave_one_out,
    measure_attentive_linear,
)
from kineme.pipeline.protocols.fitting import average_by_video, fit, seeded
from kineme.pipeline.protocols.labelled_videos import LabelledVideos, read_labelled_videos
from kineme.pipeline.protocols.recognition import Recognition, recognition_of
from kineme.pipeline.protocols.video_classification import recognised, train_video_classifier
from kineme.pipeline.run import Run
from kineme.shards.reader import load_clip_frames
from kineme.shards.split import SplitSelector

WANTED = Recognition("action", "actor", True)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def videos(run: Run, actions: Path) -> LabelledVideos:
    return read_labelled_videos(actions, model_of(run).config, 1, WANTED, CPU)


def test_a_video_is_all_clips_of_a_source(videos: LabelledVideos, actions: Path) -> None:
    assert len(videos.rows) == 24
    assert sorted(row for rows in videos.rows for row in rows) == list(range(36))
    assert videos.classes == list(ACTIONS)
    for number, rows in enumerate(videos.rows):
        records = [videos.records[row] for row in rows]
        assert {record.source for record in records} == {records[0].source}
        assert [record.start_s for record in records] == sorted(record.start_s for record in records)
        assert records[0].labels == {"actor": videos.identities[number], "action": videos.labels[number]}
        assert videos.classes[int(videos.targets([number]))] == videos.labels[number]
    rows = [30, 2, 17]
    stored = np.stack([load_clip_frames(actions, videos.records[row].key) for row in rows])
    np.testing.assert_allclose(videos.frames(rows).numpy(), stored.transpose(0, 1, 4, 2, 3) / 255, atol=1e-6)


@pytest.mark.parametrize("split", [None, "test", "train", "actor=bob", "actor!=bob"])
def test_nobody_is_trained_on_who_is_tested(videos: LabelledVideos, split: str | None) -> None:
    folds = leave_one_out(videos, split)
    meant = SplitSelector.parse(split)
    wanted = {video for video, rows in enumerate(videos.rows) if meant.matches(videos.records[rows[0]])}
    tested = [video for fold in folds for video in fold.test]
    assert len(tested) == len(set(tested))
    assert set(tested) == wanted
    for train, test in folds:
        assert len({videos.identities[video] for video in test}) == 1
        assert sorted(train + test) == list(range(24))
        assert not {videos.identities[video] for video in train} & {videos.identities[video] for video in test}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6).flatmap(
        lambda clips: st.tuples(st.just(clips), arrays(np.float64, (sum(clips), 3), elements=st.floats(-9, 9)))
    )
)
def test_means_over_the_clips_of_a_video(given_: tuple[list[int], np.ndarray]) -> None:
    clips, values = given_
    parts = np.split(values, np.cumsum(clips)[:-1])
    expected = np.stack([part.mean(axis=0) for part in parts])
    np.testing.assert_allclose(average_by_video(torch.from_numpy(values), clips), expected, atol=1e-5)


def test_the_schedule_and_the_batches() -> None:
    """Thesis 7.B.3: 1e-3, halved every 50 of 200 epochs. The first step of Adam has the length of the rate."""
    seen: list[list[int]] = []
    weight = torch.nn.Linear(1, 1, bias=False)
    places = []

    def loss(numbers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(numbers.tolist())
        places.append(weight.weight.item())
        return weight.weight.sum()

    fit(weight, loss, 17, epochs=200, batch_size=16, seed=0)
    assert [len(batch) for batch in seen] == [9, 8] * 200
    assert all(sorted(seen[2 * e] + seen[2 * e + 1]) == list(range(17)) for e in range(200))
    steps = -np.diff(places)
    for epoch, rate in ((0, 1e-3), (49, 1e-3), (50, 5e-4), (100, 2.5e-4), (199, 1.25e-4)):
        # Of a constant gradient every step of Adam has that length.
        assert steps[2 * epoch] == pytest.approx(rate, rel=1e-2), epoch
    assert not weight.training


def test_what_is_seeded_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(9):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(9):
        assert torch.equal(torch.rand(3), first)


def made_up(videos: LabelledVideos, telling: str) -> FrozenFeatures:
    """S or P that tells the class, noise for the other; a mirrored view tells it, too."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(len(videos.records), 3)
    for number, rows in enumerate(videos.rows):
        truth[rows, int(videos.targets([number]))] = 9
    noise = {name: torch.randn(2, len(truth), width, generator=generator) for name, width in (("s", 6), ("p", 5))}
    noise[telling][:, :, :3] += truth
    return FrozenFeatures(noise["s"].half(), noise["p"].half())


@pytest.mark.parametrize("telling", ["s", "p"])
def test_attention_goes_to_what_tells(videos: LabelledVideos, telling: str) -> None:
    features = made_up(videos, telling)
    train, test = leave_one_out(videos, "actor=cat")[0]
    rows = [row for video in test for row in videos.rows[video]]
    counts = [len(videos.rows[video]) for video in test]
    right, attention = {}, {}
    for constant in (None, 1.0, 0.0):
        classifier = fit_attentive(features, videos, train, attention=constant, common_dim=8, epochs=300, seed=0)
        logits, a = classifier(features.statics[0, rows], features.dynamics[0, rows])
        right[constant] = int((average_by_video(logits, counts).argmax(1) == videos.targets(test)).sum())
        attention[constant] = a.mean().item()
    only = {"s": 1.0, "p": 0.0}[telling]
    assert right[None] == right[only] == 6
    assert right[1 - only] <= 4
    assert abs(attention[None] - only) < 0.3
    assert attention[only] == only


def test_a_broken_network_is_not_measured(run: Run, videos: LabelledVideos) -> None:
    model = copy.deepcopy(model_of(run))
    model.video_encoder.dynamics.bias.data[0] = torch.nan
    with pytest.raises(RunError, match="NaN or infinity for a clip") as error:
        frozen_features(model, videos, flip=False)
    assert "\n" not in str(error.value)


def test_frozen_features_are_those_of_the_encoder(run: Run, videos: LabelledVideos) -> None:
    model = model_of(run)
    features = frozen_features(model, videos, flip=True)
    assert len(frozen_features(model, videos, flip=False).statics) == 1
    for row in (0, 35):
        for view, frames in enumerate((videos.frames([row]), videos.frames([row]).flip(-1))):
            statics, dynamics, _ = model.encode(frames)
            torch.testing.assert_close(features.statics[view, row].float(), statics.flatten(), atol=2e-3, rtol=2e-3)
            torch.testing.assert_close(features.dynamics[view, row].float(), dynamics[0], atol=2e-3, rtol=2e-3)


def test_the_protocol_on_bars_whose_height_is_the_action(actions: Path, tmp_path: Path) -> None:
    run = make_trained(tmp_path, actions)
    picture = tmp_path / "attention.png"

    def measure(**changed: object) -> dict[str, float]:
        settings = {"label": "action", "identity": "actor", "epochs": 40, "supervised_epochs": 0, **changed}
        return measure_attentive_linear(run, actions, **settings)  # type: ignore[arg-type]

    metrics = measure(supervised_epochs=15, picture=picture)
    assert (metrics["clips"], metrics["attentive_linear/videos"], metrics["attentive_linear/identities"]) == (36, 24, 4)
    for name in ("statics_dynamics", "statics_only", "supervised"):
        figures = [metrics[f"attentive_linear/accuracy_{name}{end}"] for end in ("_low", "", "_high")]
        assert figures == sorted(figures)
        assert figures[1] > 0.9, name
    assert metrics["attentive_linear/accuracy_dynamics_only"] < metrics["attentive_linear/accuracy_statics_only"]
    with Image.open(picture) as image:
        assert image.width > 600
    again = measure()
    assert again == {name: value for name, value in metrics.items() if "supervised" not in name}
    assert measure(split="test")["attentive_linear/videos"] == 6


def test_a_held_out_actor_teaches_nothing(run: Run, tmp_path: Path) -> None:
    """Dan calls every action by another name. Whoever learned from him would know that."""
    renamed = dict(zip(ACTIONS, (*ACTIONS[1:], ACTIONS[0]), strict=True))

    def labels(actor: str, action: str) -> dict[str, str]:
        return {"actor": actor, "action": renamed[action] if actor == "dan" else action}

    given_ = [
        make_video(actor, action, 1, take=take, labels=dict(labels(actor, action)))
        for actor in ACTORS
        for action in ACTIONS
        for take in (0, 1)
    ]
    write_shards(tmp_path / "shards", given_)
    videos = read_labelled_videos(tmp_path / "shards", model_of(run).config, 1, WANTED, CPU)
    folds = leave_one_out(videos, "actor=dan")
    answers = attentive_answers(model_of(run), videos, folds, flip=True, epochs=40)
    assert not any(answers.right["statics_dynamics"])
    (fold,) = folds
    classifier = train_video_classifier(videos, fold.train, model_of(run).config, flip=True, epochs=15, seed=0)
    assert sum(recognised(classifier, videos, fold.test)) <= 1
    # Trained on as well, he is understood: by his brightness.
    both = train_video_classifier(videos, [*fold.train, *fold.test], model_of(run).config, flip=True, epochs=40, seed=0)
    assert sum(recognised(both, videos, fold.test)) >= 3


def test_the_longest_video_of_each_action_is_drawn(videos: LabelledVideos, tmp_path: Path) -> None:
    attention = {video: [0.25 * (number + 1) for number in range(len(rows))] for video, rows in enumerate(videos.rows)}
    curves = longest_videos(videos, attention, most=2)
    assert [len(curve.attention) for curve in curves] == [2, 2]
    assert len({curve.title for curve in curves}) == 2
    assert curves[0].seconds == [0.25, 0.75]
    assert curves[0].frames.shape == (2, SIZE, SIZE, 3)
    actor, action = curves[0].title.split(", ")
    np.testing.assert_array_equal(curves[0].frames[1], clip_of(actor, action, 101)[FRAMES // 2])


def test_a_curve_is_where_its_attention_is(tmp_path: Path) -> None:
    """All on S is drawn high, all on P low; nothing else of the picture differs."""

    def inked_rows(a: float) -> np.ndarray:
        curve = AttentionCurve("one", [0.1, 0.6, 1.1], [a] * 3, np.zeros((3, 16, 16, 3), np.uint8))
        save_attention_picture([curve], tmp_path / "one.png")
        with Image.open(tmp_path / "one.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        blue = (np.abs(pixels - np.array([0x26, 0x62, 0xC4])).sum(axis=-1) < 30).sum(axis=1)
        return np.flatnonzero(blue > 50)

    high, middle, low = inked_rows(0.9), inked_rows(0.5), inked_rows(0.1)
    assert high.mean() < middle.mean() < low.mean()
    assert low.mean() - middle.mean() == pytest.approx(middle.mean() - high.mean(), abs=2)
    with pytest.raises(RunError, match="no videos to draw"):
        save_attention_picture([], tmp_path / "none.png")


def test_frames_above_a_curve_do_not_overlap(tmp_path: Path) -> None:
    """Of 15 clips, the last two all but at once, every second is shown but the last: black squares on white."""
    seconds = [0.5 * number for number in range(14)] + [6.6]
    save_attention_picture(
        [AttentionCurve("many", seconds, [0.5] * 15, np.zeros((15, 16, 16, 3), np.uint8))], tmp_path / "many.png"
    )
    with Image.open(tmp_path / "many.png") as image:
        black = (np.asarray(image.convert("L")) < 10).sum(axis=0) > 80
    edges = np.flatnonzero(np.diff(black.astype(int))).reshape(-1, 2)
    # Lines of the axes are black, too, but thin.
    squares = edges[np.diff(edges)[:, 0] > 20]
    assert len(squares) == 7
    assert (squares[1:, 0] > squares[:-1, 1]).all()
    assert np.diff(squares).max() == pytest.approx(np.diff(squares).min(), abs=2)


def test_errors_are_one_line(run: Run, actions: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x\.mp4: suffix '\.mp4' is no picture's"):
        measure_attentive_linear(run, actions, picture=tmp_path / "x.mp4")
    with pytest.raises(RunError, match=r"known of ravdess, sprites, weizmann, not of noise: give both"):
        measure_attentive_linear(run, actions, label="action")
    with pytest.raises(RunError, match=r"no label 'mood'; choose one that it has: action, actor$"):
        measure_attentive_linear(run, actions, label="mood", identity="actor")
    with pytest.raises(RunError, match=r"no clip has actor 'ann', which is tested"):
        measure_attentive_linear(run, actions, label="actor", identity="actor")
    with pytest.raises(RunError, match=r"--split validation: the shards hold no such clips"):
        measure_attentive_linear(run, actions, "validation", label="action", identity="actor")
    write_shards(tmp_path / "alone", [make_video("ann", action) for action in ACTIONS])
    with pytest.raises(RunError, match=r"all 3 videos show ann: leaving one out takes 2 identities or more"):
        measure_attentive_linear(run, tmp_path / "alone", label="action", identity="actor")


def test_data_sets_that_are_known_need_no_names(actions: Path) -> None:
    assert recognition_of(actions, "a", "b") == Recognition("a", "b", False)
    assert recognition_of(actions, "a", "b", True).flip
