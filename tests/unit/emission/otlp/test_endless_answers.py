"""An answer that does not come to an end costs neither more memory nor more time than one attempt may have."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_torch_modules._emission.otlp.http import HttpRequestExporter
from otel_torch_modules._emission.otlp.reply import Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.otlp.signal import METRICS, TRACES, Signal
from otel_torch_modules._entry_points import GROUPS
from tests.support.endless_receivers import DRIP_S, Endless, speaking
from tests.support.plugins import NAME, write_plugin

# Where it is reached the answer was heard to its end: some 20 s of drops, and much more than sockets hold.
MOST_DROPS = 2_000
MOST_FLOOD = 256 << 20
ENOUGH = 32 << 20

HEADS = {
    "status": Endless(b"HTTP/1.1 200 ", b"O"),
    "header": Endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"y"),
    "headers": Endless(b"HTTP/1.1 200 OK\r\n", b"X-A: y\r\n"),
    "continue": Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}
BODIES = {
    "of a length": (b"Content-Length: 1000000000\r\n\r\n", b"x"),
    "to the end": (b"\r\n", b"x"),
    "in chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "packed": (b"Content-Encoding: gzip\r\n\r\n", b"x"),
}
STATUSES = ["400 No", "503 Later", "307 There\r\nLocation: /there"]


def body(status: str, kind: str) -> Endless:
    head, more = BODIES[kind]
    return Endless(f"HTTP/1.1 {status}\r\n".encode() + head, more)


def flood(answer: Endless) -> Endless:
    return answer._replace(more=answer.more * (64_000 // len(answer.more)))


SHORT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
# So that on a slow machine too the length is what ends an answer.
LONG = {"OTEL_EXPORTER_OTLP_TIMEOUT": "300"}


def attempt(endpoint: str, signal: Signal = TRACES, **values: str) -> Reply:
    """Return what becomes of one request."""
    values = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **values}
    exporter = HttpRequestExporter(values, signal)
    try:
        return exporter.export_request(EncodedRequest(b"", 0))
    finally:
        exporter.shutdown()


def dripped(answer: Endless) -> Reply:
    with speaking(answer, pause_s=DRIP_S, most=MOST_DROPS * len(answer.more)) as speaker:
        reply = attempt(speaker.endpoint, **SHORT)
        assert speaker.said < MOST_DROPS * len(answer.more)
    return reply


def flooded(answer: Endless) -> Reply:
    with speaking(flood(answer), pause_s=0.0, most=MOST_FLOOD) as speaker:
        reply = attempt(speaker.endpoint, **LONG)
    assert speaker.said < ENOUGH
    return reply


TAKES_WHOLE = {f"of what takes, {kind}": body("200 OK", kind) for kind in BODIES}


@pytest.mark.parametrize("kind", [*HEADS, *TAKES_WHOLE])
def test_what_has_not_come_in_time_is_no_answer(kind: str) -> None:
    reply = dripped((HEADS | TAKES_WHOLE)[kind])
    assert (reply.error, reply.again) == ("ReadTimeout", True)
    assert reply.reason.startswith("nothing answers at ")


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_without_an_end_is_no_answer(kind: str) -> None:
    reply = flooded(HEADS[kind])
    assert (reply.error, reply.again) == ("ConnectionError", True)


@pytest.mark.parametrize("kind", TAKES_WHOLE)
def test_who_has_taken_a_request_has_taken_it_whatever_more_is_said(kind: str) -> None:
    assert flooded(TAKES_WHOLE[kind]).error == ""


@pytest.mark.parametrize("says", [dripped, flooded])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", BODIES)
def test_of_a_refusal_the_head_is_enough(
    says: Callable[[Endless], Reply], status: str, kind: str
) -> None:
    reply = says(body(status, kind))
    assert (reply.error, reply.again) == (status[:3], status[:3] == "503")


def test_an_answer_to_metrics_has_its_bounds_too() -> None:
    answer = flood(body("200 OK", "in chunks"))
    with speaking(answer, pause_s=0.0, most=MOST_FLOOD) as speaker:
        assert attempt(speaker.endpoint, METRICS, **LONG).error == ""
    assert speaker.said < ENOUGH


@pytest.mark.parametrize("status", ["200 OK", *STATUSES])
def test_what_is_said_in_few_bytes_is_not_unpacked(status: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(60)) + packer.flush()
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    answer = Endless(head.encode() + packed, b"")
    with speaking(answer, pause_s=0.0, most=0) as speaker:
        tracemalloc.start()
        try:
            reply = attempt(speaker.endpoint, **LONG)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert reply.error == ("" if status == "200 OK" else status[:3])
    assert peak < 4 << 20


@pytest.mark.parametrize("kind", ["headers", "header"])
def test_a_proxy_that_does_not_come_to_an_end_is_none(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with speaking(HEADS[kind], pause_s=DRIP_S, most=MOST_DROPS) as speaker:
        monkeypatch.setenv("https_proxy", speaker.endpoint)
        reply = attempt("https://receiver.example:4318", **os.environ, **SHORT)
        assert speaker.said < MOST_DROPS
    assert reply.again


SESSION = "from requests import Session as make\n"


def test_a_session_that_the_program_gives_has_the_same_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER"
    monkeypatch.syspath_prepend(write_plugin(tmp_path, [GROUPS[variable]], SESSION)["PYTHONPATH"])
    answer = HEADS["headers"]
    with speaking(answer, pause_s=DRIP_S, most=MOST_DROPS * len(answer.more)) as speaker:
        reply = attempt(speaker.endpoint, **SHORT, **{variable: NAME})
        assert speaker.said < MOST_DROPS * len(answer.more)
    assert reply.error == "ReadTimeout"


def test_a_connection_whose_answer_was_heard_to_its_end_is_used_again() -> None:
    answer = Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\x0a\x00", b"")
    with speaking(answer, pause_s=0.0, most=0) as speaker:
        exporter = HttpRequestExporter({"OTEL_EXPORTER_OTLP_ENDPOINT": speaker.endpoint})
        replies = [exporter.export_request(EncodedRequest(b"", 0)) for _ in range(3)]
        exporter.shutdown()
    assert [reply.error for reply in replies] == [""] * 3
    assert speaker.connections == 1
