"""Which steps have stamps, and of which all that happens in them has one."""

from __future__ import annotations

from collections import deque
from typing import Any
from weakref import ref

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.step_stamps import StampedDevice, StepStamps
from otel_torch_modules._recording.stream_captures import StreamCaptures
from otel_torch_modules._recording.torch_private.devices import device_in_use, stream_captures
from otel_torch_modules._records import Record
from otel_torch_modules.schedule import Schedule

# Steps whose events nobody has read: what the device is behind, and what the worker has not looked at yet.
_MOST_STEPS = 256

_MOST_WITH_MODULES = 2  # of them: each module's call has three events


class DeviceEvents:
    """Gives each step its stamps.

    Args:
        modules_every: in one step of so many modules have stamps too; None for in none.
        schedule: by which steps are counted, so that all ranks count alike.
    """

    def __init__(self, modules_every: int | None, schedule: Schedule) -> None:
        self._modules_every = modules_every
        self._schedule = schedule
        self.captures = StreamCaptures()
        self.forget()

    def install(self) -> None:
        """Watch for captures: without that no event is asked for."""
        self.captures.install()

    def uninstall(self) -> None:
        """Undo `install`."""
        self.captures.uninstall()

    def forget(self) -> None:
        """Begin anew: in a forked child, for which the parent's device is none."""
        self.captures.forget()
        self._device: StampedDevice | None = None
        self._given: deque[ref[StepStamps]] = deque()

    def step_opens(self, record: Record) -> None:
        """Give `record`, a step that opens, its stamps.

        It has none where no device is in use, its stream captures, or too many steps have not been read yet.
        """
        device = device_in_use()
        if device is None:
            return
        while self._given and ((stamps := self._given[0]()) is None or stamps.over):
            self._given.popleft()
        if len(self._given) >= _MOST_STEPS:
            return
        try:
            if self.captures.any or stream_captures(device)():  # first of all: nothing is made then
                return
            if self._device is None or self._device.device != device:
                self._device = StampedDevice(device)
            opened = StepStamps(self._device, self.captures, self._has_modules(record))
        except BaseException as error:
            # A device that does not know what is asked of it, or refuses.
            if is_interruption(error):
                raise
            return
        self._given.append(ref(opened))
        record.stamps = opened
        if opened.of_modules:
            record.log = StampedLog(record.log, opened)

    def _has_modules(self, record: Record) -> bool:
        if self._modules_every is None or record.phases_only or type(record.index) is not int:
            return False
        if self._schedule.recorded_before(record.index) % self._modules_every:
            return False
        unread = [stamps for known in self._given if (stamps := known()) is not None]
        with_modules = [stamps for stamps in unread if stamps.of_modules and not stamps.over]
        return len(with_modules) < _MOST_WITH_MODULES


class StampedLog(list[Any]):
    """A log that takes a stamp along with each event that it is extended by. What is added by ``+=`` has none.

    So in the steps in which it is the log modules have the device's times, and in the others nothing is asked.
    """

    __slots__ = ("_stamp",)

    def __init__(self, log: list[Any], stamps: StepStamps) -> None:
        super().__init__(log)
        self._stamp = stamps.stamp

    def extend(self, event: Any) -> None:
        """Add an event that happens now, unless nothing is left of it: an iterator, which another was first to take."""
        place = len(self)
        list.extend(self, event)
        if len(self) > place:
            self._stamp(self[place + 3])
