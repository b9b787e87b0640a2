"""How often Python lets another thread go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def switching_after(seconds: float) -> Iterator[None]:
    """Have a thread that wants the interpreter wait so long for one that does not give it up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
