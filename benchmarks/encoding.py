"""Encoding a span: ours, with the templates made, beside the standard encoder.

    python -m benchmarks.encoding [--rounds 15]

Both end with the bytes of the same requests. Ours begins with the assembled spans; the standard encoder with the
`ReadableSpan` objects that were made of them before, which is not counted. Processor time of the thread, in turn; the
garbage collector is off while the clock runs.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from benchmarks.figures import Row, median, ratio_of_medians
from benchmarks.recorded import record_steps
from otel_torch_modules import Config, semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission.ids import UrandomIdGenerator, generate_span_ids
from otel_torch_modules._emission.otlp import SpanEncoder
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision

_REQUEST = 512  # spans, the standard batch
_BAR = 20


def _time_us(encode: Callable[[], object], spans: int) -> float:
    gc.collect()
    gc.disable()
    start = time.thread_time_ns()
    encode()
    taken = time.thread_time_ns() - start
    gc.enable()
    return taken / spans / 1e3


def measure(rounds: int) -> tuple[list[float], list[float]]:
    """Return microseconds a span, ours and the standard encoder's, once a round."""
    assembler = Assembler(Config())
    (record,) = record_steps(blocks=200, count=1)
    spans = list(assembler.assemble(record).walk())
    for span, span_id in zip(
        spans, generate_span_ids(UrandomIdGenerator(), len(spans)), strict=True
    ):
        span.span_id = span_id
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer(semconv.SCOPE_NAME)
    scope = InstrumentationScope(semconv.SCOPE_NAME, version("otel-torch-modules"))
    encoder = SpanEncoder(tracer, scope)
    batches = [spans[start : start + _REQUEST] for start in range(0, len(spans), _REQUEST)]
    shared = RecordSpans(spans, Decision(1, None), tracer, scope)
    finished = [[shared.finished(span) for span in batch] for batch in batches]

    def ours() -> list[bytes]:
        record = RecordSpans(spans, Decision(1, None), tracer, scope)
        return [
            encoder.request([encoder.encode(record, batch)], len(batch)).data for batch in batches
        ]

    def standard() -> list[bytes]:
        return [encode_spans(batch).SerializeToString() for batch in finished]

    ours()  # makes the templates
    if list(map(len, ours())) != list(map(len, standard())):
        raise AssertionError("the encoders do not say the same")
    figures = [(_time_us(ours, len(spans)), _time_us(standard, len(spans))) for _ in range(rounds)]
    mine, theirs = zip(*figures, strict=True)
    return list(mine), list(theirs)


def rows(quick: bool) -> list[Row]:
    """Return the row of the table."""
    mine, theirs = measure(7 if quick else 25)
    note = f"{median(mine).value:.2f} and {median(theirs).value:.2f} µs a span"
    figure = ratio_of_medians(theirs, mine)
    return [
        Row(
            "encoding a span: how many times as fast as the standard encoder",
            _BAR,
            "x",
            figure,
            True,
            note,
        )
    ]


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    for row in rows(parser.parse_args().quick):
        print(row)


if __name__ == "__main__":
    main()
