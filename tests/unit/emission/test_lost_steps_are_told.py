"""What is lost is told by the next step that arrives, whole and once: also what a lost one would have told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import TracerProvider as AnyTracerProvider

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission import named
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.missing_provider import MissingProvider
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.provider import OwnTracerProvider
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._records import Record, SharedStep
from otel_torch_modules.cli.trace_check import _dropped_before
from otel_torch_modules.config import Config
from tests.unit.assembly.repeating.test_repeats import simple

SOON = 60.0  # s; reached only when something hangs

REFUSED = Reply("400", "no")


class Receiver(OtlpFileSpanExporter):
    """Writes to a file what it takes."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), {})
        self.answer: Callable[[EncodedRequest], Reply] = lambda _: TAKEN

    def attempt(self, request: EncodedRequest) -> Reply:
        reply = self.answer(request)
        return super().attempt(request) if reply.arrives and not reply.error else reply


class Route:
    """The way of a step from where it is put to the receivers."""

    def __init__(self, provider: AnyTracerProvider) -> None:
        self.provider = provider
        self.deliveries = Deliveries()
        self.assembler = Assembler(Config())
        self.emitter = Emitter(
            lambda: self.provider, JobContext({}), deliveries=self.deliveries, clock=lambda: 0.0
        )
        self.ready, self.idle, self.export = True, self.emitter.idle, self.emitter.flush
        self.worker = Worker(
            self, self.deliveries, self._handle, lambda: None, lambda: None, capacity=1 << 20
        )
        self.shared: SharedStep | None = None
        self.flags = 1

    def close(self) -> None:
        """See :class:`Sender`."""

    def _handle(self, record: Record) -> None:
        with self.deliveries.assembling(record):
            self.emitter.emit(self.assembler.assemble(record))

    def put(self, *indexes: int) -> None:
        """Put a step of each number, one after the other is done with."""
        for index in indexes:
            record = simple(1_000 * index, 10 * index)
            record.index, record.trace_id, record.span_id = index, index + 1, index + 1
            record.trace_flags, record.shared = self.flags, self.shared
            self.worker.put(record)
            assert self.worker.flush(SOON)


def told(path: Path) -> dict[int | None, int]:
    """Return how many dropped ones each step in the file tells of, as `doctor` adds them up."""
    steps = Traces.read(str(path)).steps
    return {step.step: _dropped_before(step) for step in steps if _dropped_before(step)}


Open = Callable[..., Route]


@pytest.fixture
def route_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    opened: list[tuple[Route, OwnTracerProvider]] = []

    def make(*receivers: Receiver) -> Route:
        monkeypatch.setattr(named, "trace_exporters", lambda _: list(receivers))
        provider = OwnTracerProvider("test")
        provider.open()
        opened.append((Route(provider), provider))
        return opened[-1][0]

    yield make
    for route, provider in opened:
        route.worker.stop(SOON)
        provider.shutdown()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


Way = Callable[[Route, Receiver, pytest.MonkeyPatch], AbstractContextManager[None]]


def answering(reply: Reply) -> Way:
    @contextmanager
    def way(route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(receiver, "answer", lambda _: reply)
        yield

    return way


@contextmanager
def receiver_raises(
    route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setattr(receiver, "answer", lambda _: 1 / 0)
    yield


@contextmanager
def no_file(route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = Path(receiver.path)
    held = path.read_bytes()
    path.unlink()
    path.mkdir()
    yield
    path.rmdir()
    path.write_bytes(held)


@contextmanager
def no_room(route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(route.worker.queue, "_most", 0)
    yield


@contextmanager
def assembly_raises(
    route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setattr(route.assembler, "assemble", lambda _: 1 / 0)
    yield


@contextmanager
def cannot_be_written(
    route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    put = route.worker.put

    def put_odd(record: Record) -> bool:
        record.trace_id = "odd"  # type: ignore[assignment]
        return put(record)

    monkeypatch.setattr(route.worker, "put", put_odd)
    yield


@contextmanager
def no_provider(
    route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setattr(route, "provider", MissingProvider("OSError"))
    yield


@contextmanager
def lost_before_it_is_put(
    route: Route, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setattr(route, "put", lambda *indexes: [route.worker.lose("E") for _ in indexes])
    yield


WAYS = {
    "refused": answering(REFUSED),
    "rejected in full": answering(Reply("partial_success", "no")),
    "receiver raises": receiver_raises,
    "no file": no_file,
    "no room": no_room,
    "assembly raises": assembly_raises,
    "cannot be written": cannot_be_written,
    "no provider": no_provider,
    "lost before it is put": lost_before_it_is_put,
}


@pytest.mark.parametrize("shared", [None, SharedStep(5, 2, True)], ids=["alone", "rank"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_next_that_arrives_tells_of_all(
    route_to: Open,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Way,
    shared: SharedStep | None,
) -> None:
    receiver = Receiver(file)
    route = route_to(receiver)
    route.shared = shared
    route.put(0, 1)
    with monkeypatch.context() as patch, way(route, receiver, patch):
        route.put(2, 3, 4)
    route.put(5, 6)
    with monkeypatch.context() as patch, way(route, receiver, patch):
        route.put(7)
    route.put(8)
    assert told(file) == {5: 3, 8: 1}


def test_one_that_a_sampler_leaves_out_is_not_lost_and_neither_is_what_it_would_have_told(
    route_to: Open, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")  # where nothing was decided before
    receiver = Receiver(file)
    route = route_to(receiver)
    with monkeypatch.context() as patch:
        patch.setattr(receiver, "answer", lambda _: REFUSED)
        route.put(0, 1)
    route.flags = 0
    route.put(2, 3)
    route.flags = 1
    route.put(4, 5)
    assert told(file) == {4: 2}


@pytest.mark.parametrize(
    ("is_refused", "expected"),
    [
        (lambda request, last: request == 0, {3: 2, 4: 1}),
        (lambda request, last: request != last, {3: 2, 4: 1}),
        (lambda request, last: request == last, {4: 3}),
        (lambda request, last: True, {4: 3}),
    ],
    ids=["first", "all but the last", "last", "all"],
)
@pytest.mark.parametrize(
    ("shared", "at_once", "last"),
    [(None, "2", 3), (SharedStep(5, 2, True), "3", 2)],
    ids=["alone", "rank"],
)
def test_of_a_step_in_several_requests_the_last_tells(
    route_to: Open,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_refused: Callable[[int, int], bool],
    expected: dict[int, int],
    shared: SharedStep | None,
    at_once: str,
    last: int,
) -> None:
    """Such a step is lost if one of them is, and the file has what another holds."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", at_once)
    receiver = Receiver(file)
    route = route_to(receiver)
    route.shared = shared
    with monkeypatch.context() as patch:
        patch.setattr(receiver, "answer", lambda _: REFUSED)
        route.put(1, 2)
    requests = count()

    def answer(_: EncodedRequest) -> Reply:
        return REFUSED if is_refused(next(requests), last) else TAKEN

    with monkeypatch.context() as patch:
        patch.setattr(receiver, "answer", answer)
        route.put(3)
    assert next(requests) == last + 1
    route.put(4, 5)
    assert told(file) == expected


class TakesAPart(Receiver):
    """Writes all, and says that it rejected some of it."""

    def attempt(self, request: EncodedRequest) -> Reply:
        super().attempt(request)
        return Reply("partial_success", "some", in_part=True)


def test_a_receiver_that_always_rejects_something_is_not_told_the_same_again(
    route_to: Open, file: Path
) -> None:
    route_to(TakesAPart(file)).put(*range(5))
    assert told(file) == dict.fromkeys(range(1, 5), 1)


@pytest.mark.parametrize("last", [False, True])
def test_what_one_of_two_receivers_takes_is_told_there_once(
    route_to: Open, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    takes, refuses = Receiver(file), Receiver(tmp_path / "none.jsonl")
    monkeypatch.setattr(refuses, "answer", lambda _: REFUSED)
    route_to(*([refuses, takes] if last else [takes, refuses])).put(*range(5))
    assert told(file) == dict.fromkeys(range(1, 5), 1)


class Odd(SimpleSpanProcessor):
    """A program's own, that raises for some steps."""

    raises = False

    def on_end(self, span: ReadableSpan) -> None:
        if self.raises:
            raise ZeroDivisionError
        super().on_end(span)


def test_through_the_processors_of_a_program(file: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    processor = Odd(Receiver(file))
    provider.add_span_processor(processor)
    route = Route(provider)
    for index in range(8):
        processor.raises = index in (1, 2, 3, 6)
        route.put(index)
    route.worker.stop(SOON)
    provider.shutdown()
    assert told(file) == {4: 3, 7: 1}
