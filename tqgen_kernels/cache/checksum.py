"""A checksum of a cache's state: a bit that has changed on disk would be a wrong answer."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import mlx.core as mx


def checksum(fields: Sequence[Any]) -> str:
    """CRC-32, in hexadecimal, of arrays (dtype, shape, bytes), numbers, texts, None, and of lists
    of these. Evaluates the arrays."""
    value = 0
    for field in fields:
        if isinstance(field, mx.array):
            value = zlib.crc32(f"{field.dtype} {field.shape}".encode(), value)
            flat: Any = mx.contiguous(field.reshape(-1)).view(mx.uint8)
            value = zlib.crc32(memoryview(flat), value)
        elif isinstance(field, list | tuple):
            value = zlib.crc32(checksum(field).encode(), value)
        else:
            value = zlib.crc32(repr(field).encode() + b";", value)
    return f"{value:08x}"
