"""What values that vary from call to call cost: in encoding, in steps with shapes, in many calls of one cell.

    python -m benchmarks.varying [--quick]

Processor time of one thread, which trains and records, then assembles and encodes what was recorded; the garbage
collector is off while the clock runs. What is compared takes turns.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import torch
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from torch import Tensor, nn

from benchmarks.enough import Enough
from benchmarks.figures import Figure, Row, median, ratio_of_medians
from benchmarks.machine import processor_ns
from benchmarks.part import print_rows
from benchmarks.recorded import record_steps, recording_into
from benchmarks.toy import Toy, training_step
from otel_torch_modules import Config, semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission.ids import UrandomIdGenerator, generate_span_ids
from otel_torch_modules._emission.otlp.columns import ColumnsEncoder
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._events import Varying
from otel_torch_modules._records import Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import Span

_BLOCK = 512  # spans, as many as the outbox has encoded at once
_CALLS = 10_000
_FEWER_CALLS = 2_000  # where there is no time for so many
_LENGTHS = 15  # steps of a block, each of another length
_UNTIL_KNOWN = 5  # of them, in which places are seen for the first time and layouts are made
_DECISION = Decision(1, None)

_BYTES = Varying("torch.bytes", int)
_SECONDS = Varying("torch.seconds", float)


class Sending:
    """Assembles and encodes records, and sends nothing.

    Args:
        config: the options.
        tell: is told of each record and its tree.
    """

    def __init__(
        self,
        config: Config,
        tell: Callable[[Record, Span | SpanColumns], object] = lambda record, tree: None,
    ) -> None:
        self._tell = tell
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer(semconv.SCOPE_NAME)
        assert isinstance(tracer, Tracer)
        self._tracer = tracer
        self._scope = InstrumentationScope(semconv.SCOPE_NAME)
        self._assembler = Assembler(config)
        self._encoder = SpanEncoder(tracer, self._scope, Protobuf())
        self._columns = ColumnsEncoder(self._encoder, _BLOCK)
        self._ids = UrandomIdGenerator()

    def send(self, record: Record) -> None:
        """Do all that is done with a record but the request."""
        tree = self._assembler.assemble(record)
        if isinstance(tree, SpanColumns):
            self.send_columns(tree)
            self._tell(record, tree)
            return
        spans = list(tree.walk())
        for span, span_id in zip(spans, generate_span_ids(self._ids, len(spans)), strict=True):
            span.span_id = span_id
        shared = RecordSpans(spans, _DECISION, self._tracer, self._scope)
        for begin in range(0, len(spans), _BLOCK):
            self._encoder.encode([(shared, spans[begin : begin + _BLOCK])])
        self._tell(record, tree)
        tree.release()

    def send_columns(self, columns: SpanColumns) -> None:
        """Do it with one that is like another one before it."""
        columns.span_ids = generate_span_ids(self._ids, len(columns.starts))
        shared = RecordSpans(columns.heads, _DECISION, self._tracer, self._scope)
        self._encoder.encode([(shared, columns.heads)])
        for _ in self._columns.encode([columns], 1):
            pass


def encoding_us(enough: Enough) -> dict[str, list[float]]:
    """Return microseconds a span, once a round: of spans without values, and of the same with two that vary."""
    ways: dict[str, Callable[[], None]] = {}
    spans = 0
    for name, keys in (("without", ()), ("with", (_BYTES, _SECONDS))):
        assembler = Assembler(Config())
        *_, columns = [assembler.assemble(record) for record in record_steps(blocks=200, count=4)]
        assert isinstance(columns, SpanColumns)
        spans = len(columns.starts)
        layout = columns.layout
        layout.spans = [like._replace(keys=keys) for like in layout.spans]
        layout.values = {}
        columns.values = {
            _BYTES: [random.randrange(1 << 40) for _ in range(spans)],
            _SECONDS: [random.random() for _ in range(spans)],
        }
        ways[name] = _encoding(Sending(Config()), columns)
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for _ in enough.rounds(lambda: _encoding_rows(figures)):
        for name, way in ways.items():
            figures[name].append(processor_ns(way) / spans / 1e3)
    return figures


def _beside(figures: Mapping[str, Sequence[float]]) -> Figure:
    return ratio_of_medians(figures["with"], figures["without"])


def _encoding(sending: Sending, columns: SpanColumns) -> Callable[[], None]:
    def encode() -> None:
        sending.send_columns(columns)

    encode()  # what is kept of a layout is made now
    return encode


def steps_ns(train: Callable[[], object], steps: int, config: Config) -> list[int]:
    """Return what each step takes, recorded and sent; nothing else is recorded meanwhile, and nothing afterwards."""
    records: list[Record] = []
    sending = Sending(config)

    def whole() -> None:
        with recording.step(None):
            train()
        recording.finish()
        while records:
            sending.send(records.pop(0))

    with recording_into(records.append, config) as recording:
        return [processor_ns(whole) for _ in range(steps)]


def shapes_added(enough: Enough) -> dict[str, list[float]]:
    """Return how many times an untraced step what tracing adds is, without shapes and with them, once a round.

    Each step's tensors have a new length, the same ones each time; of the steps the median counts.
    """
    model = Toy(blocks=50)
    ways = {"without": Config(), "with": Config(record_shapes=True)}

    def training() -> Callable[[], None]:
        lengths = count(2)
        return lambda: model(torch.randn(2, next(lengths), 8)).sum().backward()

    def untraced_ns() -> list[int]:
        train = training()
        return [processor_ns(train) for _ in range(_LENGTHS)]

    def added(config: Config) -> float:
        before, own, after = untraced_ns(), steps_ns(training(), _LENGTHS, config), untraced_ns()
        each = [2 * ns / sum(pair) - 1 for ns, *pair in zip(own, before, after, strict=True)]
        return statistics.median(each[_UNTIL_KNOWN:])

    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in enough.rounds(lambda: _shape_rows(found)):
        for name, config in ways.items():
            found[name].append(added(config))
    return found


class Cell(nn.Module):
    """Calls one recurrent cell so many times."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls
        self.cell = nn.GRUCell(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last state."""
        state = torch.zeros_like(x)
        for _ in range(self.calls):
            state = self.cell(x, state)
        return state


def encoding(enough: Enough) -> list[Row]:
    """Compare encoding with values that vary and without."""
    return _encoding_rows(encoding_us(enough))


def shapes(enough: Enough) -> list[Row]:
    """Compare steps with shapes and without."""
    return _shape_rows(shapes_added(enough))


def one_cell(enough: Enough) -> list[Row]:
    """Compare the second step of many calls of a cell with the sixth."""
    calls = _CALLS if enough.thorough else _FEWER_CALLS
    second: list[float] = []
    sixth: list[float] = []

    def rows() -> list[Row]:
        what = f"{calls} calls of one cell: the second step beside the sixth"
        note = f"{median(second).value / 1e6:.0f} and {median(sixth).value / 1e6:.0f} ms"
        return [Row(what, 2, "x", ratio_of_medians(second, sixth), note=note)]

    for _ in enough.rounds(rows):
        _, taken, *_, last = steps_ns(training_step(Cell(calls), torch.randn(2, 8)), 6, Config())
        second.append(taken)
        sixth.append(last)
    return rows()


COMPARISONS = (encoding, shapes, one_cell)


def _encoding_rows(found: Mapping[str, Sequence[float]]) -> list[Row]:
    what = "encoding a span with two values that vary, beside one without"
    each = (f"{median(figures).value:.2f}" for figures in found.values())
    return [Row(what, 1.5, "x", _beside(found), note=" and ".join(each) + " µs a span")]


def _shape_rows(found: Mapping[str, Sequence[float]]) -> list[Row]:
    what = "tracing steps of new lengths with RECORD_SHAPES, beside without"
    each = (f"{median(figures).value:.2f}" for figures in found.values())
    return [Row(what, 3, "x", _beside(found), note=" and ".join(each) + " untraced steps")]


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
