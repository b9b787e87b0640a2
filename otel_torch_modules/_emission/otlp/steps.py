"""OTLP of the spans of steps and ranks: those of two steps differ in ids, times and the number of the step.

One span a step is little, but the standard encoder takes as long for it as for all module spans of a small model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable

from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission.otlp.language import Language, cut
from otel_torch_modules._emission.otlp.specimen import Specimen
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import Span
from otel_torch_modules.semconv import STEP_INDEX

_MOST_KEPT = 64


class StepEncoder:
    """Encodes spans that say the number of a step.

    Args:
        tracer: whose spans they are.
        scope: their instrumentation scope.
        language: in which they are written.
        encode_anew: the standard encoder.
    """

    def __init__(
        self,
        tracer: Tracer,
        scope: InstrumentationScope,
        language: Language,
        encode_anew: Callable[[RecordSpans, Iterable[Span]], bytes],
    ) -> None:
        self._tracer = tracer
        self._scope = scope
        self._language = language
        self._encode_anew = encode_anew
        # What lies between what varies; nothing where the limits of spans do not leave the number.
        self._known: dict[Hashable, tuple[bytes, ...]] = {}

    def encode(self, record: RecordSpans, span: Span) -> bytes | None:
        """Return `span` of `record` as a field of ``ScopeSpans``; None where that is for the standard encoder."""
        index = span.attributes.get(STEP_INDEX)
        if (
            type(index) is not int
            or not 0 <= index < 1 << 63
            or span.error is not None
            or span.link is not None
            or (span.parent is None and record.trace.parent is not None)
        ):
            return None
        parent = span.parent
        flags = record.decision.trace_flags
        others = tuple([item for item in span.attributes.items() if item[0] != STEP_INDEX])
        key = (span.name, span.kind, flags, None if parent is None else parent.remote, others)
        between = self._known.get(key)
        if between is None:
            between = self._make(span, flags)
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[key] = between
        if not between:
            return None
        offset = record.trace.clock_offset
        language = self._language
        ids = [span.span_id] if parent is None else [span.span_id, parent.span_id]
        varies = (
            language.trace_id(record.trace.trace_id),
            *language.span_ids(ids),
            *language.times([span.start + offset, span.end + offset]),
            language.number(index),
            b"",
        )
        pieces = zip(between, varies, strict=True)
        return b"".join(piece for pair in pieces for piece in pair)

    def _make(self, like: Span, flags: int) -> tuple[bytes, ...]:
        index = 1 << 62 | int.from_bytes(os.urandom(7), "big")
        specimen = Specimen(
            Prototype(like.name, like.phase, like.kind, {**like.attributes, STEP_INDEX: index}),
            has_parent=like.parent is not None,
        )
        if specimen.parent is not None and like.parent is not None:
            specimen.parent.remote = like.parent.remote
        record = RecordSpans([specimen.root], Decision(flags, None), self._tracer, self._scope)
        if STEP_INDEX not in (record.finished(specimen.span).attributes or ()):
            return ()
        varies = [*specimen.varies(self._language), self._language.number(index)]
        return cut(self._encode_anew(record, [specimen.span]), varies)
