"""OTLP from spans of ours, at a twentieth of what the standard encoder costs.

The spans of one place in the program differ in nothing but ids and times. So the standard encoder encodes one of them,
with ids and times that occur nowhere else, and what lies between these is kept: it is the same in all others. Whatever
the standard encoder would write is thereby what is written here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._assembly.layout import Prototype
from otel_torch_modules._assembly.span import SharedAttributes, Span, Trace
from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.otlp_steps import StepEncoder
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.request_exporter import EncodedRequest
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._emission.specimen import Specimen
from otel_torch_modules._emission.wire import cut, varint

# Tags of fields that hold a message: https://github.com/open-telemetry/opentelemetry-proto
_RESOURCE_SPANS = b"\x0a"  # of ExportTraceServiceRequest
_SCOPE_SPANS = b"\x12"  # of ResourceSpans

_NO_RESOURCE = Resource.get_empty()


class Template(NamedTuple):
    """A span but for its ids and times.

    `pack` puts the six pieces together with what lies between them, and the two that come where there is a link.
    """

    pack: Callable[..., bytes]
    pieces: tuple[bytes, ...]
    link_pieces: tuple[bytes, ...]


class _Templates(dict[tuple[str, int, bool, int], Template]):
    """By name, kind, link and flags, those of the spans with the attributes that they are kept on."""

    __slots__ = ("maker",)

    def __init__(self, maker: object) -> None:
        super().__init__()
        self.maker = maker  # what another encoder made is of no use


class SpanEncoder:
    """Encodes the spans of one resource and scope.

    Args:
        tracer: whose spans they are.
        scope: their instrumentation scope.
    """

    def __init__(self, tracer: Tracer, scope: InstrumentationScope) -> None:
        self.resource = tracer.resource
        self._tracer = tracer
        self._limits = Limits.of(tracer)
        self._scope = scope
        self._maker = object()  # not the encoder: what is encoded may outlive it
        self._steps = StepEncoder(tracer, scope, self._encode_anew)
        span = Span(Trace(1, 0, 0, None, None), None, "", "", 0, 1, 1, {})
        record = RecordSpans([span], Decision(0, None), tracer, scope)
        around = encode_spans([record.finished(span)]).resource_spans[0]
        around.scope_spans[0].ClearField("spans")
        self._scope_part: bytes = around.scope_spans[0].SerializeToString()
        around.ClearField("scope_spans")
        self._resource_part: bytes = around.SerializeToString()

    def has_templates(self, decision: Decision) -> bool:
        """Return False where a sampler says something of its own, which may be something else in each record."""
        return not decision.trace_state and not decision.attributes and self._limits.leave_links

    def encode(self, record: RecordSpans, spans: Iterable[Span]) -> bytes:
        """Return `spans`, all of `record` and none of them the program's doing, as fields of ``ScopeSpans``."""
        if not self.has_templates(record.decision):
            return self._encode_anew(record, spans)
        rest: list[Span] = []
        encoded = [self._encode_known(record, spans, rest)]
        others: list[Span] = []
        for span in rest:
            step = self._steps.encode(record, span)
            if step is None:
                others.append(span)
            else:
                encoded.append(step)
        if others:
            encoded.append(self._encode_anew(record, others))
        return b"".join(encoded)

    def _encode_known(self, record: RecordSpans, spans: Iterable[Span], rest: list[Span]) -> bytes:
        maker = self._maker
        trace = record.trace
        flags = record.decision.trace_flags
        trace_id = trace.trace_id.to_bytes(16, "big")
        offset = trace.clock_offset
        encoded: list[bytes] = []
        add = encoded.append
        for span in spans:
            parent, link, attributes = span.parent, span.link, span.attributes
            if (
                type(attributes) is not SharedAttributes
                or parent is None
                or parent.remote
                or span.error is not None
                or (link is not None and (link.trace is not trace or link.remote))
            ):
                rest.append(span)
                continue
            templates = attributes.encoded
            if templates is None or templates.maker is not maker:
                templates = self._templates(attributes)
            template = templates.get((span.name, span.kind, link is not None, flags))
            if template is None:
                like = Prototype(span.name, span.phase, span.kind, attributes)
                template = self.template(like, link is not None, flags)
            pack, (first, to_id, to_parent, to_start, to_end, after), link_pieces = template
            own_id, parent_id = span.span_id.to_bytes(8, "big"), parent.span_id.to_bytes(8, "big")
            start, end = span.start + offset, span.end + offset
            if link is None:
                # fmt: off
                add(pack(first, trace_id, to_id, own_id, to_parent, parent_id,
                         to_start, start, to_end, end, after))
                # fmt: on
            else:
                to_linked, last = link_pieces
                linked_id = link.span_id.to_bytes(8, "big")
                # fmt: off
                add(pack(first, trace_id, to_id, own_id, to_parent, parent_id,
                         to_start, start, to_end, end, after, trace_id, to_linked, linked_id, last))
                # fmt: on
        return b"".join(encoded)

    def request(self, encoded: Iterable[bytes], span_count: int) -> EncodedRequest:
        """Return the request that sends what `encode` returned."""
        parts = [self._scope_part, *encoded]
        for tag, before in ((_SCOPE_SPANS, self._resource_part), (_RESOURCE_SPANS, b"")):
            parts = [before, tag + varint(sum(map(len, parts))), *parts]
        return EncodedRequest(b"".join(parts), span_count)

    def template(self, like: Prototype, linked: bool, flags: int) -> Template:
        """Return what all spans have that are `like`, with a link to one of the same trace or without one.

        What was made for attributes that belong to one place only is not kept.
        """
        if type(like.attributes) is not SharedAttributes:
            return self._make_template(like, linked, flags)
        templates = self._templates(like.attributes)
        key = (like.name, like.kind, linked, flags)
        template = templates.get(key)
        if template is None:
            template = templates[key] = self._make_template(like, linked, flags)
        return template

    def _templates(self, attributes: SharedAttributes) -> _Templates:
        kept: _Templates | None = attributes.encoded
        if kept is None or kept.maker is not self._maker:
            kept = attributes.encoded = _Templates(self._maker)
        return kept

    def _make_template(self, like: Prototype, linked: bool, flags: int) -> Template:
        specimen = Specimen(like)
        if linked:
            specimen.add_link()
        record = RecordSpans([specimen.root], Decision(flags, None), self._tracer, self._scope)
        pieces = cut(self._encode_anew(record, [specimen.span]), specimen.varies)
        lengths = [len(piece) for piece in pieces]
        layout = "<{}s16s{}s8s{}s8s{}sQ{}sQ{}s" + ("16s{}s8s{}s" if linked else "")
        return Template(struct.Struct(layout.format(*lengths)).pack, pieces[:6], pieces[6:])

    def _encode_anew(self, record: RecordSpans, spans: Iterable[Span]) -> bytes:
        # Without a resource: the encoder would encode it each time, at twice the cost of a span.
        request = encode_spans([record.finished(span, _NO_RESOURCE) for span in spans])
        scope_spans = request.resource_spans[0].scope_spans[0]
        scope_spans.ClearField("scope")
        scope_spans.ClearField("schema_url")
        encoded: bytes = scope_spans.SerializeToString()
        return encoded
