"""When the device comes to what a step does: the one place that knows torch's events.

An event is put on a stream behind what is there already, and when the device comes to it it notes its own time. That is
asked for later, on the worker's thread, and nobody ever waits for the device. Its clock is told from ours by an event
on a stream of our own, which is always empty: there the device comes to it at once, whatever the program has queued.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from operator import sub
from time import perf_counter_ns as now
from time import sleep
from typing import Any, NamedTuple

import torch

from otel_torch_modules._events import EXIT, EXIT_BARE, WIDTH, Varying
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.stream_captures import StreamCaptures
from otel_torch_modules._recording.torch_private.devices import stream_captures, turn_to_device
from otel_torch_modules._records import (
    DEVICE_CLOCK_ERROR,
    DEVICE_DURATION,
    DEVICE_FORWARD_LAG,
    DEVICE_LAG,
    DeviceTimes,
)
from otel_torch_modules._site import Site

# Events that are asked for while no capture can begin, and no other thread can run: about a millisecond. And the pause
# after them (s).
_AT_ONCE = 512
_PAUSE_S = 50e-6

_SECOND = 1e9  # ns


class Stamp(NamedTuple):
    """An event that is on a stream."""

    event: torch.Event
    asked: int  # perf_counter_ns, before it was put there


class BegunForward(NamedTuple):
    """A root forward that runs."""

    stamp: Stamp | None
    log: list[Any]
    place: int  # in the log, of what comes next


class StampedDevice:
    """The events of one device, and what they are compared with."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.captures: Callable[[], bool] = stream_captures(device)
        self.idle = torch.Stream(device=device)
        self.spare: deque[torch.Event] = deque()

    def event(self) -> torch.Event:
        try:
            return self.spare.pop()
        except IndexError as error:
            if is_interruption(error):
                raise
            return torch.Event(self.device, enable_timing=True)


class StepStamps:
    """See `Stamps`. The program's threads take them; where one cannot, the step is without the device's times."""

    __slots__ = (
        "__weakref__",
        "_after",
        "_backward_end",
        "_before",
        "_captures",
        "_device",
        "_forward_end",
        "_reference",
        "_taken",
        "of_modules",
        "over",
    )

    def __init__(
        self, device: StampedDevice, captures: StreamCaptures, of_modules: bool = False
    ) -> None:
        self._device = device
        self._captures = captures
        self.of_modules = of_modules
        """Whether all that the log has from now on has one."""
        self._taken: dict[int, Stamp] = {}
        self._forward_end = self._backward_end = 0  # the last ones
        self.over = False
        """Whether they were read, or lost."""
        self._reference = device.event()
        self._before = now()
        self._reference.record(device.idle)
        self._after = now()

    @property
    def taken_ns(self) -> int:
        """See `Stamps`: each as long as the reference."""
        return (1 + len(self._taken)) * (self._after - self._before)

    # Where it happens.

    def take(self) -> Stamp | None:
        """Put an event on the current stream; None where it cannot be."""
        return self._take(now())

    def stamp(self, time: int) -> None:
        """Put one there that belongs to what the log has at this time, which is now."""
        self.put(time, self._take(time))

    def _take(self, asked: int) -> Stamp | None:
        if self.over:
            return None
        try:
            if self._captures.any or self._device.captures():
                self.lose()
                return None
            event = self._device.event()
            event.record()
        except BaseException as error:  # another device, or it refuses
            if is_interruption(error):
                raise
            self.lose()
            return None
        return Stamp(event, asked)

    def put(self, time: int, stamp: Stamp | None) -> None:
        """Let `stamp` belong to what the log has at this time."""
        if stamp is not None:
            self._taken[time] = stamp

    def forward_begins(self, log: list[Any]) -> BegunForward:
        """Take one before a root forward, which comes next in `log`."""
        return BegunForward(self.take(), log, len(log))

    def forward_ended(self, begun: BegunForward, thread: int) -> None:
        """Take one after it, in the thread with this code."""
        stamp = self.take()
        begin, end = begun.log[begun.place : begun.place + WIDTH], begun.log[-WIDTH:]
        if (
            begin
            and type(begin[0]) is Site
            and end[0] in (EXIT, EXIT_BARE)
            and begin[1] == end[1] == thread
        ):
            self.put(begin[3], begun.stamp)
            self.put(end[3], stamp)
            self._forward_end = end[3]

    def backward_ended(self, time: int) -> None:
        """Take one after a backward, which the log has at this time."""
        self.put(time, self.take())
        self._backward_end = time

    # On the worker's thread.

    def passed(self) -> bool:
        """See `Stamps`."""
        if self.over:
            return True
        # From the end: the first that it has not come to ends the search. There may be several streams.
        events = [self._reference, *[stamp.event for stamp in [*self._taken.values()]]][::-1]
        known = 0
        try:
            for passed in self._answers(torch.Event.query, events):
                if not passed:
                    return False
                known += 1
        except BaseException as error:
            if is_interruption(error):
                raise
            self.lose()
            return True
        return known == len(events)

    def lose(self) -> None:
        """See `Stamps`. Its events may be captured, or never come: they are not used again."""
        self.over = True
        self._taken = {}

    def read(self) -> DeviceTimes | None:
        """See `Stamps`."""
        taken = self._taken.copy()
        began = (self._before + self._after) // 2
        elapsed = self._reference.elapsed_time
        try:
            events = [stamp.event for stamp in taken.values()]
            times = [began + round(ms * 1e6) for ms in self._answers(elapsed, events)]
        except BaseException as error:
            if is_interruption(error):
                raise
            times = []
        self.lose()
        if not times or len(times) < len(taken):
            return None
        # Nothing happens before it was asked for.
        asked = [stamp.asked for stamp in taken.values()]
        shift = max(0, *map(sub, asked, times))
        found = dict(zip(taken, [time + shift for time in times], strict=True))
        self._device.spare += [self._reference, *events]
        error_ns = (self._after - self._before) // 2 + shift
        return DeviceTimes(found, self._measured(found, error_ns), self.of_modules)

    def _answers(
        self, ask: Callable[[torch.Event], Any], events: list[torch.Event]
    ) -> Iterator[Any]:
        """Yield what `ask` says of each of `events`, of the first alone and then of many at once, while no stream
        captures.
        """
        turn_to_device(self._device.device)
        start = 0
        while start < len(events):
            if start:
                sleep(_PAUSE_S)
            end = start + _AT_ONCE if start else 1
            with self._captures.lock:
                if self._captures.any:
                    return
                answers = [*map(ask, events[start:end])]
            yield from answers
            start = end

    def _measured(self, times: dict[int, int], error_ns: int) -> dict[Varying, Any]:
        measured: dict[Varying, Any] = {
            DEVICE_DURATION: (max(times.values()) - min(times.values())) / _SECOND,
            DEVICE_CLOCK_ERROR: error_ns / _SECOND,
        }
        for key, end in (
            (DEVICE_LAG, self._backward_end),
            (DEVICE_FORWARD_LAG, self._forward_end),
        ):
            if end in times:
                measured[key] = max(times[end] - end, 0) / _SECOND
        return measured
