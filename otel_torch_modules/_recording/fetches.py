"""The loop's waits for data that no step has taken yet, and which of them are the next step's."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from time import perf_counter_ns as now
from typing import NamedTuple

from torch.utils.data import get_worker_info

from otel_torch_modules._recording.torch_private import batches_given, index_sampler_id

# Waits that are kept: a thread that only fetches would keep them for ever.
_MOST = 1024


class _Fetch(NamedTuple):
    iterator: weakref.ref[object]
    loader: int  # alike in all iterators of one loader
    start: int
    end: int
    evaluations: int  # how many had begun before


class Fetches(threading.local):
    """The waits of the thread that asks: each has its own. ``__init__`` runs once in each.

    Between two steps there may be several, with evaluation, generation or augmentation between them. The next step's
    are those of the iterators that were asked last: what others gave before an evaluation is that evaluation's. What
    an iterator gave that is gone, or began anew, is nobody's once a live one has been asked.
    """

    def __init__(self) -> None:
        self._kept: deque[_Fetch] = deque(maxlen=_MOST)
        self._evaluations = 0
        self._of_evaluations: set[weakref.ref[object]] = set()  # iterators
        self.last_end = 0
        """When the loop last had a batch that no step has taken yet, else 0."""
        self.at_work = 0  # how many data loaders' iterators are, one inside the other

    @property
    def loading(self) -> bool:
        """Whether what runs now is a dataset's: in the loop's own thread, or in a worker process."""
        return self.at_work > 0 or get_worker_info() is not None

    def exhausted(self, iterator: object) -> None:
        """Take note that `iterator` has no more: what an evaluation followed was its own."""
        for fetch in list(self._kept):
            if fetch.iterator() is iterator and fetch.evaluations != self._evaluations:
                self._kept.remove(fetch)

    def evaluation_begins(self) -> None:
        """Take note of a root forward outside any step."""
        self._evaluations += 1

    def keep(self, iterator: object, start: int) -> None:
        """Keep the wait that `iterator` ends now, for the step that comes next."""
        if self._kept and batches_given(iterator) == 1:  # a loader may use one for several epochs
            for fetch in list(self._kept):
                if fetch.iterator() is iterator:
                    self._kept.remove(fetch)
        end = self.last_end = now()
        loader = index_sampler_id(iterator)
        self._kept.append(_Fetch(weakref.ref(iterator), loader, start, end, self._evaluations))

    def drop(self) -> None:
        """Keep none: they were a step's that is lost."""
        self._kept.clear()
        self.last_end = 0

    def take(self) -> list[tuple[int, int]]:
        """Return starts and ends of those that belong to the step that begins now, and keep none."""
        kept = list(self._kept)
        self.last_end = 0
        if not kept:
            return []
        self._kept.clear()
        alive = [fetch for fetch in kept if fetch.iterator() is not None]
        if alive:
            known = self._of_evaluations
            self._of_evaluations = {iterator for iterator in known if iterator() is not None}
            last = alive[-1].evaluations
            own = {fetch.iterator for fetch in alive if fetch.evaluations == last}
            self._of_evaluations |= {fetch.iterator for fetch in alive} - own
            kept = [fetch for fetch in alive if fetch.iterator in own - self._of_evaluations]
        else:  # `next(iter(loader))`
            kept = list({fetch.loader: fetch for fetch in kept}.values())
        return sorted((fetch.start, fetch.end) for fetch in kept)
