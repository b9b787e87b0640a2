"""Reads what stands in a request of OTLP JSON one by one.

Nothing that stands there is believed: a line that is no such request, or a span that is none, is left out and
counted, and every text is printable once it has been read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._printable import printable
from otel_torch_modules._reading.arrivals import Arrivals, id_number
from otel_torch_modules._reading.damage import Damage, MissingSpan
from otel_torch_modules._reading.json_documents import loads
from otel_torch_modules._reading.other_signals import FIELDS, signal_of_json
from otel_torch_modules._trace import Remark

STATUS_ERROR = 2
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,20}(\.0*)?([eE]\+?[0-9]{1,2})?", re.ASCII)
_MOST_NS = 1 << 64
# What a line that was torn, or glued to another one, still says of the spans in it.
_REQUEST = re.compile(rf'(?=\{{\s*"(?:resourceSpans|{"|".join(FIELDS)})")')
_OF_OTHER_SIGNAL = re.compile(rf'\{{\s*"(?:{"|".join(FIELDS)})"')
_TRACE_ID = re.compile(r'"traceId"\s*:\s*"([^"]*)"')
_START = re.compile(r'"startTimeUnixNano"\s*:\s*"?([0-9]{1,20})["\s,}]')


class MalformedError(Exception):
    """This is not OTLP."""


def read_entries(number: int, line: bytes, arrivals: Arrivals, damage: Damage) -> None:
    """Read the request that is the one numbered `number` of its source."""
    text = line.decode("utf-8", "replace")
    try:
        request = loads(text)
        signal = signal_of_json(request)
        if signal is not None and "resourceSpans" not in request:
            damage.other_signals.add(signal)
            return
        entries = list(_entries(request))
    except (ValueError, RecursionError, MalformedError):
        damage.requests.append(number)
        before = [] if arrivals.last is None else [MissingSpan(*arrivals.last)]
        for part in filter(None, _REQUEST.split(text)):
            if _OF_OTHER_SIGNAL.match(part):
                continue
            # A few bytes alone say nothing of their span: it came after the last one before.
            before = _places(part) or before[-1:]
            damage.places += before
        return
    for process, entry in entries:
        try:
            _read_span(entry, arrivals.process(process), arrivals)
        except (RecursionError, MalformedError):
            damage.spans += 1
            damage.places += _places(json.dumps(_without_attributes(entry)))


def _places(line: str) -> list[MissingSpan]:
    found = list(_TRACE_ID.finditer(line))
    places = []
    for this, following in zip_longest(found, found[1:]):
        start = _START.search(
            line, this.end(), len(line) if following is None else following.start()
        )
        if start:
            places.append(MissingSpan(printable(this[1]), int(start[1])))
        elif following is None:  # before others it is a link's
            places.append(MissingSpan(printable(this[1]), None))
    return places


def _without_attributes(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return None
    return {key: entry.get(key) for key in ("traceId", "startTimeUnixNano")}


def _entries(request: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield what stands in the place of each span, with the process that sent it."""
    if not isinstance(request, dict) or (request and "resourceSpans" not in request):
        raise MalformedError
    for of_resource in _array(request, "resourceSpans"):
        for of_scope in _array(of_resource, "scopeSpans"):
            entries = _array(of_scope, "spans")
            if entries:  # else it is nobody's
                process = resource_of(_object(of_resource, "resource"))
                yield from ((process, entry) for entry in entries)


def resource_of(resource: Any) -> dict[str, Any]:
    """Return the attributes of a resource."""
    return attributes_of(_array(resource, "attributes"))


def _read_span(entry: Any, process: int, arrivals: Arrivals) -> None:
    start, end = (_time(entry, key) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    parent_id = _text(entry, "parentSpanId")
    trace_id, span_id = (_id(entry, key) for key in ("traceId", "spanId"))
    attributes = attributes_of(_array(entry, "attributes"))
    name = _text(entry, "name")
    remark = end_of(entry, Remark({}))
    site, varying = arrivals.site(name, attributes)
    arrivals.add(
        trace_id,
        id_number(span_id),
        id_number(parent_id) if parent_id.strip("0") else 0,
        start,
        end,
        process,
        site,
        remark._replace(attributes=varying),
        link_of(entry.get("links"), entry["traceId"]),
    )


def end_of(entry: Any, remark: Remark) -> Remark:
    """Return the remark with how the span ended."""
    return remark._replace(
        failed=_object(entry, "status").get("code") == STATUS_ERROR,
        exception=_exception(_array(entry, "events")),
    )


def link_of(links: Any, trace_id: str) -> int:
    """Return the id of the span of the same trace that a span links to first, 0 for none: no span needs one."""
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("traceId") == trace_id:
            span_id = link.get("spanId")
            return id_number(span_id) if isinstance(span_id, str) and span_id else 0
    return 0


def _exception(events: Iterable[Any]) -> str:
    said = ""
    for event in events:
        if _text(event, "name") == semconv.EXCEPTION_EVENT:
            about = {
                _text(pair, "key"): _object(pair, "value").get("stringValue")
                for pair in _array(event, "attributes")
            }
            said = exception_text(
                about.get(semconv.EXCEPTION_TYPE), about.get(semconv.EXCEPTION_MESSAGE)
            )
    return said


def exception_text(*parts: Any) -> str:
    """Return the first lines of an exception's type and message."""
    lines = (part.strip().splitlines()[:1] for part in parts if isinstance(part, str))
    return printable(": ".join(line for first in lines for line in first))


def attributes_of(pairs: Iterable[Any]) -> dict[str, Any]:
    """Return attributes of OTLP as a mapping.

    Raises:
        MalformedError: they are none.
    """
    if not isinstance(pairs, list):
        raise MalformedError
    return {_text(pair, "key"): _value(_object(pair, "value")) for pair in pairs}


def _value(value: dict[str, Any]) -> Any:
    """Return an ``AnyValue``, None where it says nothing."""
    for kind, content in value.items():
        if kind in ("stringValue", "bytesValue") and isinstance(content, str):
            return printable(content)
        if kind == "boolValue" and isinstance(content, bool):
            return content
        if kind == "intValue":
            number = _integer(content)
            if not -(1 << 63) <= number < 1 << 63:
                raise MalformedError
            return number
        if kind == "doubleValue" and isinstance(content, (int, float, str)):
            return _double(content)
        if kind == "arrayValue":
            return [_value(_as_object(item)) for item in _array(content, "values")]
        if kind == "kvlistValue":
            return attributes_of(_array(content, "values"))
        raise MalformedError
    return None


def _array(of: Any, key: str) -> list[Any]:
    """Return a repeated field; as everywhere in protobuf's JSON, null is as good as nothing."""
    value = _as_object(of).get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedError
    return value


def _object(of: Any, key: str) -> dict[str, Any]:
    return _as_object(_as_object(of).get(key) or {})


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError
    return value


def _text(of: Any, key: str) -> str:
    value = _as_object(of).get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedError
    return printable(value)


def _id(of: Any, key: str) -> str:
    value = _text(of, key)
    if not value:
        raise MalformedError
    return value


def _time(of: Any, key: str) -> int:
    value = _integer(_as_object(of).get(key))
    if not 0 <= value < _MOST_NS:
        raise MalformedError
    return value


def _integer(value: Any) -> int:
    """Return a 64-bit integer: a number of JSON's, or one in a string."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise MalformedError


def _double(value: float | str) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise MalformedError from None
