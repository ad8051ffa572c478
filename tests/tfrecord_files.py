"""An independent writer of TFRecord files: the checksum from its polynomial, the messages byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    turned = (crc >> 15) | ((crc & 0x7FFF) << 17)
    return struct.pack("<I", (turned + 0xA282EAD8) % 2**32)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value: int) -> bytes:
    value %= 2**64
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def block(number: int, content: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(content)) + content


def bytes_list(values: Sequence[bytes]) -> bytes:
    return block(1, b"".join(block(1, value) for value in values))


def float_list(values: Sequence[float], packed: bool = True) -> bytes:
    numbers = [struct.pack("<f", value) for value in values]
    return block(2, block(1, b"".join(numbers)) if packed else b"".join(varint(8 + 5) + n for n in numbers))


def int64_list(values: Sequence[int], packed: bool = True) -> bytes:
    numbers = [varint(value) for value in values]
    return block(3, block(1, b"".join(numbers)) if packed else b"".join(varint(8) + n for n in numbers))


def example(features: dict[str, bytes]) -> bytes:
    return block(1, b"".join(block(1, block(1, name.encode()) + block(2, value)) for name, value in features.items()))
