"""Reads spans from OTLP JSON, one request a line, the format of the collector's file exporter.

Each line is one ``ExportTraceServiceRequest`` as JSON (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
A line that is in order is read in bulk, into structures whose fields are known beforehand: attributes stay bytes, for
the same bytes have nearly always been read before. Any other is read once more, span by span, by `json_entries`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from otel_torch_modules._printable import printable
from otel_torch_modules._reading.arrivals import Arrivals, Columns, id_number
from otel_torch_modules._reading.damage import Damage
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
# A number that varies would make all attributes of each span new: it is read by itself.
_DOUBLE = re.compile(
    rb'\{"key":"(torch\.[a-z_.]+)","value":\{"doubleValue":(-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\}\},?'
)
_NO_LIST = (b"", b"null", b"[]")
_NO_OBJECT = (b"", b"null", b"{}")


class _Link(msgspec.Struct):
    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815


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
_decode_links = msgspec.json.Decoder(list[_Link]).decode


class JsonReader:
    """Reads requests of one source into `arrivals`; what of them is no span is told to `damage`."""

    def __init__(self, arrivals: Arrivals, damage: Damage) -> None:
        self._arrivals = arrivals
        self._damage = damage
        # Site and what else the attributes say, by name and their bytes.
        self._known: dict[tuple[str, bytes], tuple[int, Remark | None]] = {}
        self._processes: dict[bytes, int] = {}

    def read(self, number: int, line: bytes) -> None:
        """Read the request that is the one numbered `number`, from 1 on, of its source."""
        try:
            blocks = [
                (process, spans)
                for of_resource in _decode(line).resourceSpans or ()
                for process in (self._process(bytes(of_resource.resource)),)
                for of_scope in of_resource.scopeSpans or ()
                for spans in _by_trace(of_scope.spans or ())
            ]
            parsed = [(spans, *self._parsed(process, spans)) for process, spans in blocks]
        except (ValueError, OverflowError, RecursionError, MalformedError):
            read_entries(number, line, self._arrivals, self._damage)
            return
        for spans, columns, remarks in parsed:
            self._append(spans[0].traceId, columns, remarks)

    def _process(self, resource: bytes) -> int:
        number = self._processes.get(resource)
        if number is None:
            about = resource_of({} if resource in _NO_OBJECT else json.loads(resource) or {})
            number = self._processes[resource] = self._arrivals.process(about)
        return number

    def _parsed(self, process: int, spans: list[_Span]) -> tuple[Columns, dict[int, Remark]]:
        columns = Columns()
        columns.span_ids.extend([int(span.spanId, 16) for span in spans])
        columns.parent_ids.extend([int(span.parentSpanId or "0", 16) for span in spans])
        columns.starts.extend([span.startTimeUnixNano for span in spans])
        columns.ends.extend([span.endTimeUnixNano for span in spans])
        if not all(columns.span_ids):
            raise MalformedError
        keys = [(span.name, bytes(span.attributes)) for span in spans]
        found = [self._known.get(key) or self._learn(key) for key in keys]
        columns.sites.extend([site for site, _ in found])
        columns.processes.extend([process] * len(spans))
        for at, span in enumerate(spans):
            if bytes(span.links) not in _NO_LIST:
                link_id = _link_of(span)
                if link_id:
                    columns.link(at, link_id)
        remarks = {at: remark for at, (_, remark) in enumerate(found) if remark is not None}
        for at, span in enumerate(spans):
            if bytes(span.status) not in _NO_OBJECT or bytes(span.events) not in _NO_LIST:
                remarks[at] = _with_end(remarks.get(at), span)
        return columns, remarks

    def _learn(self, key: tuple[str, bytes]) -> tuple[int, Remark | None]:
        name, content = key
        if b"doubleValue" in content:
            doubles = _DOUBLE.findall(content)
            without = _DOUBLE.sub(b"", content)
            rest = (name, without[:-2] + b"]" if without.endswith(b",]") else without)
            if doubles:
                site, remark = self._known.get(rest) or self._learn(rest)
                varying: dict[str, Any] = {key.decode(): float(value) for key, value in doubles}
                return site, Remark({**(remark.attributes if remark else {}), **varying})
        pairs = [] if content in _NO_LIST else json.loads(content)
        site, varying = self._arrivals.site(printable(name), attributes_of(pairs))
        if len(self._known) == _MOST_KNOWN:
            self._known.clear()
        found = self._known[key] = (site, Remark(varying) if varying else None)
        return found

    def _append(self, trace_id: str, block: Columns, remarks: Mapping[int, Remark]) -> None:
        trace_id = printable(trace_id)
        columns = self._arrivals.columns(trace_id)
        first = len(columns)
        columns.span_ids.extend(block.span_ids)
        columns.parent_ids.extend(block.parent_ids)
        columns.starts.extend(block.starts)
        # A host's clock may have been set back between them.
        columns.ends.extend(map(max, block.starts, block.ends))
        columns.sites.extend(block.sites)
        columns.processes.extend(block.processes)
        if block.link_ids:
            columns.link_ids.extend([0] * (first - len(columns.link_ids)))
            columns.link_ids.extend(block.link_ids)
        for at, remark in remarks.items():
            self._arrivals.remark(columns, first + at, remark)
        self._arrivals.count += len(block)
        self._arrivals.last = trace_id, columns.ends[-1]


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


def _link_of(span: _Span) -> int:
    try:
        links = _decode_links(span.links)
    except ValueError:  # odd ones, which are no fault of the span's
        return link_of(json.loads(bytes(span.links)), span.traceId)
    ours = (link.spanId for link in links if link.traceId == span.traceId)
    first = next(ours, "")
    return id_number(first) if first else 0


def _with_end(remark: Remark | None, span: _Span) -> Remark:
    """Return the remark of a span that has a status or events."""
    status, events = (
        None if raw in nothing else json.loads(raw)
        for raw, nothing in (
            (bytes(span.status), _NO_OBJECT),
            (bytes(span.events), _NO_LIST),
        )
    )
    return end_of({"status": status, "events": events}, remark or Remark({}))
