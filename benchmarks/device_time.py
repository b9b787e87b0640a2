"""What the device's times cost the training thread, with events that do nothing: what torch's cost is added to it.

    python -m benchmarks.device_time [--quick]

Processor time of the thread that trains and records; steps with and without take turns. On a GPU putting an event on a
stream takes one or two microseconds more, by what is published.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from time import thread_time_ns
from typing import Any

import torch

from benchmarks.enough import Enough
from benchmarks.figures import Figure, Row, median, ratio_of_medians
from benchmarks.part import print_rows
from benchmarks.recorded import recording_into
from benchmarks.toy import Toy, training_step
from otel_torch_modules._recording.device_events import DeviceEvents, StampedLog
from otel_torch_modules._recording.loop import current_step
from otel_torch_modules._recording.step_stamps import StepStamps
from otel_torch_modules._recording.torch_private.devices import device_in_use
from otel_torch_modules._records import Record
from otel_torch_modules.schedule import Schedule

_STEP_NS = 10_000_000
_WARM_UP = 50


class _Event:
    def record(self, stream: object = None) -> None:
        pass


class _NoDevice:
    """A device that takes no time to ask."""

    idle = None

    def __init__(self) -> None:
        self.captures = bool
        self.spare: deque[_Event] = deque()

    def event(self) -> _Event:
        return self.spare.pop() if self.spare else _Event()


class _Stamping(DeviceEvents):
    """Gives stamps to steps while it is `on`."""

    on = False

    def __init__(self, of_modules: bool) -> None:
        super().__init__(1 if of_modules else None, Schedule())
        self._of_modules = of_modules
        self._nowhere: Any = _NoDevice()

    def step_opens(self, record: Record) -> None:
        if self.on:
            device_in_use()
            record.stamps = stamps = StepStamps(self._nowhere, self.captures, self._of_modules)
            if self._of_modules:
                record.log = StampedLog(record.log, stamps)

    def submit(self, record: Record) -> None:
        """Take the events back, as reading does."""
        if bool(record.stamps and record.stamps._taken) != self.on:
            raise AssertionError(f"stamps in a step, of which there should be some: {self.on}")
        if record.stamps is not None:
            self._nowhere.spare += [stamp.event for stamp in record.stamps._taken.values()]


Found = dict[bool, list[int]]
"""Nanoseconds of steps without stamps and with them, one of each a round."""


def step_ns(
    enough: Enough, rows: Callable[[Found], list[Row]], blocks: int, of_modules: bool
) -> Found:
    """Return the nanoseconds of steps until `rows` are known."""
    stamping = _Stamping(of_modules)
    model = Toy(blocks)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    backward = training_step(model, torch.randn(2, 4, 8))

    def train() -> None:
        with steps.step(None):
            backward()
            steps.loop.optimizer_starts(sgd)
            steps.loop.optimizer_ends(sgd)

    def one_round() -> None:
        for on in found:
            stamping.on = on
            start = thread_time_ns()
            train()
            found[on].append(thread_time_ns() - start)

    found: Found = {False: [], True: []}
    # Else nothing is asked of events.
    vars(current_step)["accelerator"] = lambda: torch.device("meta")
    gc.collect()
    gc.disable()
    with recording_into(stamping.submit, device_events=stamping) as steps:
        for _ in range(_WARM_UP):
            one_round()
        for times in found.values():
            times.clear()
        for _ in enough.rounds(lambda: rows(found)):
            one_round()
    gc.enable()
    return found


def phases(enough: Enough) -> list[Row]:
    """Compare steps of which phases have the device's times."""
    return _phase_rows(step_ns(enough, _phase_rows, 1, False))


def modules(enough: Enough) -> list[Row]:
    """Compare steps of which each module has the device's times."""
    return _module_rows(step_ns(enough, _module_rows, 50, True))


COMPARISONS = (phases, modules)


def _phase_rows(found: Found) -> list[Row]:
    added = median([on - off for off, on in zip(found[False], found[True], strict=True)])
    of_step = Figure(*[1 + ns / _STEP_NS for ns in (added.value, added.low, added.high)])
    what = "the device's times of phases, in a step of 10 ms (events that do nothing)"
    return [Row(what, 1.01, "x", of_step, added=True, note=f"{added.value / 1e3:+.1f} µs")]


def _module_rows(found: Found) -> list[Row]:
    what = "a step in which each module has the device's times, against one without"
    note = f"{median(found[False]).value / 1e6:.2f} ms without, toy model"
    return [Row(what, 1.6, "x", ratio_of_medians(found[True], found[False]), note=note)]


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
