"""TFRecord files and their examples are read as they were written, and damage costs no more than it must."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tfrecord_files import block, bytes_list, crc32c, example, float_list, int64_list, record, varint

from kineme.shards.media import UnreadableError
from kineme.shards.sources.tfrecord import list_records, parse_example, read_record


def test_the_writer_of_these_tests_is_right() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


names = st.text(max_size=12)
finite = st.floats(width=32, allow_nan=False)


@given(
    st.dictionaries(
        names,
        st.one_of(
            st.tuples(st.just("bytes"), st.lists(st.binary(max_size=300), max_size=4), st.booleans()),
            st.tuples(st.just("float"), st.lists(finite, max_size=5), st.booleans()),
            st.tuples(st.just("int64"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.booleans()),
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_features_are_read_as_they_were_written(features: dict, sequence_example: bool) -> None:
    encoders = {"bytes": lambda values, packed: bytes_list(values), "float": float_list, "int64": int64_list}
    data = example({name: encoders[kind](values, packed) for name, (kind, values, packed) in features.items()})
    if sequence_example:  # with feature lists, and fields that no version knows yet
        data += block(2, block(1, b"\x0a\x01x")) + varint(9 * 8) + varint(7) + varint(9 * 8 + 1) + bytes(8)
    found = parse_example(data)
    assert found.keys() == features.keys()
    for name, (kind, values, _) in features.items():
        value = found[name]
        if isinstance(value, np.ndarray):
            assert value.dtype == {"float": np.float32, "int64": np.int64}[kind]
            value = value.tolist()
        assert value == values


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=80).map(lambda data: block(1, block(1, data)))))
def test_no_bytes_can_break_the_parser(data: bytes) -> None:
    with contextlib.suppress(UnreadableError):
        assert all(isinstance(name, str) for name in parse_example(data))


def small_file(folder: Path) -> tuple[Path, list[bytes], np.ndarray]:
    """Its path, what its four records hold, and where each of them ends."""
    path = folder / "small.tfrecords"
    data = [bytes([number]) * length for number, length in enumerate((5, 0, 40, 7))]
    path.write_bytes(b"".join(record(part) for part in data))
    return path, data, np.cumsum([16 + len(part) for part in data])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_costs_its_record_or_those_that_follow(tmp_path: Path, data: st.DataObject) -> None:
    path, written, ends = small_file(tmp_path)
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(
        whole[:position] + bytes([whole[position] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[position + 1 :]
    )
    hit = int(np.searchsorted(ends, position, side="right"))
    in_header = position - (ends[hit] - 16 - len(written[hit])) < 12
    spans, damage = list_records(path)
    assert len(spans) == (hit if in_header else 4)
    assert (damage is not None) == in_header
    for number, span in enumerate(spans):
        if number == hit:
            with pytest.raises(UnreadableError, match="checksum"):
                read_record(path, span)
        else:
            assert read_record(path, span) == written[number]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_of_a_file_cut_short_the_whole_records_remain(tmp_path: Path, data: st.DataObject) -> None:
    path, written, ends = small_file(tmp_path)
    whole = path.read_bytes()
    kept = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:kept])
    spans, damage = list_records(path)
    assert [read_record(path, span) for span in spans] == written[: int((ends <= kept).sum())]
    assert (damage is None) == (kept in ends)
