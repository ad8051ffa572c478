"""Which clips stand for a folder."""

from __future__ import annotations

import pytest

from kineme.shards.summary import spread


@pytest.mark.parametrize(("clips", "count"), [(1, 12), (11, 12), (12, 12), (17, 12), (18, 12), (1000, 7)])
def test_spread_is_one_of_each_part_the_first_among_them(clips: int, count: int) -> None:
    found = spread(range(clips), count)
    assert found[0] == 0
    assert len(found) == min(clips, count)
    begins = [part * clips // len(found) for part in range(len(found) + 1)]
    assert all(begin <= number < end for begin, number, end in zip(begins, found, begins[1:], strict=False))


def test_spread_shows_many_labels_of_a_set_that_comes_in_their_order() -> None:
    assert len({number % 9 for number in spread(range(11664), 12)}) >= 5
    assert spread([], 12) == []
