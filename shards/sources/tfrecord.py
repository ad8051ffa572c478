"""TFRecord files and the tf.train.Example messages in them, read without TensorFlow.

A record is its length (uint64, little-endian), the masked CRC32C of those eight bytes (uint32), the data, and the
masked CRC32C of the data. Masking turns a CRC right by 15 bits and adds a constant, modulo 2^32
(https://www.tensorflow.org/tutorials/load_data/tfrecord).

    Example         { Features features = 1; }
    SequenceExample { Features context = 1; ... }
    Features        { map<string, Feature> feature = 1; }
    Feature         { oneof { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; } }

Both kinds of example hold a Features message as field 1, so one parser reads the features of the one and the context of
the other. The feature lists of a SequenceExample are passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from kineme.shards.media import UnreadableError

Feature = list[bytes] | NDArray[np.float32] | NDArray[np.int64]

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LISTS = {1: "bytes", 2: "float", 3: "int64"}


class RecordSpan(NamedTuple):
    """Where a record's data lie in a file: the first byte, and how many."""

    offset: int
    length: int


class RecordList(NamedTuple):
    """The records of a file, and why there are no more where it is damaged or cut short (else None)."""

    spans: list[RecordSpan]
    damage: str | None


def list_records(path: Path) -> RecordList:
    """Find the records of a file by their lengths, without reading their data.

    What follows a damaged length cannot be found, so the list ends there. Raises OSError.
    """
    spans: list[RecordSpan] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        while (start := file.tell()) < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return RecordList(spans, f"cut short: {len(header)} bytes are left where a record begins")
            length, crc = _HEADER.unpack(header)
            if crc != _masked_crc(header[:8]):
                return RecordList(spans, "damaged: the length of this record does not match its checksum")
            end = start + _HEADER.size + length + _FOOTER.size
            if end > size:
                return RecordList(spans, f"cut short: this record ends at byte {end}, the file at {size}")
            spans.append(RecordSpan(start + _HEADER.size, length))
            file.seek(end)
    return RecordList(spans, None if spans else "empty: it holds no record")


def read_record(path: Path, span: RecordSpan) -> bytes:
    """The data of one record.

    Raises:
        UnreadableError: they do not match their checksum, or the file has become shorter.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(span.offset)
        data = file.read(span.length)
        footer = file.read(_FOOTER.size)
    if len(data) < span.length or len(footer) < _FOOTER.size:
        raise UnreadableError("cut short: the file ends within this record")
    if _FOOTER.unpack(footer)[0] != _masked_crc(data):
        raise UnreadableError("damaged: the data of this record do not match their checksum")
    return data


def parse_example(data: bytes) -> dict[str, Feature]:
    """The features of a tf.train.Example, or the context of a SequenceExample, by name.

    Returns:
        Each a list of bytes, or float32 or int64 numbers (N,). A feature of no kind is an empty list of bytes.

    Raises:
        UnreadableError: the bytes are no such message.
    """
    features: dict[str, Feature] = {}
    for entry in _messages(memoryview(data), 1):
        for pair in _messages(entry, 1):
            name, value = "", memoryview(b"")
            for number, kind, content in _fields(pair):
                if kind == _LENGTH and number == 1:
                    name = _text(content)
                elif kind == _LENGTH and number == 2:
                    value = content
            features[name] = _feature(value)
    return features


def _feature(message: memoryview) -> Feature:
    found, parts = "bytes", list[memoryview]()
    for number, kind, content in _fields(message):
        if kind == _LENGTH and number in _LISTS:
            # One of three kinds: the last wins, and parts of the same kind are joined.
            parts = [*parts, content] if found == _LISTS[number] else [content]
            found = _LISTS[number]
    if found == "bytes":
        return [bytes(value) for part in parts for value in _messages(part, 1)]
    if found == "float":
        return np.frombuffer(b"".join(_floats(part) for part in parts), "<f4").astype(np.float32)
    return np.array([value for part in parts for value in _integers(part)], np.uint64).astype(np.int64)


def _floats(message: memoryview) -> bytes:
    """Packed (all in one field) or one a field: the same bytes."""
    kinds = (_LENGTH, _FOUR_BYTES)
    values = b"".join(bytes(content) for number, kind, content in _fields(message) if number == 1 and kind in kinds)
    if len(values) % 4:
        raise UnreadableError("damaged: a list of floats is not a multiple of 4 bytes")
    return values


def _integers(message: memoryview) -> Iterator[int]:
    for number, kind, content in _fields(message):
        position = 0
        while number == 1 and kind in (_VARINT, _LENGTH) and position < len(content):
            value, position = _varint(content, position)
            yield value


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (content for number, kind, content in _fields(message) if number == wanted and kind == _LENGTH)


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and bytes of each field (https://protobuf.dev/programming-guides/encoding)."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, end = _varint(message, position)
        elif kind == _LENGTH:
            length, position = _varint(message, position)
            end = position + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            end = position + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise UnreadableError(f"not a tf.train.Example: it has a field of wire type {kind}")
        if end > len(message):
            raise UnreadableError("not a tf.train.Example: a field ends beyond its message")
        yield number, kind, message[position:end]
        position = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number in groups of 7 bits, the lowest first, and the position after it; at most 64 bits are kept."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise UnreadableError("not a tf.train.Example: a number does not end")


def _text(content: memoryview) -> str:
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError("not a tf.train.Example: the name of a feature is not UTF-8") from error


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
