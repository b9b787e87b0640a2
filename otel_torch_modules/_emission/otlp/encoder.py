"""OTLP from spans of ours, at a twentieth of what the standard encoder costs.

The spans of one place in the program differ in nothing but ids, times and values that vary. So the standard encoder
encodes one of them, with ids, times and values that occur nowhere else, and what lies between these is kept: it is the
same in all others. Whatever the standard encoder would write is thereby what is written here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.otlp.language import Language, Pieces, cut
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.otlp.specimen import Specimen
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._records import Varying
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import SharedAttributes, Span, Trace

_NO_RESOURCE = Resource.get_empty()


class Template(NamedTuple):
    """A span but for its ids, times and values.

    Args:
        length: of all but the values.
        pieces: what lies before, between and after: trace id, own id, parent's id, start, end, values.
        link_pieces: the two more where there is a link.
    """

    length: int
    pieces: Pieces
    link_pieces: Pieces


class _Templates(dict[Hashable, Template]):
    """Those of the spans with the attributes that they are kept on."""

    __slots__ = ("maker",)

    def __init__(self, maker: object) -> None:
        super().__init__()
        self.maker = maker  # what another encoder made is of no use


class SpanEncoder:
    """Encodes the spans of one resource and scope.

    Args:
        tracer: whose spans they are.
        scope: their instrumentation scope.
        language: in which they are written.
        maker: what templates are kept for, the same for encoders that are used side by side.
    """

    def __init__(
        self,
        tracer: Tracer,
        scope: InstrumentationScope,
        language: Language,
        maker: object = None,
    ) -> None:
        self.language = language
        self.resource = tracer.resource
        self._tracer = tracer
        self._limits = Limits.of(tracer)
        self._scope = scope
        self._maker = maker or object()  # not the encoder: what is encoded may outlive it
        span = Span(Trace(1, 0, 0, None, None), None, "", "", 0, 1, 1, {})
        batch = RecordSpans([span], Decision(0, None), tracer, scope)
        self._resource_part, self._scope_part = language.around(batch.finished(span))

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
        """Return `spans`, all of `batch` and none of them the program's doing, for `request`; the last comes last."""
        if not self.has_templates(batch.decision):
            return self._encode_anew(batch, spans)
        rest: list[Span] = []
        encoded = self._encode_known(batch, spans, rest)
        if rest:
            anew = self._encode_anew(batch, rest)
            encoded = [*encoded, anew] if rest[-1] is spans[-1] else [anew, *encoded]
        return self.language.between.join(encoded)

    def _encode_known(
        self, batch: RecordSpans, spans: Iterable[Span], rest: list[Span]
    ) -> list[bytes]:
        """Return the spans that there are templates for, and put the others into `rest`."""
        trace = batch.trace
        known: list[Span] = []
        parents: list[int] = []
        linked: list[int] = []
        columns: dict[Varying, list[Any]] = {}
        for span in spans:
            link = span.link
            if (
                type(span.attributes) is not SharedAttributes
                or span.error is not None
                or span.points
                or (link is not None and (link.trace is not trace or link.remote))
            ):
                rest.append(span)
                continue
            known.append(span)
            above = trace.parent if span.parent is None else span.parent
            parents.append(0 if above is None else above.span_id)
            if link is not None:
                linked.append(link.span_id)
            for key, value in (span.values or {}).items():
                columns.setdefault(key, []).append(value)
        language, offset = self.language, trace.clock_offset
        trace_id = language.trace_id(trace.trace_id)
        linked_ids = iter(language.span_ids(linked))
        written = {key: iter(self.attributes(key, column)) for key, column in columns.items()}
        said = [
            b"".join([next(written[key]) for key in span.values]) if span.values else b""
            for span in known
        ]
        flags = batch.decision.trace_flags
        templates = [self._template_of(span, flags) for span in known]
        lengths = [
            template.length + len(values) for template, values in zip(templates, said, strict=True)
        ]
        encoded: list[bytes] = []
        for span, template, opening, own_id, parent_id, start, end, values in zip(
            known,
            templates,
            language.openings(lengths),
            language.span_ids([span.span_id for span in known]),
            language.span_ids(parents),
            language.times([span.start + offset for span in known]),
            language.times([span.end + offset for span in known]),
            said,
            strict=True,
        ):
            first, to_id, to_parent, to_start, to_end, to_values, after = template.pieces
            if span.parent is None and trace.parent is None:
                parent_id = b""
            # fmt: off
            pieces = [opening, first, trace_id, to_id, own_id, to_parent, parent_id,
                      to_start, start, to_end, end, to_values, values, after]
            # fmt: on
            if span.link is not None:
                to_linked, last = template.link_pieces
                pieces += trace_id, to_linked, next(linked_ids), last
            encoded.append(b"".join(pieces))
        return encoded

    def attributes(self, key: Varying, values: Sequence[Any]) -> list[bytes]:
        """Return what varies of spans as they are written, as far as limits leave it."""
        if key.type in (str, tuple) and self._limits.bind_attributes:
            values = [None if value is None else self._limits.cut(value) for value in values]
        return self.language.attributes(key, values)

    def request(self, encoded: Iterable[bytes], span_count: int) -> EncodedRequest:
        """Return the request that sends what `encode` returned."""
        data = self.language.request(self._resource_part, self._scope_part, encoded)
        return EncodedRequest(data, span_count)

    def template(
        self, like: Prototype, linked: bool, flags: int, above: bool | None = False
    ) -> Template:
        """Return what all spans have that are `like`. What was made for attributes that are one place's is not kept.

        Args:
            like: what they have in common.
            linked: whether they have a link, to one of the same trace.
            flags: the trace flags.
            above: whether the span that they hang below is another process's; None where there is none.
        """
        if type(like.attributes) is not SharedAttributes:
            return self._make_template(like, linked, flags, above)
        templates = self._templates(like.attributes)
        key = (like.name, like.kind, like.values, linked, flags, above, self.language.name)
        template = templates.get(key)
        if template is None:
            template = templates[key] = self._make_template(like, linked, flags, above)
        return template

    def _template_of(self, span: Span, flags: int) -> Template:
        """Return `template` of what `span` is like, whose attributes are shared."""
        keys = (*span.values,) if span.values else ()
        parent, linked = span.parent, span.link is not None
        above = _outer(span) if parent is None else parent.remote
        key = (span.name, span.kind, keys, linked, flags, above, self.language.name)
        template = self._templates(span.attributes).get(key)  # type: ignore[arg-type]
        if template is None:
            like = Prototype(span.name, span.phase, span.kind, span.attributes, keys)
            template = self.template(like, linked, flags, above)
        return template

    def _templates(self, attributes: SharedAttributes) -> _Templates:
        kept: _Templates | None = attributes.encoded
        if kept is None or kept.maker is not self._maker:
            kept = attributes.encoded = _Templates(self._maker)
        return kept

    def _make_template(
        self, like: Prototype, linked: bool, flags: int, above: bool | None
    ) -> Template:
        specimen = Specimen(like, above)
        if linked:
            specimen.add_link()
        batch = RecordSpans([specimen.root], Decision(flags, None), self._tracer, self._scope)
        encoded = self.language.opened(self._encode_anew(batch, [specimen.span]))
        varies = specimen.varies(self.language, self.attributes)
        pieces = [*cut(encoded, varies)]
        if above is None:
            pieces.insert(2, b"")
        length = len(encoded)
        if like.values:
            length -= len(varies[4 if above is None else 5])
        else:
            pieces.insert(6, b"")
        return Template(length, (*pieces[:7],), (*pieces[7:],))

    def _encode_anew(self, batch: RecordSpans, spans: Iterable[Span]) -> bytes:
        # Without a resource: the encoder would encode it each time, at twice the cost of a span.
        return self.language.encode([batch.finished(span, _NO_RESOURCE) for span in spans])


def _outer(root: Span) -> bool | None:
    """Return whether what a root hangs below is another process's; None where there is nothing."""
    return None if root.trace.parent is None else root.trace.parent.is_remote
