"""When what was refused is sent again: not before the receiver wants it, not for ever, and no storm at exit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import StatusCode
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission import named
from otel_torch_modules._emission.otlp.columns import EncodedBlock
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.outbox import Outbox
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._standard_variables import read_standard
from tests.support.hand_set_clock import HandSetClock
from tests.support.otlp_receivers import Refusal, answering

FOR_GOOD = None


def _asked(status: int, retry_after: str) -> tuple[str, Refusal]:
    return "http/protobuf", Refusal(status, {"retry-after": retry_after})


def _wanted(code: StatusCode, seconds: float) -> tuple[str, Refusal]:
    return "grpc", Refusal(code, {"google.rpc.retryinfo-bin": _info(seconds).SerializeToString()})


def _detailed(code: StatusCode, *details: Any) -> tuple[str, Refusal]:
    """As a server in Go says it."""
    status = Status(code=code.value[0])
    for detail in details:
        status.details.add().Pack(detail)
    return "grpc", Refusal(code, {"grpc-status-details-bin": status.SerializeToString()})


def _info(seconds: float) -> Any:
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return RetryInfo(retry_delay=delay)


def _date(seconds_from_now: float) -> str:
    return formatdate(time.time() + seconds_from_now, usegmt=True)


EXHAUSTED, UNAVAILABLE = StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE
ANSWERS = [
    (_asked(429, "7"), 7),
    (_asked(503, " 7 "), 7),
    (_asked(429, _date(100_000)), 100_000),
    (_asked(429, _date(-100_000)), -100_000),
    (_asked(429, "Fri, 31 Dec 9999 23:59:59 GMT"), 2.5e11),
    (_asked(429, "9" * 400), float("inf")),
    (_asked(429, "Mon, 01 Jan 1900 00:00:00 -0000"), -4e9),
    (_asked(429, "Mon, 99999999999 Jan 2030 00:00:00 GMT"), 0),
    (_asked(503, "Mon, 01 Jan 2030 00:00:00 +99999999999999999999"), 0),
    (_asked(429, ""), 0),
    (_asked(429, "soon"), 0),
    (_asked(429, "-1"), 0),
    (_asked(500, "7"), FOR_GOOD),
    (_wanted(EXHAUSTED, 1.5), 1.5),
    (_wanted(UNAVAILABLE, 1.5), 1.5),
    (_wanted(EXHAUSTED, -1.5), -1.5),
    (_wanted(StatusCode.INVALID_ARGUMENT, 1.5), FOR_GOOD),
    (_detailed(EXHAUSTED, ErrorInfo(reason="full"), _info(1.5)), 1.5),
    (_detailed(UNAVAILABLE, _info(1.5)), 1.5),
    (_detailed(EXHAUSTED, _info(0)), 0),
    (_detailed(EXHAUSTED, ErrorInfo(reason="full")), FOR_GOOD),
    (("grpc", Refusal(UNAVAILABLE, {"grpc-status-details-bin": b"\xff"})), 0),
    (("grpc", Refusal(UNAVAILABLE, {"google.rpc.retryinfo-bin": b"\xff"})), 0),
    (("grpc", Refusal(EXHAUSTED, {})), FOR_GOOD),
]


@pytest.mark.parametrize(("refusal", "pause_s"), ANSWERS)
def test_what_a_receiver_says_of_another_attempt(
    monkeypatch: pytest.MonkeyPatch, refusal: tuple[str, Refusal], pause_s: float | None
) -> None:
    protocol, said = refusal
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with answering(protocol, lambda: said) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        (exporter,) = named.trace_exporters(read_standard(os.environ).values)
        assert isinstance(exporter, RequestExporter)
        answer = exporter.export_request(EncodedRequest(b"", 0))
        exporter.shutdown()
    status = said.status if protocol == "http/protobuf" else said.status.name
    assert (answer.error, answer.again) == (str(status), pause_s is not FOR_GOOD)
    if pause_s is not FOR_GOOD:
        assert answer.after_s == pytest.approx(pause_s, rel=0.05)


class Asked(RequestExporter):
    """Refuses until it is told otherwise, and knows when it was asked."""

    def __init__(self, clock: HandSetClock) -> None:
        self.set_up("here", 1.0)
        self.trouble.muted = True
        self.answer = TAKEN
        self.at: list[float] = []
        self._clock = clock

    def attempt(self, request: EncodedRequest) -> Reply:
        self.at.append(self._clock.now)
        return self.answer


@pytest.fixture
def clock() -> HandSetClock:
    return HandSetClock()


@pytest.fixture
def exporter(clock: HandSetClock) -> Asked:
    return Asked(clock)


@pytest.fixture
def outbox(clock: HandSetClock, exporter: Asked) -> Outbox:
    """Holds one span that is to be sent."""
    provider = TracerProvider(shutdown_on_exit=False)
    encoder = SpanEncoder(provider.get_tracer("test"), InstrumentationScope("test"), Protobuf())
    outbox = Outbox(exporter, encoder, Deliveries(), clock)
    outbox._add(EncodedBlock(b"", 1), None)
    return outbox


def _times(seconds: float) -> Iterator[float]:
    """As often as the worker looks at what it has to do while somebody waits for it."""
    return (look / 20 for look in range(int(20 * seconds) + 1))


def _pauses(exporter: Asked) -> list[float]:
    return [later - at for at, later in zip(exporter.at, exporter.at[1:], strict=False)]


def test_pauses_double_and_those_that_somebody_waits_for_stay_short(
    clock: HandSetClock, exporter: Asked, outbox: Outbox
) -> None:
    exporter.answer = Reply("503", "no", again=True)
    for clock.now in _times(100):
        outbox.idle()
    running = _pauses(exporter)
    for pause_s, expected in zip(running, (0.5, 1, 2, 4, 8, 8, 8), strict=False):
        assert 0.8 * expected <= pause_s <= 1.2 * expected + 0.06
    exporter.at.clear()
    at_exit = 0.0
    for later in _times(4.5):
        clock.now, at_exit = 100 + later, at_exit or 100 + later
        assert not outbox.send()
    assert all(0.4 <= pause_s < 0.7 for pause_s in _pauses(exporter)), exporter.at
    assert 7 <= len(exporter.at) <= 12
    exporter.answer = TAKEN
    clock.now += 1
    assert outbox.send()


@pytest.mark.parametrize(
    ("asked_s", "obeyed_s"), [(3, 3), (100, 100), (1e9, 300), (float("inf"), 300)]
)
@pytest.mark.parametrize("waits", [False, True], ids=["running", "at exit"])
def test_a_receiver_is_left_alone_for_as_long_as_it_asks_but_not_for_ever(
    clock: HandSetClock,
    exporter: Asked,
    outbox: Outbox,
    asked_s: float,
    obeyed_s: float,
    waits: bool,
) -> None:
    exporter.answer = Reply("429", "no", True, asked_s)
    assert not outbox.send()
    exporter.answer = TAKEN
    for clock.now in _times(obeyed_s + 1):
        if waits:
            outbox.send()
        else:
            outbox.idle()
    first, second = exporter.at
    assert (first, second) == (0, pytest.approx(obeyed_s, abs=0.06))


def test_what_is_better_not_tried_is_tried_where_somebody_waits_for_it(
    clock: HandSetClock, exporter: Asked, outbox: Outbox
) -> None:
    exporter.answer = Reply("UNAVAILABLE", "no", again=True, rest_s=100)
    for clock.now in _times(150):
        outbox.idle()
    assert _pauses(exporter) == [pytest.approx(100, abs=0.06)]
    assert not outbox.send()
    assert len(exporter.at) == 3


@pytest.mark.parametrize("asked_s", [-5.0, 0.0])
def test_a_receiver_that_asks_for_no_pause_gets_one(
    clock: HandSetClock, exporter: Asked, outbox: Outbox, asked_s: float
) -> None:
    exporter.answer = Reply("429", "no", True, asked_s)
    for clock.now in _times(1):
        outbox.send()
    assert all(pause_s >= 0.4 for pause_s in _pauses(exporter))
    assert len(exporter.at) in (2, 3)
