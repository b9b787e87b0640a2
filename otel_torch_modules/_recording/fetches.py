"""The loop's waits for data that no step has taken yet."""

from __future__ import annotations

import threading
from time import perf_counter_ns as now

from torch.utils.data import get_worker_info


class Fetches(threading.local):
    """The waits of the thread that asks: each has its own. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}  # of each data loader's iterator: start, end
        self._at_work = 0  # how many data loaders' iterators are, one inside the other

    @property
    def loading(self) -> bool:
        """Whether what runs now is a dataset's: in the loop's own thread, or in a worker process."""
        return self._at_work > 0 or get_worker_info() is not None

    def start(self) -> None:
        """Take note that an iterator is asked for a batch."""
        self._at_work += 1

    def end(self) -> None:
        """Take note that it has given one, has none, or raised."""
        self._at_work -= 1

    def keep(self, iterator: object, start: int) -> None:
        """Keep the wait that `iterator` ends now, for the step that comes next."""
        self._last[id(iterator)] = (start, now())

    def take(self) -> list[tuple[int, int]]:
        """Return starts and ends of what is kept, in the order of time, and keep nothing."""
        taken = sorted(self._last.values())
        self._last.clear()
        return taken

    def drop(self) -> None:
        """Keep nothing: what was fetched is something else's."""
        self._last.clear()
