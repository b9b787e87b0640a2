"""Reads spans from OTLP JSON lines, the format of the collector's file exporter.

Each line is one ``ExportTraceServiceRequest`` as JSON (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
Nothing that stands there is believed: a line that is no such request, or a span that is none, is left out and
counted, and every text is printable once it has been read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._printable import printable
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.damage import Damage, Place
from otel_torch_modules.cli.span_node import SpanNode

_STATUS_ERROR = 2
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_MOST_NS = 1 << 64
_NO_ID = "0" * 16
_PROCESS = ("service.instance.id", "host.name", "process.pid")
# What a line that was torn, or glued to another one, still says of the spans in it.
_REQUEST = re.compile(r'(?=\{\s*"resourceSpans")')
_TRACE_ID = re.compile(r'"traceId"\s*:\s*"([^"]*)"')
_START = re.compile(r'"startTimeUnixNano"\s*:\s*"?([0-9]{1,20})["\s,}]')


def read_spans(path: Path) -> tuple[list[SpanNode], Damage]:
    """Return the spans of a file, and what of it is no span.

    Raises:
        CommandError: the file cannot be read, or there is no span in it at all.
    """
    spans: list[SpanNode] = []
    damage = Damage(printable(str(path)))
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    _read_line(number, line, spans, damage)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    if not spans and damage.lines:
        raise CommandError(f"{path}: line {damage.lines[0]} is not an OTLP JSON trace request")
    if not spans and damage.spans:
        raise CommandError(f"{path} holds no span that can be read, {damage.spans} malformed")
    if not spans:
        raise CommandError(f"{path} is empty: no trace has been written to it yet")
    return spans, damage


class _MalformedError(Exception):
    """This is not OTLP."""


def _read_line(number: int, line: str, spans: list[SpanNode], damage: Damage) -> None:
    try:
        entries = list(_entries(json.loads(line)))
    except (ValueError, RecursionError, _MalformedError):
        damage.lines.append(number)
        damage.cut_off = not line.endswith("\n")
        before = [Place(last.trace_id, last.end) for last in spans[-1:]]
        for part in filter(None, _REQUEST.split(line)):
            # A few bytes alone say nothing of their span: it came after the last one before.
            before = _places(part) or before[-1:]
            damage.places += before
        return
    for process, entry in entries:
        try:
            spans.append(_span(entry, process))
        except (RecursionError, _MalformedError):
            damage.spans += 1
            damage.places += _places(json.dumps(_without_attributes(entry)))


def _places(line: str) -> list[Place]:
    found = list(_TRACE_ID.finditer(line))
    places = []
    for this, following in zip_longest(found, found[1:]):
        start = _START.search(
            line, this.end(), len(line) if following is None else following.start()
        )
        if start:
            places.append(Place(printable(this[1]), int(start[1])))
        elif following is None:  # before others it is a link's
            places.append(Place(printable(this[1]), None))
    return places


def _without_attributes(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return None
    return {key: entry.get(key) for key in ("traceId", "startTimeUnixNano")}


def _entries(request: Any) -> Iterator[tuple[str, Any]]:
    """Yield what stands in the place of each span, with the process that sent it."""
    if not isinstance(request, dict) or "resourceSpans" not in request:
        raise _MalformedError
    for of_resource in _array(request, "resourceSpans"):
        about = _attributes(_array(_object(of_resource, "resource"), "attributes"))
        process = next((str(about[key]) for key in _PROCESS if about.get(key)), "")
        for of_scope in _array(of_resource, "scopeSpans"):
            for entry in _array(of_scope, "spans"):
                yield process, entry


def _span(entry: Any, process: str) -> SpanNode:
    start, end = (_time(entry, key) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    parent_id = _text(entry, "parentSpanId")
    return SpanNode(
        trace_id=_id(entry, "traceId"),
        span_id=_id(entry, "spanId"),
        parent_id="" if parent_id == _NO_ID else parent_id,
        name=_text(entry, "name"),
        start=start,
        end=max(start, end),  # a host's clock may have been set back between them
        attributes=_attributes(_array(entry, "attributes")),
        process=process,
        failed=_object(entry, "status").get("code") == _STATUS_ERROR,
        exception=_exception(_array(entry, "events")),
    )


def _exception(events: Iterable[Any]) -> str:
    said = ""
    for event in events:
        if _text(event, "name") == semconv.EXCEPTION_EVENT:
            about = {
                _text(pair, "key"): _object(pair, "value").get("stringValue")
                for pair in _array(event, "attributes")
            }
            parts = (about.get(semconv.EXCEPTION_TYPE), about.get(semconv.EXCEPTION_MESSAGE))
            lines = (part.strip().splitlines()[:1] for part in parts if isinstance(part, str))
            said = printable(": ".join(line for first in lines for line in first))
    return said


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
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
                raise _MalformedError
            return number
        if kind == "doubleValue" and isinstance(content, (int, float, str)):
            return _double(content)
        if kind == "arrayValue":
            return [_value(_as_object(item)) for item in _array(content, "values")]
        if kind == "kvlistValue":
            return _attributes(_array(content, "values"))
        raise _MalformedError
    return None


def _array(of: Any, key: str) -> list[Any]:
    """Return a repeated field; as everywhere in protobuf's JSON, null is as good as nothing."""
    value = _as_object(of).get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _MalformedError
    return value


def _object(of: Any, key: str) -> dict[str, Any]:
    return _as_object(_as_object(of).get(key) or {})


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _MalformedError
    return value


def _text(of: Any, key: str) -> str:
    value = _as_object(of).get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _MalformedError
    return printable(value)


def _id(of: Any, key: str) -> str:
    value = _text(of, key)
    if not value:
        raise _MalformedError
    return value


def _time(of: Any, key: str) -> int:
    value = _integer(_as_object(of).get(key))
    if not 0 <= value < _MOST_NS:
        raise _MalformedError
    return value


def _integer(value: Any) -> int:
    """Return a 64-bit integer: a string, or a number of JSON's."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _MalformedError


def _double(value: float | str) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise _MalformedError from None
