"""Reads whole traces back through Jaeger's query API, version 3, as trees of plain objects."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

KINDS = {0: "UNSPECIFIED", 1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
STATUSES = {0: "UNSET", 1: "OK", 2: "ERROR"}
ARRIVAL_LIMIT = 30  # seconds

Item = TypeVar("Item")


@dataclass
class Link:
    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass
class Event:
    name: str
    time: int
    attributes: dict[str, Any]


@dataclass
class StoredSpan:
    """A span as the backend has it; times are nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str
    status: str
    status_message: str
    events: list[Event]
    links: list[Link]
    children: list[StoredSpan] = field(default_factory=list, repr=False)

    def walk(self) -> Iterator[StoredSpan]:
        """Yield this span and all below it, parents before children, children in order of time."""
        yield self
        for child in self.children:
            yield from child.walk()

    def outline(self) -> list[str]:
        """Return the names of the tree, one a line, indented by depth."""
        lines = [self.name]
        for child in self.children:
            lines += ["  " + line for line in child.outline()]
        return lines


class JaegerQuery:
    """Jaeger's `/api/v3` at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def roots(self, trace_id: str) -> list[StoredSpan]:
        """Return the trees of a trace, none where it is not there."""
        return trees(self._get(f"/api/v3/traces/{trace_id}"))

    def traces(self, service: str, limit: int = 1000) -> list[StoredSpan]:
        """Return the trees of all traces of `service`, in order of their start."""
        now = datetime.now(timezone.utc)
        query = urllib.parse.urlencode(
            {
                "query.service_name": service,
                "query.start_time_min": (now - timedelta(days=1)).isoformat(),
                "query.start_time_max": (now + timedelta(days=1)).isoformat(),
                "query.num_traces": limit,
            }
        )
        return trees(self._get(f"/api/v3/traces?{query}"))

    def wait_for_trace(self, trace_id: str, spans: int) -> StoredSpan:
        """Return the one tree of a trace as soon as it has `spans` spans."""
        roots = poll(
            lambda: self.roots(trace_id), lambda found: count(found) >= spans, f"trace {trace_id}"
        )
        if len(roots) != 1 or count(roots) != spans:
            raise AssertionError([root.outline() for root in roots])
        return roots[0]

    def wait_for_traces(self, service: str, spans: int) -> list[StoredSpan]:
        """Return the trees of all traces of `service` as soon as they have `spans` spans in all."""
        return poll(
            lambda: self.traces(service),
            lambda found: count(found) >= spans,
            f"{spans} spans of {service}",
        )

    def _get(self, path: str) -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(self._url + path, timeout=60) as response:
                body = response.read().decode()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise AssertionError(f"{path}: {error.read().decode()}") from error
        # Several traces come as several JSON documents, one after the other.
        decoder, documents, position = json.JSONDecoder(), [], 0
        while position < len(body):
            document, position = decoder.raw_decode(body, position)
            documents.append(document["result"])
            position += len(body[position:]) - len(body[position:].lstrip())
        return documents


def count(roots: list[StoredSpan]) -> int:
    return sum(1 for root in roots for _ in root.walk())


def poll(
    read: Callable[[], list[Item]], complete: Callable[[list[Item]], bool], what: str
) -> list[Item]:
    """Return what `read` returns as soon as that is complete."""
    deadline = time.monotonic() + ARRIVAL_LIMIT
    while True:
        found = read()
        if complete(found):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"after {ARRIVAL_LIMIT} s still no {what}, but {found}"[:8000])
        time.sleep(0.02)


def trees(documents: list[dict[str, Any]]) -> list[StoredSpan]:
    """Return the spans of OTLP JSON without a parent among them, children hung below their parents."""
    spans = [
        plain_span(span, scope_spans.get("scope", {}), resource_spans.get("resource", {}))
        for document in documents
        for resource_spans in document.get("resourceSpans", [])
        for scope_spans in resource_spans.get("scopeSpans", [])
        for span in scope_spans.get("spans", [])
    ]
    spans.sort(key=lambda span: (span.start, -span.end, span.name))
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    roots = []
    for span in spans:
        parent = by_id.get((span.trace_id, span.parent_id))
        (roots if parent is None else parent.children).append(span)
    return roots


def plain_span(
    span: Mapping[str, Any], scope: Mapping[str, Any], resource: Mapping[str, Any]
) -> StoredSpan:
    return StoredSpan(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span["name"],
        kind=KINDS[span.get("kind", 0)],
        start=int(span["startTimeUnixNano"]),
        end=int(span["endTimeUnixNano"]),
        attributes=plain_attributes(span),
        resource=plain_attributes(resource),
        scope=scope.get("name", ""),
        status=STATUSES[span.get("status", {}).get("code", 0)],
        status_message=span.get("status", {}).get("message", ""),
        events=[
            Event(event["name"], int(event["timeUnixNano"]), plain_attributes(event))
            for event in span.get("events", [])
        ],
        links=[
            Link(link["traceId"], link["spanId"], plain_attributes(link))
            for link in span.get("links", [])
        ],
    )


def plain_attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    return {item["key"]: plain_value(item["value"]) for item in owner.get("attributes", [])}


def plain_value(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [plain_value(item) for item in content.get("values", [])]
    return content
