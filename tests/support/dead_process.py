"""A process that has ended."""

from __future__ import annotations

import os


def dead_pid() -> int:
    """Return the number of a process that ran a moment ago and does not any more."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child
