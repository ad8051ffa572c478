"""Splits by name and by label."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_factory import make_sample, write_shards

from kineme.shards.errors import DataError
from kineme.shards.loader import clip_loader
from kineme.shards.sample import ClipRecord, Label
from kineme.shards.split import SplitSelector

RECORD = make_sample(0).record


def record_of(split: str = "train", **labels: Label) -> ClipRecord:
    return dataclasses.replace(RECORD, split=split, labels=labels)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        (None, [True, True, True, True]),
        ("train", [True, False, True, True]),
        ("actor=daria", [True, False, False, False]),
        ("actor!=daria", [False, True, False, False]),
        (" actor = daria ", [True, False, False, False]),
        ("take=3", [True, False, False, False]),
        ("take=3.0", [False, False, False, True]),
        ("loud=true", [False, True, False, False]),
        ("loud!=true", [False, False, True, False]),
        ("note=a=b", [False, False, True, False]),
        ("note!=", [False, False, True, False]),
    ],
)
def test_selectors(text: str | None, matches: list[bool]) -> None:
    records = [
        record_of(actor="daria", take=3),
        record_of("test", actor="denis", loud=True),
        record_of(loud=False, note="a=b"),
        record_of(take=3.0),
    ]
    selector = SplitSelector.parse(text)
    assert [selector.matches(record) for record in records] == matches


@given(
    values=st.lists(st.one_of(st.text(min_size=1), st.integers(), st.booleans()), min_size=1),
    pick=st.integers(0, 99),
)
def test_a_label_s_two_sides_are_everything_once(values: list[Label], pick: int) -> None:
    value = str(values[pick % len(values)]).strip()
    one, other = SplitSelector.parse(f"x={value}"), SplitSelector.parse(f"x!={value}")
    assert all(one.matches(record_of(x=v)) != other.matches(record_of(x=v)) for v in values)
    assert not one.matches(record_of(y=1))
    assert not other.matches(record_of(y=1))


@pytest.mark.parametrize("text", ["=daria", "!=daria", " = "])
def test_no_label(text: str) -> None:
    with pytest.raises(DataError, match="no label before the ="):
        SplitSelector.parse(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("actors")
    samples = []
    for number, actor in enumerate(["daria", "denis", "daria", "eli", "denis"]):
        sample = make_sample(number)
        labels = {"actor": actor, "action": "walk"}
        samples.append(dataclasses.replace(sample, record=dataclasses.replace(sample.record, labels=labels)))
    write_shards(path, [samples[:2], samples[2:3], samples[3:]])
    return path


@pytest.mark.parametrize("cached", [False, True])
def test_leaving_one_actor_out(cached: bool, folder: Path, tmp_path: Path) -> None:
    actors = {}
    for split in ("actor=daria", "actor!=daria", None):
        cache = tmp_path if cached else None
        loader = clip_loader(folder, batch_size=2, clip_frames=6, split=split, cache=cache)
        actors[split] = [record.labels["actor"] for batch in loader for record in batch.records]
    assert actors["actor=daria"] == ["daria", "daria"]
    assert actors["actor!=daria"] == ["denis", "eli", "denis"]
    assert actors[None] == ["daria", "denis", "daria", "eli", "denis"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("actr=daria", r"no clip has a label 'actr' \(did you mean actor\?\); labels are: action, actor"),
        (
            "actor=dania",
            r"no clips of split 'actor=dania' \(did you mean daria\?\); values of actor are: daria, denis, eli",
        ),
        ("action!=walk", r"no clips of split 'action!=walk'; values of action are: walk"),
        ("test", r"no clips of split 'test' \(there are: 5 of 'train'\)"),
    ],
)
def test_nothing_there(split: str, message: str, folder: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        clip_loader(folder, batch_size=2, clip_frames=6, split=split)
    assert "\n" not in str(caught.value)
