"""Whole traces, read from the file that all ranks wrote to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(eq=False)
class Span:
    """A span with those below it, in the order in which they started."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[tuple[str, str]]
    children: list[Span] = field(default_factory=list)

    def walk(self) -> Iterator[Span]:
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str) -> Span:
        """Return the only span of this name."""
        (found,) = (span for span in self.walk() if span.name == name)
        return found

    def outline(self, without: str = "") -> str:
        """Return the names of the tree, a line each, indented by depth, but for what has the phase `without`."""
        below = "".join(
            child.outline(without)
            for child in self.children
            if child.attributes["torch.phase"] != without
        )
        indented = "".join(f"  {line}\n" for line in below.splitlines())
        return f"{self.name}\n{indented}"


@dataclass
class Trace:
    """All spans of one trace."""

    spans: list[Span]

    @property
    def parentless(self) -> list[Span]:
        """Those that say that they have no parent."""
        return [span for span in self.spans if not span.parent_id]

    @property
    def tops(self) -> list[Span]:
        """Those whose parent is not there, whatever they say."""
        ids = {span.span_id for span in self.spans}
        return [span for span in self.spans if span.parent_id not in ids]

    @property
    def ranks(self) -> list[Span]:
        """The spans of the ranks, by their number."""
        found = [span for span in self.spans if span.attributes["torch.phase"] == "rank"]
        return sorted(found, key=lambda span: int(span.attributes["torch.distributed.rank"]))

    @property
    def step(self) -> int | None:
        """Number of the step that this is."""
        (numbers,) = {
            (span.attributes["torch.step"],)
            for span in self.spans
            if "torch.step" in span.attributes
        } or {(None,)}
        return numbers[0]


def read(*files: Path) -> list[Trace]:
    """Return all traces of `files`, in the order in which they started."""
    lines = [line for file in files for line in file.read_text().splitlines()]
    # One is empty where a process took what another one was writing for cut off.
    spans = [span for line in lines if line for span in _of(line)]
    spans = [
        span for span in spans if span.name != "between"
    ]  # there for what the machine does else
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    assert len(by_id) == len(spans), "a span was sent twice"
    traces: dict[str, Trace] = {}
    for span in sorted(spans, key=lambda span: span.start):
        traces.setdefault(span.trace_id, Trace([])).spans.append(span)
        parent = by_id.get((span.trace_id, span.parent_id))
        if parent is not None:
            parent.children.append(span)
    return list(traces.values())


def _of(line: str) -> Iterator[Span]:
    for of_resource in json.loads(line)["resourceSpans"]:
        resource = _plain(of_resource["resource"]["attributes"])
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                yield Span(
                    trace_id=span["traceId"],
                    span_id=span["spanId"],
                    parent_id=span.get("parentSpanId", ""),
                    name=span["name"],
                    start=int(span["startTimeUnixNano"]),
                    end=int(span["endTimeUnixNano"]),
                    failed=span.get("status", {}).get("code") == 2,
                    attributes=_plain(span.get("attributes", [])),
                    resource=resource,
                    links=[(link["traceId"], link["spanId"]) for link in span.get("links", [])],
                )


def _plain(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    plain = {}
    for pair in pairs:
        ((kind, value),) = pair["value"].items()
        plain[pair["key"]] = int(value) if kind == "intValue" else value
    return plain
