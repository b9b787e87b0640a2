"""Encoded spans go out in requests of bounded size, and where they may go past the provider's processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision as SamplingDecision
from opentelemetry.sdk.trace.sampling import StaticSampler
from opentelemetry.trace import TraceState

from otel_torch_modules._assembly.reading.heads import STEP_INDEX
from otel_torch_modules._emission import named
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.otlp import outbox as outbox_module
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._emission.provider import OwnTracerProvider
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import Raised
from otel_torch_modules._spans.span import Note, SharedAttributes, Span, Trace
from tests.support.otlp_receivers import RECEIVERS


class Kept(RequestExporter):
    """Keeps the names of the spans of each request, and those of spans that came finished."""

    def __init__(self) -> None:
        self.set_up("here", 1.0)
        self.requests: list[list[str]] = []
        self.finished: list[str] = []
        self.bytes: list[int] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.finished += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def attempt(self, request: EncodedRequest) -> Reply:
        parsed = ExportTraceServiceRequest.FromString(request.data)
        names = [span.name for span in parsed.resource_spans[0].scope_spans[0].spans]
        assert len(names) == request.span_count
        self.requests.append(names)
        self.bytes.append(len(request.data))
        return TAKEN


Open = Callable[..., tuple[OwnTracerProvider, Emitter]]


@pytest.fixture
def open_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return a function that makes a provider of ours with these exporters, and what sends to it."""
    providers: list[OwnTracerProvider] = []

    def make(*exporters: SpanExporter, clock: Callable[[], float] = lambda: 0.0) -> Any:
        monkeypatch.setattr(named, "trace_exporters", lambda _: list(exporters))
        provider = OwnTracerProvider("test")
        providers.append(provider)
        provider.open()
        return provider, Emitter(lambda: provider, JobContext({}), clock=clock)

    yield make
    for provider in providers:
        provider.shutdown()


def step(count: int, name: str = "", trace_state: Any = None) -> Span:
    """A step of `count` spans with names that are numbers, the root first."""
    trace = Trace(7, 10, 1, trace_state, None)
    attributes = SharedAttributes({"torch.phase": "step"})
    root = Span(trace, None, f"{name}0", "step", 0, 1, 9, attributes)
    root.say((STEP_INDEX,), (0,))
    for number in range(1, count):
        shared = SharedAttributes({"torch.module.fqn": "x" * 300})
        Span(trace, root, f"{name}{number}", "forward", 0, 2, 3, shared)
    return root


def numbers(count: int, name: str = "") -> list[str]:
    return [f"{name}{number}" for number in range(count)]


def test_the_root_comes_in_the_last_request(open_provider: Open) -> None:
    exporter = Kept()
    _, emitter = open_provider(exporter)
    emitter.emit(step(5_000))
    emitter.flush()
    assert [names.index("0") for names in exporter.requests if "0" in names] == [903]
    assert "0" in exporter.requests[-1]


def test_a_step_goes_out_whole_in_requests_of_bounded_size(
    open_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = Kept()
    _, emitter = open_provider(exporter)
    emitter.emit(step(5_000))
    emitter.flush()
    assert [len(names) for names in exporter.requests] == [2_048, 2_048, 904]
    assert sorted(chain(*exporter.requests), key=int) == numbers(5_000)
    assert exporter.finished == []


@pytest.fixture
def send_annotated(open_provider: Open, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Kept]:
    """Return a function that sends a step of a pod with so many bytes of annotations, all of which has to arrive."""

    def send(around: int) -> Kept:
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"k8s.pod.annotations={'x' * around}")
        monkeypatch.setattr(outbox_module, "MOST_BYTES", 500_000)
        exporter = Kept()
        _, emitter = open_provider(exporter)
        emitter.emit(step(2_048))
        emitter.flush()
        assert sorted(chain(*exporter.requests), key=int) == numbers(2_048)
        return exporter

    return send


@pytest.mark.parametrize("around", [0, 20_000, 400_000], ids="{} bytes of annotations".format)
def test_what_is_around_the_spans_counts_too(
    send_annotated: Callable[[int], Kept], around: int
) -> None:
    exporter = send_annotated(around)
    assert around < min(exporter.bytes[:-1]) <= max(exporter.bytes) <= 500_000


def test_where_there_is_no_room_beside_it_spans_go_all_the_same(
    send_annotated: Callable[[int], Kept],
) -> None:
    exporter = send_annotated(600_000)
    assert min(map(len, exporter.requests[:-1])) > 50


@pytest.mark.slow
def test_long_spans_make_more_requests_and_none_that_a_receiver_refuses(
    open_provider: Open,
) -> None:
    exporter = Kept()
    _, emitter = open_provider(exporter)
    root = step(512)
    for span in root.children:
        span.attributes = {"torch.module.input.shapes": ("[1, 2, 3]",) * 2_000}
    root.error = Raised("ValueError", "x" * 10_000, "y" * 10_000)
    emitter.emit(root)
    emitter.flush()
    assert sum(exporter.bytes) > 10 << 20
    assert max(exporter.bytes) < (1 << 20) + 1_000
    assert sorted(chain(*exporter.requests), key=int) == numbers(512)


def test_a_span_that_is_longer_than_a_request_goes_alone(open_provider: Open) -> None:
    exporter = Kept()
    _, emitter = open_provider(exporter)
    root = step(4)
    root.children[1].attributes = {"torch.module.input.shapes": "x" * (2 << 20)}
    emitter.emit(root)
    emitter.flush()
    assert sorted(map(sorted, exporter.requests)) == [["0", "1", "3"], ["2"]]


def test_the_variables_of_the_batch_processor_say_how_many_and_how_long(
    open_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "2000")
    now = [0.0]
    exporter = Kept()
    _, emitter = open_provider(exporter, clock=lambda: now[0])
    seen = []
    for at in (0.0, 1.9, 2.0, 2.5, 4.4, 4.5):
        now[0] = at
        if at in (0.0, 2.5):
            emitter.emit(step(4, name=f"{at} "))
        emitter.idle()
        seen.append([len(names) for names in exporter.requests])
    assert seen == [[3], [3], [3, 1], [3, 1, 3], [3, 1, 3], [3, 1, 3, 1]]


def test_steps_are_gathered(open_provider: Open) -> None:
    now = [0.0]
    exporter = Kept()
    _, emitter = open_provider(exporter, clock=lambda: now[0])
    for at in (0.1, 0.3, 0.6):
        now[0] = at
        emitter.emit(step(2, name=f"{at} "))
        emitter.idle()
    assert exporter.requests == [["0.1 1", "0.1 0", "0.3 1", "0.3 0", "0.6 1", "0.6 0"]]


def test_what_the_program_did_to_a_span_goes_the_way_of_the_others(
    open_provider: Open,
) -> None:
    exporter = Kept()
    _, emitter = open_provider(exporter)
    root = step(4, trace_state=TraceState([("a", "b")]))
    root.children[1].notes = [Note("set_attributes", ({"a": 1},), 2)]
    root.children[2].error = Raised("ValueError", "no", "Traceback ...")
    emitter.emit(root)
    emitter.flush()
    assert exporter.requests == [["1", "2", "3", "0"]]
    assert exporter.finished == []


@pytest.mark.parametrize("decision", SamplingDecision)
def test_what_a_sampler_does_not_sample_is_not_exported(
    open_provider: Open, monkeypatch: pytest.MonkeyPatch, decision: SamplingDecision
) -> None:
    """A span that is recorded only is for processors, and a provider of ours has none but those that export."""
    exporter = Kept()
    monkeypatch.setattr(named, "sampler", lambda _: StaticSampler(decision))
    _, emitter = open_provider(exporter)
    root = step(2)
    for span in list(root.walk()):  # it was opened before the provider was known
        span.trace = root.trace._replace(trace_flags=0)
    emitter.emit(root)
    emitter.flush()
    sampled = decision is SamplingDecision.RECORD_AND_SAMPLE
    assert (exporter.requests, exporter.finished) == ([["1", "0"]] if sampled else [], [])


def test_all_exporters_get_the_same_and_one_that_raises_keeps_nothing_from_the_next(
    open_provider: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Kept):
        def attempt(self, request: EncodedRequest) -> Reply:
            raise ConnectionError("no")

    after = Kept()
    _, emitter = open_provider(Broken(), after)
    emitter.emit(step(2))
    emitter.flush()
    assert after.requests == [["1", "0"]]
    assert [record.getMessage() for record in caplog.records] == ["Spans are lost: here: no"]


def test_a_processor_that_the_program_adds_gets_finished_spans(open_provider: Open) -> None:
    exporter, added = Kept(), InMemorySpanExporter()
    provider, emitter = open_provider(exporter)
    emitter.emit(step(2, name="before "))
    provider.add_span_processor(SimpleSpanProcessor(added))
    emitter.emit(step(2, name="after "))
    emitter.flush()
    assert exporter.requests == [["before 1", "before 0"]]
    assert exporter.finished == ["after 1", "after 0"]
    assert [span.name for span in added.get_finished_spans()] == ["after 1", "after 0"]


def test_an_exporter_that_takes_only_spans_gets_spans(open_provider: Open) -> None:
    encoded, finished = Kept(), InMemorySpanExporter()
    _, emitter = open_provider(encoded, finished)
    emitter.emit(step(2))
    emitter.flush()
    assert (encoded.requests, encoded.finished) == ([], ["1", "0"])
    assert [span.name for span in finished.get_finished_spans()] == ["1", "0"]


def test_a_forked_child_does_not_send_what_waits_in_its_parent(open_provider: Open) -> None:
    exporter = Kept()
    _, emitter = open_provider(exporter)
    emitter.emit(step(2))
    child = os.fork()
    if child == 0:
        emitter.flush()
        os._exit(len(exporter.requests))
    assert os.waitpid(child, 0)[1] == 0
    emitter.flush()
    assert exporter.requests == [["1", "0"]]


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_the_standard_exporters_carry_requests_and_spans(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with RECEIVERS[protocol]() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        provider = OwnTracerProvider("test")
        provider.open()
        emitter = Emitter(lambda: provider, JobContext({}))
        emitter.emit(step(3, name="ours "))
        emitter.flush()
        with provider.get_tracer("program").start_as_current_span("the program's"):
            pass
        provider.shutdown()
        emitter.emit(step(3, name="too late "))
        emitter.flush()
    assert [
        [span.name for span in received.request.resource_spans[0].scope_spans[0].spans]
        for received in receiver.received
    ] == [["ours 1", "ours 2", "ours 0"], ["the program's"]]
