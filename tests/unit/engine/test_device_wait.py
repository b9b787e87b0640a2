"""A record waits for the device as long as that is worth it, and with it all that come after."""

from __future__ import annotations

from time import perf_counter_ns

import pytest

from otel_torch_modules._engine import device_wait
from otel_torch_modules._engine.device_wait import DeviceWait
from otel_torch_modules._records import DeviceTimes, Record

SECOND = 1_000_000_000


class Behind:
    """A device that has not come past anything."""

    lost = 0
    of_modules = False
    taken_ns = 0

    def passed(self) -> bool:
        return bool(self.lost)

    def lose(self) -> None:
        self.lost += 1

    def read(self) -> DeviceTimes | None:
        return None


def ended(seconds_ago: float) -> Record:
    end = perf_counter_ns() - round(seconds_ago * SECOND)
    return Record("step", 7, end - SECOND, 0, end=end, stamps=Behind())


@pytest.mark.parametrize(("ago", "waits"), [(0, True), (50, True), (61, False), (3_600, False)])
def test_it_is_given_up_a_minute_after_the_step(ago: float, waits: bool) -> None:
    record = ended(ago)
    assert DeviceWait().holds(record) is waits
    assert record.stamps.lost == (not waits)


def test_where_somebody_waits_it_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    wait, record = DeviceWait(), ended(0)
    wait.hurry(True)
    assert wait.holds(record)
    monkeypatch.setattr(device_wait, "_MOST_HURRIED_S", 0.0)
    wait.hurry(True)
    assert not wait.holds(record)
    assert record.stamps.lost == 1


def test_nobody_waits_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_wait, "_MOST_HURRIED_S", 0.0)
    wait = DeviceWait()
    wait.hurry(True)
    wait.hurry(False)
    assert wait.holds(ended(0))


def test_a_record_without_device_times_never_waits() -> None:
    wait = DeviceWait()
    wait.hurry(True)
    assert not wait.holds(Record("step", 7, 0, 0))
