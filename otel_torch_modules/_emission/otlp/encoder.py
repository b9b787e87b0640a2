"""OTLP from spans of ours, at a twentieth of what the standard encoder costs.

The spans of one place in the program differ in nothing but ids, times and values that vary. So the standard encoder
encodes one of them, with ids, times and values that occur nowhere else, and what lies between these is kept: it is the
same in all others. Whatever the standard encoder would write is thereby what is written here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from operator import add
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.otlp.block import FIRST_VALUE, OPENING, Form, fill, woven
from otel_torch_modules._emission.otlp.language import Language, Pieces, cut
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.otlp.specimen import Specimen
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._emission.services import ONE, Services
from otel_torch_modules._engine.pauses import pause
from otel_torch_modules._records import OuterParent, Varying
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import SharedAttributes, Span, Trace

_NO_RESOURCE = Resource.get_empty()
_TEMPLATES_AT_ONCE = 8  # about a millisecond


class Template(NamedTuple):
    """A span but for its ids, times and values.

    Args:
        length: of all but the values.
        pieces: its holes, empty, and what lies between them.
    """

    length: int
    pieces: Pieces


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
        self._forms: dict[tuple[tuple[Varying, ...], bool, bool, int], Form] = {}
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
        trace, flags = batch.trace, batch.decision.trace_flags
        groups: dict[tuple[Any, ...], list[Span]] = {}
        last = spans[-1]
        for span in spans:
            link = span.link
            if (
                type(span.attributes) is not SharedAttributes
                or span.error is not None
                or span.points
                or span.notes
                or (link is not None and (link.trace is not trace or link.remote))
            ):
                rest.append(span)
                continue
            alike = (span is last, link is not None, span.parent is None, *(span.values or ()))
            group = groups.get(alike)
            if group is None:
                group = groups[alike] = []
            group.append(span)
        has_outer = trace.parent is not None
        return [
            self._encode_alike(
                trace, self.form((*keys,), linked, is_root and not has_outer, flags), group
            )
            for (_, linked, is_root, *keys), group in groups.items()
        ]

    def _encode_alike(self, trace: Trace, form: Form, spans: list[Span]) -> bytes:
        """Return spans of one form, for all of which there are templates."""
        language, offset = self.language, trace.clock_offset
        above: list[Any] = [None] * len(spans)
        parents: Pieces = (b"",) * len(spans)
        if not form.outermost:
            above = [span.parent or trace.parent for span in spans]
            parents = language.span_ids([parent.span_id for parent in above])
        templates = [
            self._template_of(span, form, parent) for span, parent in zip(spans, above, strict=True)
        ]
        pieces = [*chain.from_iterable([template.pieces for template in templates])]
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

    def form(self, keys: tuple[Varying, ...], linked: bool, outermost: bool, flags: int) -> Form:
        """Return the form of which these are, always the same one."""
        alike = keys, linked, outermost, flags
        form = self._forms.get(alike)
        if form is None:
            form = self._forms[alike] = Form(*alike)
        return form

    def template(self, like: Prototype, form: Form, remote: bool = False) -> Template:
        """Return what all spans have that are `like`. What was made for attributes that are one place's is not kept.

        Args:
            like: what they have in common.
            form: of them.
            remote: whether the span that they hang below is another process's.
        """
        if type(like.attributes) is not SharedAttributes:
            return self._make_template(like, form, remote)
        templates = self._templates(like.attributes)
        key = (like.name, like.kind, form, remote)
        template = templates.get(key)
        if template is None:
            template = templates[key] = self._make_template(like, form, remote)
        return template

    def _template_of(self, span: Span, form: Form, above: Span | OuterParent | None) -> Template:
        """Return `template` of what `span` is like, whose attributes are shared."""
        remote = above is not None and above.remote
        template = self._templates(span.attributes).get(  # type: ignore[arg-type]
            (span.name, span.kind, form, remote)
        )
        if template is None:
            like = Prototype(span.name, span.phase, span.kind, span.attributes, form.keys)
            template = self.template(like, form, remote)
        return template

    def _templates(self, attributes: SharedAttributes) -> _Templates:
        kept: _Templates | None = attributes.encoded
        if kept is None or kept.maker is not self._maker:
            kept = attributes.encoded = _Templates(self._maker)
        return kept

    def _make_template(self, like: Prototype, form: Form, remote: bool) -> Template:
        specimen = Specimen(like, None if form.outermost else remote)
        if form.linked:
            specimen.add_link()
        batch = RecordSpans([specimen.root], Decision(form.flags, None), self._tracer, self._scope)
        encoded = self.language.opened(self._encode_anew(batch, [specimen.span]))
        varies = specimen.varies(self.language, self.attributes)
        *_, values = varies[:6]
        self._made += 1
        if not self._made % _TEMPLATES_AT_ONCE:
            pause()
        return Template(len(encoded) - len(values), woven(form, cut(encoded, varies)))

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
