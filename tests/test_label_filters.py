"""Filters that the page offers: labels of few values, chosen in lists, become SQL that says the same."""

from __future__ import annotations

import json

import pytest
from made_up_clips import make_index

from kineme.retrieval.service.label_filters import as_sql, as_text, label_filters
from kineme.retrieval.service.problems import ProblemError

LABELS = [
    {"who": "O'Neill", "walks": True, "speed": 1.5, "number": 3, 'odd "name"': "a", "id": str(place), "same": "x"}
    if place % 2
    else {
        "who": 'say "hi"; --',
        "walks": False,
        "speed": -2.0,
        "number": 12,
        'odd "name"': "b",
        "id": str(place),
        "same": "x",
    }
    for place in range(60)
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return make_index(tmp_path_factory.mktemp("made up") / "index", LABELS)


def test_labels_of_few_values_are_offered_in_order(index) -> None:  # type: ignore[no-untyped-def]
    offered = {
        filter.label: [(option.text, option.count) for option in filter.options] for filter in label_filters(index)
    }
    # "id" has a value a clip, and "same" one for all: neither is a choice.
    assert offered == {
        "number": [("3", 30), ("12", 30)],
        'odd "name"': [("a", 30), ("b", 30)],
        "speed": [("-2", 30), ("1.5", 30)],
        "walks": [("false", 30), ("true", 30)],
        "who": [("O'Neill", 30), ('say "hi"; --', 30)],
    }


def test_each_choice_finds_its_clips(index) -> None:  # type: ignore[no-untyped-def]
    for filter in label_filters(index):
        for option in filter.options:
            rows = index.filter.rows(as_sql({filter.column: option.value}, "", index.label_columns))
            found = [clip.labels[filter.label] for clip in index.clips(rows)]
            assert len(found) == option.count
            assert {as_text(value) for value in found} == {option.text}


def test_choices_and_sql_hold_together(index) -> None:  # type: ignore[no-untyped-def]
    chosen = {"who": json.dumps("O'Neill"), "number": "3"}
    both = as_sql(chosen, "id = '0' or id = '1' -- or so", index.label_columns)
    assert [clip.labels["id"] for clip in index.clips(index.filter.rows(both))] == ["1"]
    assert as_sql({}, " ", index.label_columns) == ""
    assert as_sql({}, "id = '1'", index.label_columns) == "id = '1'"


@pytest.mark.parametrize("value", ["walk", "null", "[1]", '{"a": 1}', "", "1 or true"])
def test_what_is_no_value_is_refused(value: str) -> None:
    with pytest.raises(ProblemError, match="is no JSON text, number or truth value"):
        as_sql({"who": value}, "", ["who"])


def test_a_label_that_is_not_there_is_refused() -> None:
    with pytest.raises(ProblemError, match="whom: the index has no such label"):
        as_sql({"whom": '"x"'}, "", ["who"])
