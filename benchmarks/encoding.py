"""Encoding a span: ours, with the templates made, beside the standard encoder.

    python benchmarks/encoding.py [--rounds 7]

Both begin with the same assembled step and end with the bytes of the same requests. The standard way makes a
`ReadableSpan` of each span, encodes them and serializes the message. Processor time of the thread, in turn; the garbage
collector is off while the clock runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

sys.path.insert(0, str(Path(__file__).parent))

from recorded import record_steps

from otel_torch_modules import Config, semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission.ids import UrandomIdGenerator, generate_span_ids
from otel_torch_modules._emission.otlp import SpanEncoder
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision

_REQUEST = 512  # spans, the standard batch


def _time_us(encode: Callable[[], object], spans: int) -> float:
    gc.collect()
    gc.disable()
    start = time.thread_time_ns()
    encode()
    taken = time.thread_time_ns() - start
    gc.enable()
    return taken / spans / 1e3


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
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

    def ours() -> list[bytes]:
        record = RecordSpans(spans, Decision(1, None), tracer, scope)
        return [
            encoder.request([encoder.encode(record, batch)], len(batch)).data for batch in batches
        ]

    def standard() -> list[bytes]:
        record = RecordSpans(spans, Decision(1, None), tracer, scope)
        return [
            encode_spans([record.finished(span) for span in batch]).SerializeToString()
            for batch in batches
        ]

    ours()  # makes the templates
    assert sorted(map(len, ours())) == sorted(map(len, standard()))
    figures = [(_time_us(ours, len(spans)), _time_us(standard, len(spans))) for _ in range(rounds)]
    mine, theirs = (statistics.median(column) for column in zip(*figures, strict=True))
    print(
        f"encoding a span: {mine:.2f} µs, the standard encoder {theirs:.2f} µs: {theirs / mine:.1f} x"
    )


if __name__ == "__main__":
    main()
