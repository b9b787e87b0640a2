"""Whether there is room for gRPC: where it sets itself up without the threads or descriptors that it needs, it ends the
process (SIGABRT, "Failed to start lifeguard thread", grpcio 1.85).

There is no asking how many are left: what limits threads is a container's, a user's or the address space. So as many as
it takes are tried.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import ExitStack
from typing import Final

from otel_torch_modules._entry_points import ShortageError
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._own_descriptor import opened
from otel_torch_modules._own_thread import OwnThread

# It has as many workers as there are processors, within these bounds; and others beside.
_FEWEST_WORKERS: Final = 4
_MOST_WORKERS: Final = 16
_OTHERS: Final = 6
_DESCRIPTORS: Final = 8


def look_for_room() -> None:
    """Return where there is room.

    Raises:
        ShortageError: there is none now.
    """
    workers = min(max(os.cpu_count() or 0, _FEWEST_WORKERS), _MOST_WORKERS)
    try:
        _open_files(_DESCRIPTORS)
        _start_threads(workers + _OTHERS)
    except (OSError, RuntimeError) as error:
        if is_interruption(error):
            raise
        number = error.errno if isinstance(error, OSError) else errno.EAGAIN
        raise ShortageError(number, f"gRPC would end the process: {error}") from error


def _open_files(count: int) -> None:
    with ExitStack() as files:
        for _ in range(count):
            files.callback(os.close, opened(os.devnull, os.O_RDONLY))


def _start_threads(count: int) -> None:
    over = threading.Event()
    started = []
    try:
        for _ in range(count):
            thread = OwnThread(target=over.wait, name="otel-torch-modules room", daemon=True)
            thread.start()
            started.append(thread)
    finally:
        over.set()
        for thread in started:
            thread.join()
