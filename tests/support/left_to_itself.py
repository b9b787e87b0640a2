"""Threads that somebody waited for in vain, or was called away from: they end by themselves."""

from __future__ import annotations

import threading

_PATIENCE_S = 60.0  # one that does not end is left behind


def let_go_on() -> None:
    """Wait for what runs undisturbed and was left to itself."""
    for thread in threading.enumerate():
        if thread.name.endswith("undisturbed"):
            thread.join(_PATIENCE_S)
