"""Files of ours: the numbers of the program's are none of our business, and ours may be taken from us.

A program that makes itself a daemon closes its standard streams, where the next file that is opened gets their numbers,
and what it prints goes there. And it closes all numbers that there may be, for the next files of its own.
"""

from __future__ import annotations

import os
from typing import Final

from otel_torch_modules._interruption import suppressed

_STANDARD: Final = 3  # input, output and errors: what is below


def opened(path: str, flags: int, mode: int = 0o600) -> int:
    """Return a descriptor that no child inherits, and that is none of the three of the standard streams.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), mode)
    below = []
    try:
        while descriptor < _STANDARD:
            below.append(descriptor)
            descriptor = os.dup(descriptor)
    finally:
        for each in below:
            os.close(each)
    return descriptor


class KeptDescriptor:
    """One that is kept open, and known by what it was opened for.

    Args:
        number: an open descriptor.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._is_for = os.fstat(number)

    def is_at(self, path: str) -> bool:
        """Return whether it is still what we have opened, and this still is at `path`."""
        with suppressed(OSError):
            return self._is_ours() and os.path.samestat(self._is_for, os.stat(path))
        return False

    def close(self) -> None:
        """Close it, unless the program has done so: the number may be of a file of the program's now."""
        if self._is_ours():
            os.close(self.number)

    def _is_ours(self) -> bool:
        with suppressed(OSError):
            return os.path.samestat(self._is_for, os.fstat(self.number))
        return False
