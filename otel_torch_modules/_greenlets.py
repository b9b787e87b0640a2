"""Whether what Python starts as a thread is one.

gevent and eventlet can make `threading` start greenlets, which take turns in one thread of the system. A thread of
ours would then be the one that trains: where it waits training stands still, for ever where nothing wakes it, and the
signals that it blocks never reach the program.
"""

from __future__ import annotations

import sys


class GreenThreadsError(RuntimeError):
    """No thread can be started, as what starts would be a greenlet."""


def threads_are_green() -> str:
    """Return, as a sentence, that threads are greenlets in this process; empty where they are threads."""
    for library, module, asked, name in (
        ("gevent", "gevent.monkey", "is_module_patched", "threading"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread"),
    ):
        # Also while it is still being imported.
        is_patched = getattr(sys.modules.get(module), asked, None)
        if is_patched is not None and is_patched(name):
            return f"{library} has made threads greenlets, and tracing needs a thread of its own"
    return ""
