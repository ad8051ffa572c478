"""Pretraining for recognition: who is trained on and tested, which labels are given, and what the starts change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_runs import run as ingest_run
from recognition_data import ACTIONS, ACTORS, make_untrained, make_video, model_of
from shard_factory import write_shards

from kineme.pipeline.errors import RunError
from kineme.pipeline.protocols.finetune import finetune, identity_folds, measure_finetune, split_division
from kineme.pipeline.protocols.labelled_videos import LabelledVideos, read_labelled_videos
from kineme.pipeline.protocols.recognition import Recognition, recognition_of
from kineme.pipeline.protocols.video_classification import recognised, train_video_classifier
from kineme.pipeline.run import Run
from kineme.shards.ingest import IngestSettings
from kineme.shards.sampling import Sampling
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.sprites import SpritesSource

WANTED = Recognition("action", "actor", False)
CPU = torch.device("cpu")
STATICS = ("objective.prediction.coefficient=0",)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def videos(run: Run, actions: Path) -> LabelledVideos:
    return read_labelled_videos(actions, model_of(run).config, 1, WANTED, CPU)


@settings(max_examples=30, deadline=None)
@given(folds=st.integers(2, 4), seed=st.integers(0, 1000))
def test_every_identity_is_tested_once(videos: LabelledVideos, folds: int, seed: int) -> None:
    divisions = identity_folds(videos, folds, seed)
    assert len(divisions) == folds
    assert sorted(video for division in divisions for video in division.test) == list(range(24))
    tested = [{videos.identities[video] for video in division.test} for division in divisions]
    assert max(map(len, tested)) - min(map(len, tested)) <= 1
    for (train, test), theirs in zip(divisions, tested, strict=True):
        assert sorted(train + test) == list(range(24))
        assert not theirs & {videos.identities[video] for video in train}
    assert divisions == identity_folds(videos, folds, seed)


def test_a_split_is_tested_and_the_training_split_trained_on(videos: LabelledVideos) -> None:
    division = split_division(videos, "test")
    assert {videos.identities[video] for video in division.test} == {"dan"}
    assert {videos.identities[video] for video in division.train} == {"ann", "bob", "cat"}
    left_out = split_division(videos, "actor=bob")
    assert {videos.identities[video] for video in left_out.train} == {"ann", "cat", "dan"}


def test_what_a_classifier_learned_before_shows(videos: LabelledVideos, run: Run) -> None:
    """An encoder that already recognises the actions needs one more epoch, a fresh one more than that."""
    config = model_of(run).config
    division = split_division(videos, "test")
    taught = train_video_classifier(videos, division.train, config, flip=False, epochs=25, seed=3)
    assert all(recognised(taught, videos, division.test))
    # What finetune takes is a video encoder with its own last layer.
    encoder = model_of(run).video_encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = {name: v for name, v in taught.encoder.state_dict().items() if not name.startswith("dynamics")}
    encoder.load_state_dict(state, strict=False)
    metrics = finetune(videos, [division], {"scratch": None, "taught": encoder}, config, flip=False, epochs=5)
    encoder.load_state_dict(before)
    assert metrics["finetune/videos"] == 6
    assert metrics["finetune/accuracy_taught"] > metrics["finetune/accuracy_scratch"]


def test_fewer_labels_are_of_whole_identities_and_nested(
    videos: LabelledVideos, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    division = split_division(videos, "test")
    config = model_of(run).config
    trained: list[list[int]] = []

    def watched_training(videos: LabelledVideos, train: list[int], *given: object, **settings: object) -> object:
        trained.append(train)
        return train_video_classifier(videos, train, *given, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("kineme.pipeline.protocols.finetune.train_video_classifier", watched_training)
    metrics = finetune(
        videos, [division], {"scratch": None}, config, fractions=(0.01, 0.5, 1.0), flip=False, epochs=1, seed=1
    )
    accuracies = {name for name in metrics if "accuracy" in name and not name.endswith(("_low", "_high"))}
    assert accuracies == {
        "finetune/accuracy_scratch",
        "finetune/accuracy_scratch/1pct",
        "finetune/accuracy_scratch/50pct",
    }
    labelled = [{videos.identities[video] for video in train} for train in trained]
    assert [len(actors) for actors in labelled] == [1, 2, 3]
    assert labelled[0] < labelled[1] < labelled[2]
    for train, actors in zip(trained, labelled, strict=True):
        assert train == [video for video in division.train if videos.identities[video] in actors]


def test_three_starts_and_their_folds(run: Run, actions: Path, tmp_path: Path) -> None:
    statics = make_untrained(tmp_path / "statics", *STATICS)

    def measure() -> dict[str, float]:
        return measure_finetune(
            run, actions, statics_only=statics.folder, label="action", identity="actor", folds=2, epochs=4
        )

    metrics = measure()
    assert (metrics["clips"], metrics["finetune/videos"]) == (36, 24)
    for start in ("scratch", "statics", "statics_dynamics"):
        figures = [metrics[f"finetune/accuracy_{start}{end}"] for end in ("_low", "", "_high")]
        assert figures == sorted(figures)
    # Both runs begin with the same weights here.
    assert metrics["finetune/accuracy_statics"] == metrics["finetune/accuracy_statics_dynamics"]
    assert measure() == metrics


def test_training_clips_may_be_flipped(videos: LabelledVideos, run: Run) -> None:
    config = model_of(run).config
    plain, flipped = (
        train_video_classifier(videos, [0, 1, 2, 3], config, flip=flip, epochs=1, seed=0).state_dict()
        for flip in (False, True)
    )
    assert any(not torch.equal(plain[name], flipped[name]) for name in plain)


@dataclass(frozen=True)
class FewSprites(SpritesSource):
    """Ten of the characters: eight to train on, two for testing."""

    def items(self, root: Path) -> list[SourceItem]:
        every = super().items(root)
        return [
            item
            for split, count in (("train", 8), ("test", 2))
            for item in [item for item in every if item.split == split][: 9 * count]
        ]


def test_real_sprites_with_few_labels(run: Run, data_dir: Path, tmp_path: Path) -> None:
    if not (data_dir / "sprites").is_dir():
        pytest.skip(f"no sprites in {data_dir}")
    settings_ = IngestSettings(size=32, sampling=Sampling(clip_frames=8))
    ingest_run(data_dir / "sprites", tmp_path / "shards", settings_, FewSprites())
    assert recognition_of(tmp_path / "shards") == Recognition("action", "character", False)
    metrics = measure_finetune(run, tmp_path / "shards", "test", fractions=(1.0, 0.1), epochs=30)
    assert (metrics["clips"], metrics["finetune/videos"]) == (90, 18)
    assert metrics["finetune/accuracy_scratch"] > 2 / 9
    assert metrics["finetune/accuracy_scratch"] >= metrics["finetune/accuracy_scratch/10pct"]
    assert "finetune/accuracy_statics" not in metrics


def test_errors_are_one_line(run: Run, actions: Path, tmp_path: Path) -> None:
    def measure(split: str | None = None, **changed: object) -> Mapping[str, float]:
        settings_ = {"label": "action", "identity": "actor", "epochs": 1, **changed}
        return measure_finetune(run, actions, split, **settings_)  # type: ignore[arg-type]

    with pytest.raises(RunError, match=r"folds is 5: .* not more than the 4 identities"):
        measure()
    with pytest.raises(RunError, match="folds is 1: at least 2"):
        measure(folds=1)
    with pytest.raises(RunError, match=r"fraction 1.5 of the training identities: it must be above 0 and at most 1"):
        measure("test", fractions=(1.5,))
    with pytest.raises(RunError, match=r"--split train: is what is searched or learned from"):
        measure("train")
    with pytest.raises(RunError, match=r"--split later: the shards hold no clips of split later"):
        measure("later")
    with pytest.raises(RunError, match=r"--split action=rise: ann is both in it and in action!=rise"):
        measure("action=rise")
    with pytest.raises(RunError, match=r"18 training videos, dan left out: no clip has actor 'dan'"):
        measure("test", label="actor")
    with pytest.raises(RunError, match=r"it learned dynamics, too: train one with --set objective.prediction"):
        measure("test", statics_only=run.folder)
    wider = make_untrained(tmp_path / "wider", "model.width=6", *STATICS)
    with pytest.raises(RunError, match=r"its width is 6, that of the run it stands beside 4"):
        measure("test", statics_only=wider.folder)
    unlike = [make_video(actor, action) for actor, action in zip(ACTORS, (*ACTIONS, ACTIONS[0]), strict=True)]
    write_shards(tmp_path / "unlike", unlike)
    with pytest.raises(RunError, match=r"no clip has action '.*', which is tested"):
        measure_finetune(run, tmp_path / "unlike", label="action", identity="actor", folds=4, epochs=1)
