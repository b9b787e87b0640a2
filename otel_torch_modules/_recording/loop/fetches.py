"""The loop's waits for data that no step has taken yet, and which of them are the next step's."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable
from time import perf_counter_ns as now
from typing import Any, NamedTuple

from otel_torch_modules._events import DATA, FETCH, FETCHED, WIDTH
from otel_torch_modules._interruption import suppressed
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._recording.torch_private.loop import batches_given, index_sampler_id
from otel_torch_modules._records import Record

# Waits that are kept: a thread that only fetches would keep them for ever.
_MOST = 1024

# Slots of the logs of what datasets called meanwhile, in those that are kept: 10 000 spans.
_MOST_SLOTS = 100_000


class Wait(NamedTuple):
    """The loop waited for a batch."""

    start: int
    end: int
    thread: int  # its code
    calls: list[Any] | None  # a log of the module calls that the dataset made

    def events(self, record: Record) -> list[Any]:
        """Return it as the log of `record` has it."""
        if not self.calls or record.phases_only:
            return [DATA, self.thread, self.start, self.end, None]
        before = (FETCH, self.thread, None, self.start, None)
        return [*before, *self.calls, FETCHED, self.thread, None, self.end, None]


class _Fetch(NamedTuple):
    iterator: weakref.ref[object]
    loader: int  # alike in all iterators of one loader
    wait: Wait
    evaluations: int  # how many forwards outside any step had begun before
    is_first: bool  # that the iterator gave


class Waits:
    """Those of a thread that may be an evaluation's. Another thread may ask for them when the evaluation is over.

    Args:
        kept: those that may as well be the next step's.
        begun: how many forwards outside any step had begun before the evaluation.
    """

    def __init__(self, kept: deque[_Fetch], begun: int) -> None:
        self._kept = kept
        self.begun = begun
        self._left: deque[_Fetch] = deque(maxlen=_MOST_SLOTS // 10)

    def leave(self, fetch: _Fetch) -> None:
        """Take note that `fetch`, after which a forward of the evaluation began, is no step's."""
        self._left.append(fetch)

    def settled(self) -> list[Wait]:
        """Return the evaluation's, in order."""
        kept = list(self._kept)
        # How many had begun before, of each iterator that is gone.
        forwards: dict[int, set[int]] = {}
        for fetch in kept:
            if fetch.iterator() is None:
                forwards.setdefault(id(fetch.iterator), set()).add(fetch.evaluations)
        for fetch in kept:
            if len(forwards.get(id(fetch.iterator), ())) > 1:
                self._left.append(fetch)
                with suppressed(ValueError):
                    self._kept.remove(fetch)
        found = sorted(self._left, key=lambda fetch: fetch.wait.start)
        before = [fetch for fetch in found if fetch.evaluations == self.begun]
        asked = [fetch for fetch in found if fetch.evaluations > self.begun] + before[-1:]
        own = {id(fetch.iterator) for fetch in asked}
        return [fetch.wait for fetch in found if id(fetch.iterator) in own]


def first_wait_before(log: list[Any], place: int) -> int:
    """Return where the waits begin that come right before `place` in a log; that itself where there are none."""
    while place and log[place - WIDTH] in (DATA, FETCHED):
        place -= WIDTH
        if log[place] is FETCHED:
            while log[place] is not FETCH:
                place -= WIDTH
    return place


def waits_from(log: list[Any], place: int) -> list[Wait]:
    """Return the waits in a log that holds nothing else from `place` on."""
    waits: list[Wait] = []
    while place < len(log):
        tag, thread, start, end, _ = log[place : place + WIDTH]
        calls = None
        if tag is FETCH:
            begin, start = place + WIDTH, end
            while log[place] is not FETCHED:
                place += WIDTH
            calls, end = log[begin:place], log[place + 3]
        waits.append(Wait(start, end, thread, calls))
        place += WIDTH
    return waits


def holds_wait(tags: list[Any]) -> bool:
    """Return whether there is a wait among the events with these tags."""
    return DATA in tags or FETCHED in tags


class Outside:
    """What was called outside any step, in all threads."""

    forwards = 0
    """Root forwards."""


class Fetches(threading.local):
    """The waits of the thread that asks: each has its own. ``__init__`` runs once in each.

    Between two steps there may be several, with evaluation, generation or augmentation between them. The next step's
    are those of the iterators that were asked last: what others gave before an evaluation is that evaluation's. What
    an iterator gave that is gone, or began anew, is nobody's once a live one has been asked.

    Args:
        of_threads: takes in what each thread has, by its identifier, for the worker to look at.
        outside: counts what is begun outside any step.
    """

    def __init__(self, of_threads: dict[int, dict[str, Any]], outside: Outside) -> None:
        of_threads[threading.get_ident()] = vars(self)  # the own ones of this thread
        self._kept: deque[_Fetch] = deque()
        self._slots = 0
        self._outside = outside
        self.evaluations = 0  # how many forwards outside any step have begun
        self._waits = Waits(self._kept, 0)
        self._of_evaluations: set[weakref.ref[object]] = set()  # iterators
        self._of_steps: set[int] = set()  # loaders that the last step with any had its batches of
        self.last_end = 0
        """When the loop last had a batch that no step has taken yet, else 0."""
        self.at_work = 0  # how many data loaders' iterators are, one inside the other
        self.began = 0  # when the outermost of them was asked
        self.calls: OpenLog | None = None  # what the dataset calls meanwhile

    def open_calls(self) -> OpenLog | None:
        """Return what the module calls of the dataset that is at work are written to; None where there are too many."""
        if self.calls is None and self._slots < _MOST_SLOTS:
            self.calls = OpenLog()
            self.calls.log = []
        return self.calls

    def wait(self, start: int, thread: int) -> Wait:
        """Return the wait that ends now."""
        calls = None
        if self.calls is not None and not self.at_work:  # else of the iterator around this one
            calls, self.calls = self.calls.log, None
        return Wait(start, now(), thread, calls)

    def exhausted(self, iterator: object) -> None:
        """Take note that `iterator` has no more: what an evaluation followed was its own."""
        self._leave(
            fetch
            for fetch in list(self._kept)
            if fetch.iterator() is iterator and fetch.evaluations != self.evaluations
        )

    @property
    def any_waits(self) -> bool:
        """Whether a batch may wait for the next step: one that is no evaluation's, and not of a loop that is over."""
        last = {id(fetch.iterator): fetch for fetch in self._kept}
        return any(self._may_wait(fetch) for fetch in last.values())

    def _may_wait(self, last: _Fetch) -> bool:
        """Return whether a step may come for the `last` of an iterator."""
        if last.iterator() is None and not last.is_first:  # `next(iter(loader))` asks each once
            return False
        if last.evaluations == self.evaluations:  # nothing was called with it
            return True
        if last.evaluations > self._waits.begun:
            return False
        return not self._of_steps or last.loader in self._of_steps

    def leave_all(self) -> None:
        """Take note that none waits, whoever comes next."""
        self._leave(list(self._kept))
        self.last_end = 0

    def begin_evaluation(self, begun: int) -> Waits:
        """Return the waits of an evaluation before which so many forwards outside any step had begun."""
        self._waits = Waits(self._kept, begun)
        self._slots = 0
        return self._waits

    def evaluation_begins(self) -> int:
        """Take note of a root forward outside any step; return how many had begun before."""
        before = self.evaluations
        self.evaluations = before + 1
        self._outside.forwards += 1
        return before

    def keep(self, iterator: object, wait: Wait) -> None:
        """Keep the wait for what `iterator` has given, for the step that comes next."""
        loader = index_sampler_id(iterator)
        is_first = batches_given(iterator) == 1
        if self._kept and is_first:  # a loader may use one for several epochs
            self._leave(fetch for fetch in list(self._kept) if fetch.iterator() is iterator)
            self._forget_earlier(loader)
        if len(self._kept) >= _MOST:
            self._leave([self._kept[0]])
        self._slots += len(wait.calls or ())
        self.last_end = wait.end
        self._kept.append(_Fetch(weakref.ref(iterator), loader, wait, self.evaluations, is_first))

    def _forget_earlier(self, loader: int) -> None:
        """Keep none of `loader` that can be nobody's any more: a program that serves after it has trained would keep
        many, and no step comes to take them. No step takes what another iterator gave since, nor an evaluation what
        was there before the one that came before it.
        """
        for fetch in list(self._kept):
            is_over = fetch.loader == loader and fetch.evaluations < self._waits.begun
            if is_over and fetch.iterator() is None:
                with suppressed(ValueError):
                    self._kept.remove(fetch)

    def drop(self) -> None:
        """Keep none: they were a step's that is lost."""
        self._kept.clear()
        self.last_end = 0

    def take(self) -> list[Wait]:
        """Return those that belong to the step that begins now, and keep none."""
        kept = list(self._kept)
        self.last_end = 0
        if not kept:
            return []
        alive = [fetch for fetch in kept if fetch.iterator() is not None]
        if alive:
            known = self._of_evaluations
            self._of_evaluations = {iterator for iterator in known if iterator() is not None}
            last = alive[-1].evaluations
            own = {fetch.iterator for fetch in alive if fetch.evaluations == last}
            self._of_evaluations |= {fetch.iterator for fetch in alive} - own
            taken = [fetch for fetch in alive if fetch.iterator in own - self._of_evaluations]
        else:  # `next(iter(loader))`
            taken = list({fetch.loader: fetch for fetch in kept}.values())
        if taken:
            self._of_steps = {fetch.loader for fetch in taken}
        own_fetches = {id(fetch) for fetch in taken}
        self._leave(fetch for fetch in kept if id(fetch) not in own_fetches)
        self._kept.clear()
        self._slots = 0
        return sorted((fetch.wait for fetch in taken), key=lambda wait: wait.start)

    def _leave(self, fetches: Iterable[_Fetch]) -> None:
        for fetch in list(fetches):
            with suppressed(ValueError):
                self._kept.remove(fetch)
            if fetch.evaluations != self.evaluations:
                self._waits.leave(fetch)
