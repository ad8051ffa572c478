"""Hits become spans: properties of merging, and what the windows of a long query find."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_clips import make_records, make_vectors

from kineme.retrieval.blending import search_by
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.growing import build_index
from kineme.retrieval.index import Index
from kineme.retrieval.search import Hit
from kineme.retrieval.spans import TOUCHING_S, Span, merge_hits, search_windows
from kineme.shards.sample import make_key

VIDEOS, CLIPS, CLIP_S = 4, 30, 0.8


def hit(rank: int, video: int, start_s: float, end_s: float, score: float = 0.0, source: str | None = None) -> Hit:
    key = make_key(f"{video:016x}", round(start_s * 100))
    return Hit(rank, score, key, source or f"{video}.mp4", start_s, end_s, {})


@st.composite
def answers(draw: st.DrawFn) -> list[Hit]:
    """Hits best first, on a grid of tenths of seconds, so that many touch."""
    places = draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(1, 12), st.integers(0, 4)), max_size=30)
    )
    best_first = sorted(places, key=lambda place: -place[3])
    return [
        hit(rank, video, start / 10, (start + length) / 10, score / 4)
        for rank, (video, start, length, score) in enumerate(best_first, start=1)
    ]


def holds(span: Span, one: Hit) -> bool:
    return span.source == one.source and span.start_s <= one.start_s and one.end_s <= span.end_s


@given(answers())
def test_every_hit_lies_in_exactly_one_span(hits: list[Hit]) -> None:
    spans = merge_hits(hits)
    for one in hits:
        (span,) = [span for span in spans if holds(span, one)]
        assert one.key in span.keys


@given(answers())
def test_spans_of_one_video_neither_overlap_nor_touch(hits: list[Hit]) -> None:
    spans = merge_hits(hits)
    for source in {span.source for span in spans}:
        own = sorted((span.start_s, span.end_s) for span in spans if span.source == source)
        assert all(after[0] - before[1] > TOUCHING_S for before, after in pairwise(own))


@given(answers())
def test_a_span_is_no_longer_than_its_hits_and_without_holes(hits: list[Hit]) -> None:
    for span in merge_hits(hits):
        own = [one for one in hits if holds(span, one)]
        tenths = set()
        for one in own:
            tenths.update(range(round(one.start_s * 10), round(one.end_s * 10)))
        assert tenths == set(range(round(span.start_s * 10), round(span.end_s * 10)))


@given(answers())
def test_the_score_is_that_of_the_best_hit_and_decides_the_order(hits: list[Hit]) -> None:
    spans = merge_hits(hits)
    firsts = [min(number for number, one in enumerate(hits) if holds(span, one)) for span in spans]
    assert [span.score for span in spans] == [hits[number].score for number in firsts]
    assert firsts == sorted(firsts)
    assert [span.rank for span in spans] == list(range(1, len(spans) + 1))


@given(answers())
def test_keys_come_in_the_order_of_time_each_once(hits: list[Hit]) -> None:
    starts = {}
    for one in hits:
        starts.setdefault(one.key, one.start_s)
    for span in merge_hits(hits):
        times = [starts[key] for key in span.keys]
        assert times == sorted(times)
        assert len(set(span.keys)) == len(span.keys)


@given(answers(), st.data())
def test_the_part_of_the_query_is_all_that_found_the_span(hits: list[Hit], data: st.DataObject) -> None:
    lengths = st.tuples(st.integers(0, 50), st.integers(1, 9)).map(lambda pair: (float(pair[0]), float(sum(pair))))
    parts = data.draw(st.lists(lengths, min_size=len(hits), max_size=len(hits)))
    for span in merge_hits(hits, parts):
        own = [part for one, part in zip(hits, parts, strict=True) if holds(span, one)]
        assert (span.query_start_s, span.query_end_s) == (min(own)[0], max(end for _, end in own))


def test_videos_of_one_name_are_told_apart() -> None:
    spans = merge_hits([hit(1, 1, 0, 1, source="a.mp4"), hit(2, 2, 1, 2, source="a.mp4")])
    assert [(span.start_s, span.end_s) for span in spans] == [(0, 1), (1, 2)]


def test_a_query_without_a_time_has_none() -> None:
    (span,) = merge_hits([hit(1, 1, 0, 1, 0.5), hit(2, 1, 1.0004, 2, 0.25)])
    assert (span.score, span.start_s, span.end_s, span.query_start_s, span.query_end_s) == (0.5, 0, 2, None, None)
    assert merge_hits([]) == []


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Four videos of thirty clips that follow one another."""
    records = []
    for place, record in enumerate(make_records([{}] * (VIDEOS * CLIPS))):
        video, number = divmod(place, CLIPS)
        start, end = round(number * CLIP_S, 6), round((number + 1) * CLIP_S, 6)
        key = make_key(f"{video:016x}", number)
        records.append(replace(record, key=key, source=f"{video}.mp4", start_s=start, end_s=end))
    folder = tmp_path_factory.mktemp("spans")
    (folder / "recipe.yaml").write_text("model: made-up\n")
    return build_index(
        folder / "index",
        make_vectors([record.key for record in records]),
        records,
        encoder="made-up",
        encoder_files={"recipe.yaml": folder / "recipe.yaml"},
        data="made-up shards",
        pictures=[],
    )


def windows(index: Index, keys: list[str], noise: float = 0.05) -> dict[str, np.ndarray]:
    """Windows that are like these clips."""
    random = np.random.default_rng(0)
    return {
        space: np.stack([index.vector(key, space) for key in keys])
        + noise * random.standard_normal((len(keys), index.info.dims[space])).astype(np.float32)
        for space in ("motion", "appearance")
    }


@pytest.mark.parametrize("by", ["motion", "both"])
def test_a_part_of_a_video_finds_itself_first(index: Index, by: str) -> None:
    keys = index.keys[2 * CLIPS + 10 : 2 * CLIPS + 15]
    parts = [(100.0 + number, 102.0 + number) for number in range(5)]
    spans = search_windows(index, windows(index, keys), parts, by=by, k=1).spans
    (span,) = spans
    assert (span.source, span.keys) == ("2.mp4", keys)
    assert (span.start_s, span.end_s) == pytest.approx((10 * CLIP_S, 15 * CLIP_S))
    assert (span.query_start_s, span.query_end_s) == (100, 106)


@pytest.mark.parametrize("by", ["motion", "appearance", "both"])
@pytest.mark.parametrize("where", [None, "source <> '2.mp4'"])
def test_spans_hold_what_each_window_alone_finds(index: Index, by: str, where: str | None) -> None:
    """The windows ask by themselves; all their hits are in the spans, with the best of their scores."""
    keys = [index.keys[number] for number in (3, 4, 40, 61, 100)]
    asked, parts, excluded = windows(index, keys), [(float(n), n + 2.0) for n in range(5)], [keys[0]]
    hits, spans = search_windows(index, asked, parts, by=by, weight=0.3, k=4, where=where, exclude=excluded)
    best: dict[str, tuple[float, list[int]]] = {}
    for number in range(5):
        one = {space: rows[number] for space, rows in asked.items()}
        for found in search_by(index, one, by=by, weight=0.3, k=4, where=where, exclude=excluded):
            score, numbers = best.get(found.key, (found.score, []))
            best[found.key] = max(score, found.score), [*numbers, number]
    nearest = sorted((score for score, _ in best.values()), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(nearest[:4], abs=1e-5)
    assert all(hit.score == pytest.approx(best[hit.key][0], abs=1e-5) for hit in hits)
    assert spans[0].score == pytest.approx(nearest[0], abs=1e-5)
    for span in spans:
        assert span.score == pytest.approx(max(best[key][0] for key in span.keys), abs=1e-5)
        numbers = [number for key in span.keys for number in best[key][1]]
        assert (span.query_start_s, span.query_end_s) == (min(numbers), max(numbers) + 2)
    assert len(spans) == 4
    assert excluded[0] not in {key for span in spans for key in span.keys}


def test_windows_of_a_small_library_do_not_find_all_of_it(index: Index) -> None:
    """30 clips lie in one video: ten hits of each window would be most of them, and one span."""
    keys = index.keys[10:14]
    spans = search_windows(index, windows(index, keys), None, by="motion", k=10, where="source = '0.mp4'").spans
    found = [key for span in spans for key in span.keys]
    assert set(keys) <= set(found)
    assert len(keys) <= len(found) <= CLIPS // 4
    assert spans[0].query_start_s is None


def test_one_clip_is_enough_even_of_the_smallest_library(index: Index) -> None:
    where = f"key = '{index.keys[5]}'"
    (span,) = search_windows(index, windows(index, index.keys[:3]), None, by="motion", k=10, where=where).spans
    assert span.keys == [index.keys[5]]
    assert search_windows(index, windows(index, index.keys[:3]), None, by="motion", where="height > 999").spans == []


def test_bad_questions(index: Index) -> None:
    asked = windows(index, index.keys[:2])
    with pytest.raises(RetrievalError, match="k = 0"):
        search_windows(index, asked, None, by="motion", k=0)
    with pytest.raises(RetrievalError, match="5 dimensions"):
        search_windows(index, {"appearance": asked["motion"]}, None, by="appearance")
