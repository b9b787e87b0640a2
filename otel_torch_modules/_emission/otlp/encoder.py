"""OTLP from spans of ours, at a twentieth of what the standard encoder costs.

The spans of one place in the program differ in nothing but ids, times and values that vary. So the standard encoder
encodes one of them, with ids, times and values that occur nowhere else, and what lies between these is kept: it is the
same in all others. Whatever the standard encoder would write is thereby what is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.otlp.block import (
    Alike,
    Form,
    Forms,
    Run,
    SpanBlock,
    Template,
    joined,
)
from otel_torch_modules._emission.otlp.known_templates import KnownTemplates, content_of
from otel_torch_modules._emission.otlp.language import Language, cut
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.otlp.specimen import Specimen
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._emission.services import ONE, Services
from otel_torch_modules._engine.pauses import pause
from otel_torch_modules._events import Varying
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import SharedAttributes, Span, Trace

_NO_RESOURCE = Resource.get_empty()
_TEMPLATES_AT_ONCE = 8  # about a millisecond
_FOUND_AT_ONCE = 128  # the same
_OF_LENGTHS = 32  # bytes of tags and lengths around the spans of a part, at most
_ROW = 9  # what is known of a span, but for its values: see `_rows`


class SpanEncoder:
    """Encodes the spans of one process and scope.

    Args:
        tracer: whose spans they are.
        scope: their instrumentation scope.
        language: in which they are written.
        maker: what templates are kept for, the same for encoders that are used side by side.
        services: say which service each is of.
    """

    def __init__(
        self,
        tracer: Tracer,
        scope: InstrumentationScope,
        language: Language,
        maker: object = None,
        services: Services = ONE,
    ) -> None:
        self.language = language
        self.services = services
        self.resource = tracer.resource
        self._tracer = tracer
        self._limits = Limits.of(tracer)
        self._made = self._found = 0  # templates
        self._scope = scope
        self._forms = Forms()
        self._known = KnownTemplates()
        self._maker = maker or object()  # not the encoder: what is encoded may outlive it
        span = Span(Trace(1, 0, 0, None, None), None, "", "", 0, 1, 1, {})
        batch = RecordSpans([span], Decision(0, None), tracer, scope)
        self._around = {
            part: language.around(batch.finished(span, services.of_part(tracer.resource, part)))
            for part in services.parts
        }

    def has_templates(self, decision: Decision) -> bool:
        """Return False where a sampler says something of its own, which may be something else in each record.

        And where limits may take something from a span: from which, and what, depends on its values.
        """
        limits = self._limits
        return (
            not decision.trace_state
            and not decision.attributes
            and limits.leave_links
            and limits.leave_attributes
        )

    def encode(self, records: Sequence[tuple[RecordSpans, Sequence[Span]]]) -> list[bytes]:
        """Return for `request`, for each of `records`, its spans that stand beside it; the last comes last."""
        known, rest = [], []
        for batch, spans in records:
            others: list[Span] = []
            if self.has_templates(batch.decision):
                known.append((batch.trace, self._rows(batch, spans, others)))
            else:
                known.append((batch.trace, {}))
                others += spans
            rest.append(others)
        written = self._written(known)
        for place, others in enumerate(rest):
            if others:
                batch, spans = records[place]
                own, anew = written[place], self._encode_anew(batch, others)
                in_order = (own, anew) if others[-1] is spans[-1] else (anew, own)
                written[place] = self.language.between.join(filter(None, in_order))
        return written

    def _rows(
        self, batch: RecordSpans, spans: Sequence[Span], rest: list[Span]
    ) -> dict[Form, list[Any]]:
        """Return what is known of the spans that there are templates for, and put the others into `rest`."""
        trace, flags, maker = batch.trace, batch.decision.trace_flags, self._maker
        outer, language, offset = trace.parent, self.language, trace.clock_offset
        rows_of: dict[Form, list[Any]] = {}
        for span in spans:
            attributes, link, above = span.attributes, span.link, span.parent or outer
            if (
                type(attributes) is not SharedAttributes
                or span.error is not None
                or span.points
                or span.notes
                or (link is not None and (link.trace is not trace or link.remote))
            ):
                rest.append(span)
                continue
            remote = None if above is None else above.remote
            alike = language, span.name, span.kind, flags, link is not None, remote, span.keys
            template = attributes.encoded
            if template is None or template.maker is not maker or template.alike != alike:
                template = self.template(attributes, alike)
            form = template.form
            rows = rows_of.get(form)
            if rows is None:
                rows = rows_of[form] = []
            # All at once: whoever looks at the span again finds it far away from the processor.
            rows += (
                template.opening,
                template.name,
                template.attributes,
                template.length,
                span.span_id,
                0 if above is None else above.span_id,
                0 if link is None else link.span_id,
                span.start + offset,
                span.end + offset,
            )
            rows += span.values
        if rows_of:  # the last span's comes last
            rows_of[form] = rows_of.pop(form)
        return rows_of

    def _written(self, records: Sequence[tuple[Trace, dict[Form, list[Any]]]]) -> list[bytes]:
        """Return the spans of each record from what is known of them: those of one form are written at once."""
        language = self.language
        gathered: dict[Form, tuple[list[Any], list[Run]]] = {}
        for trace, rows_of in records:
            trace_id = language.trace_id(trace.trace_id)
            for form, rows in rows_of.items():
                all_rows, traces = gathered.setdefault(form, ([], []))
                all_rows += rows
                traces.append((trace_id, len(rows) // _width(form)))
        parts_of = {
            form: self._block(form, rows, traces).parts([count for _, count in traces])
            for form, (rows, traces) in gathered.items()
        }
        written = []
        for _, rows_of in records:
            pieces: list[bytes] = []
            for form in rows_of:
                pieces += next(parts_of[form])
            written.append(joined(pieces, language) if pieces else b"")
        return written

    def _block(self, form: Form, rows: list[Any], traces: Iterable[Run]) -> SpanBlock:
        """Return spans of one form, for all of which there are templates, from what is known of each."""
        language = self.language
        width = _width(form)
        columns = [rows[place::width] for place in range(width)]
        openings, names, attributes, lengths, own, parents, linked, starts, ends, *values = columns
        block = SpanBlock(form, language, openings, names, attributes)
        block.put_ids(
            traces,
            language.span_ids(own),
            [b""] * len(own) if form.outermost else language.span_ids(parents),
            language.span_ids(linked) if form.linked else (),
        )
        block.put_times(language.times(starts), language.times(ends))
        block.put_values(
            [
                (place, key, self.attributes(key, column))
                for (place, key), column in zip(form.values, values, strict=True)
            ],
            lengths,
        )
        return block

    def attributes(self, key: Varying, values: Sequence[Any]) -> list[bytes]:
        """Return what varies of spans as they are written, as far as limits leave it."""
        if key.type in (str, tuple) and self._limits.bind_attributes:
            values = [None if value is None else self._limits.cut(value) for value in values]
        return self.language.attributes(key, values)

    def size_of(self, keys: Iterable[Varying]) -> int:
        """Return how many bytes values take that are known, of those types that are `sized`."""
        sized = [key for key in keys if key.type in self.language.sized]
        return sum(len(self.attributes(key, [key.type()])[0]) for key in sized)

    def request(self, encoded: Iterable[bytes], span_count: int) -> EncodedRequest:
        """Return the request that sends what `encode` returned, as spans of the process itself."""
        return EncodedRequest(self.language.request(*self._around[""], encoded), span_count)

    def request_of_parts(
        self, encoded: Mapping[str, list[bytes]], span_count: int
    ) -> EncodedRequest:
        """Return the request that sends what `encode` returned, by the parts of `services`."""
        data = [
            self.language.request(*self._around[part], encoded[part])
            for part in self.services.parts
            if part in encoded
        ]
        return EncodedRequest(data[0] if len(data) == 1 else b"".join(data), span_count)

    @property
    def bytes_around(self) -> int:
        """How many bytes of a request are no spans, at most."""
        around = self._around.values()
        return sum(len(resource) + len(scope) + _OF_LENGTHS for resource, scope in around)

    def template(self, attributes: Mapping[str, Any], alike: Alike) -> Template:
        """Return what all spans with these attributes have. What was made for those of one span is not kept."""
        if type(attributes) is not SharedAttributes:
            return self._make_template(attributes, alike)
        first: Template | None = attributes.encoded
        if first is not None and first.maker is not self._maker:
            first = None  # what another encoder made is of no use
        template = first
        while template is not None and template.alike != alike:
            template = template.next
        if template is None:
            template = self._known_template(attributes, alike)
            if first is not None:
                template = replace(template, next=first)
            attributes.encoded = template
        return template

    def _known_template(self, attributes: Mapping[str, Any], alike: Alike) -> Template:
        content = content_of(attributes, alike)
        template = self._known.get(content)
        if template is None:
            template = self._make_template(attributes, alike)
            self._known.put(content, template)
        else:
            self._found += 1
            if not self._found % _FOUND_AT_ONCE:
                pause()
        return template

    def _make_template(self, attributes: Mapping[str, Any], alike: Alike) -> Template:
        language, name, kind, flags, linked, remote, keys = alike
        specimen = Specimen(Prototype(name, "", kind, attributes, keys), remote)
        if linked:
            specimen.add_link()
        batch = RecordSpans([specimen.root], Decision(flags, None), self._tracer, self._scope)
        encoded = language.opened(self._encode_anew(batch, [specimen.span]))
        varies = specimen.varies(language, self.attributes)
        self._made += 1
        if not self._made % _TEMPLATES_AT_ONCE:
            pause()
        (opening,) = language.openings([len(encoded)])
        form, named, shared = self._forms.cut(keys, linked, remote is None, cut(encoded, varies))
        length = len(encoded) - len(varies[5])
        return Template(self._maker, alike, form, length, opening, named, shared, None)

    def _encode_anew(self, batch: RecordSpans, spans: Iterable[Span]) -> bytes:
        # Without a resource: the encoder would encode it each time, at twice the cost of a span.
        return self.language.encode(
            [
                batch.noted(span, _NO_RESOURCE)
                if span.notes
                else batch.finished(span, _NO_RESOURCE)
                for span in spans
            ]
        )


def _width(form: Form) -> int:
    return _ROW + len(form.keys)
