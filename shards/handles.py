"""Open files, and how many of them are kept open."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Handle:
    """A file descriptor that is closed with the last reference to it.

    Attributes:
        fd: the descriptor.
    """

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o666)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class MostRecent(Generic[Value]):
    """The values last asked for, made on demand; beyond ``limit`` the one that was not asked for longest is dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[int, Value] = OrderedDict()

    def get(self, number: int, make: Callable[[int], Value]) -> Value:
        """The value of a number, made now if it is not kept."""
        value = self._values.get(number)
        if value is None:
            value = self._values[number] = make(number)
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
        else:
            self._values.move_to_end(number)
        return value
