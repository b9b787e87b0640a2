"""Reads spans from OTLP JSON, one request a line, the format of the collector's file exporter.

Each line is one ``ExportTraceServiceRequest`` as JSON (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
A line that is in order is read in bulk, into structures whose fields are known beforehand: attributes stay bytes, for
the same bytes have nearly always been read before. Any other is read once more, span by span, by `json_entries`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from otel_torch_modules._printable import printable
from otel_torch_modules._reading.arrivals import Arrivals, Columns, are_measures, id_number
from otel_torch_modules._reading.damage import Damage
from otel_torch_modules._reading.json_documents import loads
from otel_torch_modules._reading.json_entries import (
    MalformedError,
    attributes_of,
    end_of,
    link_of,
    read_entries,
    resource_of,
)
from otel_torch_modules._trace import Remark

_MOST_KNOWN = 1 << 16
_DOUBLE = b'{"doubleValue":'
_NO_LIST = (b"", b"null", b"[]")
_NO_OBJECT = (b"", b"null", b"{}")


class _Span(msgspec.Struct):
    traceId: str  # noqa: N815, as OTLP spells it
    spanId: str  # noqa: N815
    startTimeUnixNano: int  # noqa: N815
    endTimeUnixNano: int  # noqa: N815
    name: str = ""
    parentSpanId: str | None = None  # noqa: N815
    attributes: msgspec.Raw = msgspec.Raw()
    events: msgspec.Raw = msgspec.Raw()
    status: msgspec.Raw = msgspec.Raw()
    links: msgspec.Raw = msgspec.Raw()


class _Scope(msgspec.Struct):
    spans: list[_Span] | None = None


class _Resource(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()
    scopeSpans: list[_Scope] | None = None  # noqa: N815


class _Request(msgspec.Struct):
    resourceSpans: list[_Resource] | None  # noqa: N815


# Times are numbers of 64 bits, which JSON has as strings.
_decode = msgspec.json.Decoder(_Request, strict=False).decode


class _Known(NamedTuple):
    """What attributes say, whatever numbers stand in them."""

    site: int
    remark: Remark | None  # what of the rest varies
    doubles: tuple[str, ...]  # whose numbers these are


class JsonReader:
    """Reads requests of one source into `arrivals`; what of them is no span is told to `damage`."""

    def __init__(self, arrivals: Arrivals, damage: Damage) -> None:
        self._arrivals = arrivals
        self._damage = damage
        # By name and the bytes of attributes, without their numbers; None where these are no columns of ours.
        self._known: dict[tuple[str, tuple[bytes, ...]], _Known | None] = {}
        # Of nearly all: what stands before and after the only number, if there is one; site, and whose number it is.
        self._usual: dict[tuple[str, bytes, bytes], tuple[int, str]] = {}
        self._processes: dict[bytes, int] = {}

    def read(self, number: int, line: bytes) -> None:
        """Read the request that is the one numbered `number`, from 1 on, of its source."""
        try:
            blocks = [
                (self._process(bytes(of_resource.resource)), spans)
                for of_resource in _decode(line).resourceSpans or ()
                for of_scope in of_resource.scopeSpans or ()
                for spans in _by_trace(of_scope.spans or ())
            ]
            parsed = [(spans[0].traceId, self._block(process, spans)) for process, spans in blocks]
        except (ValueError, OverflowError, RecursionError, MalformedError):
            read_entries(number, line, self._arrivals, self._damage)
            return
        for trace_id, block in parsed:
            self._arrivals.add_block(printable(trace_id), block)

    def _process(self, resource: bytes) -> int:
        number = self._processes.get(resource)
        if number is None:
            about = resource_of({} if resource in _NO_OBJECT else loads(resource) or {})
            number = self._processes[resource] = self._arrivals.process(about)
        return number

    def _block(self, process: int, spans: list[_Span]) -> Columns:
        columns = Columns()
        columns.span_ids.extend([int(span.spanId, 16) for span in spans])
        columns.parent_ids.extend([int(span.parentSpanId or "0", 16) for span in spans])
        columns.starts.extend([span.startTimeUnixNano for span in spans])
        columns.ends.extend([span.endTimeUnixNano for span in spans])
        if not all(columns.span_ids):
            raise MalformedError
        columns.processes.extend([process] * len(spans))
        for at, span in enumerate(spans):
            content = bytes(span.attributes)
            before, _, after = content.partition(_DOUBLE)
            number, _, after = after.partition(b"}")
            usual = self._usual.get((span.name, before, after))
            if usual is None:
                self._read_attributes(columns, at, span.name, content)
            else:
                site, double = usual
                columns.sites.append(site)
                if double:
                    columns.measure_or_say(at, double, float(number))
            links = bytes(span.links)
            if links not in _NO_LIST:
                link_id = _link_of(links, span.traceId)
                if link_id:
                    columns.link(at, link_id)
            if bytes(span.status) not in _NO_OBJECT or bytes(span.events) not in _NO_LIST:
                columns.remarks[at] = _with_end(columns.remarks.get(at), span)
        return columns

    def _read_attributes(self, columns: Columns, at: int, name: str, content: bytes) -> None:
        pieces, numbers = _numbers_apart(content)
        key = (name, pieces)
        known = self._known[key] if key in self._known else self._learn(key)
        if known is None:
            site, varying = self._arrivals.site(printable(name), attributes_of(loads(content)))
            columns.sites.append(site)
            columns.remarks[at] = Remark(varying)
            return
        columns.sites.append(known.site)
        if known.remark is not None:
            columns.remarks[at] = known.remark
        for double, number in zip(known.doubles, numbers, strict=True):
            columns.measure_or_say(at, double, number)

    def _learn(self, key: tuple[str, tuple[bytes, ...]]) -> _Known | None:
        """Find out what these attributes say, with the numbers 0, 1, 2 … where numbers stand."""
        name, (first, *others) = key
        numbered = [b"%b%d}%b" % (_DOUBLE, at, rest) for at, rest in enumerate(others)]
        content = b"".join([first, *numbered])
        attributes = {} if content in _NO_LIST else attributes_of(loads(content))
        doubles = [key for key, value in attributes.items() if isinstance(value, float)]
        values = [attributes.pop(key) for key in doubles]
        known = None
        if values == [*range(len(others))] and are_measures(doubles):
            site, varying = self._arrivals.site(printable(name), attributes)
            known = _Known(site, Remark(varying) if varying else None, tuple(doubles))
        if len(self._known) == _MOST_KNOWN:
            self._known.clear()
            self._usual.clear()
        self._known[key] = known
        if known is not None and known.remark is None and len(others) < 2:
            after = others[0] if others else b""
            self._usual[name, first, after] = known.site, "".join(known.doubles)
        return known


def _numbers_apart(content: bytes) -> tuple[tuple[bytes, ...], list[float]]:
    """Return what stands around the numbers of attributes, and these; all in one piece where one of them is none.

    A number that varies would make all attributes of each span new.
    """
    first, *parts = content.split(_DOUBLE)
    pieces, numbers = [first], []
    try:
        for part in parts:
            number, _, rest = part.partition(b"}")
            numbers.append(float(number))
            pieces.append(rest)
    except ValueError:
        return (content,), []
    return tuple(pieces), numbers


def _by_trace(spans: list[_Span] | tuple[()]) -> list[list[_Span]]:
    traces: dict[str, list[_Span]] = {}
    for span in spans:
        of_trace = traces.get(span.traceId)
        if of_trace is None:
            if not span.traceId:
                raise MalformedError
            traces[span.traceId] = [span]
        else:
            of_trace.append(span)
    return list(traces.values())


def _link_of(content: bytes, trace_id: str) -> int:
    # As we write them; JSON would spell anything but the digits otherwise.
    start, _, rest = content.partition(b'"spanId":"')
    if start == b'[{"traceId":"%b",' % trace_id.encode() and rest[16:17] == b'"':
        return id_number(rest[:16].decode())
    return link_of(loads(content), trace_id)


def _with_end(remark: Remark | None, span: _Span) -> Remark:
    """Return the remark of a span that has a status or events."""
    status, events = (
        None if raw in nothing else loads(raw)
        for raw, nothing in (
            (bytes(span.status), _NO_OBJECT),
            (bytes(span.events), _NO_LIST),
        )
    )
    return end_of({"status": status, "events": events}, remark or Remark({}))
