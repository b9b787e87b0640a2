"""OTLP from spans of ours, at a twentieth of what the standard encoder costs.

The spans of one place in the program differ in nothing but ids, times and values that vary. So the standard encoder
encodes one of them, with ids, times and values that occur nowhere else, and what lies between these is kept: it is the
same in all others. Whatever the standard encoder would write is thereby what is written here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import add
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.otlp.block import (
    FIRST_VALUE,
    OPENING,
    Form,
    Forms,
    Template,
    begun,
    fill,
)
from otel_torch_modules._emission.otlp.language import Language, Pieces, cut
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.otlp.specimen import Specimen
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._emission.services import ONE, Services
from otel_torch_modules._engine.pauses import pause
from otel_torch_modules._records import Varying
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import SharedAttributes, Span, Trace

_NO_RESOURCE = Resource.get_empty()
_TEMPLATES_AT_ONCE = 8  # about a millisecond


# What spans with the same attributes have in common: language, name, kind, trace flags, whether they have a link to a
# span of the same trace, whether the span above is another process's, None where they hang below nothing, and keys of
# their values.
Alike = tuple[Any, ...]


class _Templates(dict[Hashable, Template]):
    """Those of the spans with the attributes that they are kept on."""

    __slots__ = ("maker",)

    def __init__(self, maker: object) -> None:
        super().__init__()
        self.maker = maker  # what another encoder made is of no use


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
        self._made = 0  # templates
        self._scope = scope
        self._forms = Forms()
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

    def encode(self, batch: RecordSpans, spans: Sequence[Span]) -> bytes:
        """Return `spans`, all of `batch`, for `request`; the last comes last."""
        if not self.has_templates(batch.decision):
            return self._encode_anew(batch, spans)
        rest: list[Span] = []
        encoded = self._encode_known(batch, spans, rest)
        if rest:
            anew = self._encode_anew(batch, rest)
            encoded = [*encoded, anew] if rest[-1] is spans[-1] else [anew, *encoded]
        return self.language.between.join(encoded)

    def _encode_known(
        self, batch: RecordSpans, spans: Sequence[Span], rest: list[Span]
    ) -> list[bytes]:
        """Return the spans that there are templates for, and put the others into `rest`."""
        trace, flags, maker = batch.trace, batch.decision.trace_flags, self._maker
        outer, language = trace.parent, self.language
        groups: dict[Form, tuple[list[Span], list[Template]]] = {}
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
            keys = span.values or ()
            alike = (language, span.name, span.kind, flags, link is not None, remote, *keys)
            kept = attributes.encoded
            template = None if kept is None or kept.maker is not maker else kept.get(alike)
            if template is None:
                template = self.template(attributes, alike)
            group = groups.get(template.form)
            if group is None:
                group = groups[template.form] = [], []
            group[0].append(span)
            group[1].append(template)
            form = template.form
        if groups:  # the last span's comes last
            groups[form] = groups.pop(form)
        return [self._encode_alike(trace, form, *group) for form, group in groups.items()]

    def _encode_alike(
        self, trace: Trace, form: Form, spans: list[Span], templates: list[Template]
    ) -> bytes:
        """Return spans of one form, for all of which there are templates."""
        language, offset = self.language, trace.clock_offset
        pieces = begun(form, templates)
        parents: Pieces = (b"",) * len(spans)
        if not form.outermost:
            outer: Any = trace.parent
            parents = language.span_ids([(span.parent or outer).span_id for span in spans])
        fill(
            pieces,
            form,
            language.trace_id(trace.trace_id),
            language.span_ids([span.span_id for span in spans]),
            parents,
            language.times([span.start + offset for span in spans]),
            language.times([span.end + offset for span in spans]),
            language.span_ids([span.link.span_id for span in spans if span.link is not None]),
        )
        lengths = [template.length for template in templates]
        for place, key in enumerate(form.keys, FIRST_VALUE):
            column = self.attributes(key, [span.values[key] for span in spans if span.values])
            pieces[place :: form.stride] = column
            lengths = list(map(add, lengths, map(len, column)))
        pieces[OPENING :: form.stride] = language.openings(lengths)
        return b"".join(pieces)

    def attributes(self, key: Varying, values: Sequence[Any]) -> list[bytes]:
        """Return what varies of spans as they are written, as far as limits leave it."""
        if key.type in (str, tuple) and self._limits.bind_attributes:
            values = [None if value is None else self._limits.cut(value) for value in values]
        return self.language.attributes(key, values)

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

    def template(self, attributes: Mapping[str, Any], alike: Alike) -> Template:
        """Return what all spans with these attributes have. What was made for those of one place is not kept."""
        if type(attributes) is not SharedAttributes:
            return self._make_template(attributes, *alike)
        kept: _Templates | None = attributes.encoded
        if kept is None or kept.maker is not self._maker:
            kept = attributes.encoded = _Templates(self._maker)
        template = kept.get(alike)
        if template is None:
            template = kept[alike] = self._make_template(attributes, *alike)
        return template

    def _make_template(
        self,
        attributes: Mapping[str, Any],
        language: Language,
        name: str,
        kind: int,
        flags: int,
        linked: bool,
        remote: bool | None,
        *keys: Varying,
    ) -> Template:
        specimen = Specimen(Prototype(name, "", kind, attributes, keys), remote)
        if linked:
            specimen.add_link()
        batch = RecordSpans([specimen.root], Decision(flags, None), self._tracer, self._scope)
        encoded = language.opened(self._encode_anew(batch, [specimen.span]))
        varies = specimen.varies(language, self.attributes)
        self._made += 1
        if not self._made % _TEMPLATES_AT_ONCE:
            pause()
        length = len(encoded) - len(varies[5])
        return self._forms.template(keys, linked, remote is None, length, cut(encoded, varies))

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
