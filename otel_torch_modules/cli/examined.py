"""What `doctor` finds: a thing, its state, and what is wrong with it."""

from __future__ import annotations

from typing import NamedTuple


class Examined(NamedTuple):
    """One line of `doctor`."""

    subject: str
    state: str
    fault: str = ""  # empty: nothing is wrong
