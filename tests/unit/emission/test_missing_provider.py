"""A provider that cannot be made now may be later: it is tried again, less and less often, and said once."""

from __future__ import annotations

import errno

import pytest
from opentelemetry import trace

from otel_torch_modules._emission.missing_provider import Attempts, MissingProvider
from tests.support.hand_set_clock import HandSetClock

SHORTAGE = OSError(errno.EMFILE, "Too many open files")
MADE = trace.NoOpTracerProvider()


class Machine:
    """Makes a provider, unless there is a shortage."""

    def __init__(self) -> None:
        self.shortage: BaseException | None = None
        self.asked = 0

    def __call__(self) -> trace.TracerProvider:
        self.asked += 1
        if self.shortage is not None:
            raise self.shortage
        return MADE


def test_it_is_tried_again_at_doubling_intervals_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, machine = HandSetClock(), Machine()
    attempts = Attempts(clock)
    machine.shortage = SHORTAGE
    asked_at = []
    for tenth in range(3_000):
        clock.now = tenth / 10
        before = machine.asked
        missing = attempts.make(machine)
        assert isinstance(missing, MissingProvider)
        assert missing.error == "OSError"
        if machine.asked > before:
            asked_at.append(clock.now)
    assert asked_at == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 123.5, 183.5, 243.5]
    machine.shortage = None
    clock.now += 60
    assert attempts.make(machine) is MADE
    assert caplog.messages == [
        "No exporter could be set up: spans are lost until one can: OSError: [Errno 24] Too many open files",
        "Exporters could be set up: spans are sent from now on",
    ]
    assert [record.exc_text for record in caplog.records] == [None, None]


def test_a_shortage_that_comes_again_is_said_again_and_the_first_pause_is_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in a child that was forked."""
    clock, machine = HandSetClock(), Machine()
    attempts = Attempts(clock)
    for _ in range(2):
        machine.shortage = SHORTAGE
        attempts.make(machine)
        machine.shortage = None
        clock.now += 0.5
        assert attempts.make(machine) is MADE
    assert len(caplog.messages) == 4


def test_what_is_no_shortage_is_shown_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.shortage = KeyError("odd")
    assert isinstance(Attempts(HandSetClock()).make(machine), MissingProvider)
    assert "KeyError" in (caplog.records[0].exc_text or "")
