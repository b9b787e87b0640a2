"""Reads traces back from a file of OTLP JSON lines, the format of the collector's file exporter.

Each line is one ``ExportTraceServiceRequest`` as JSON (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
The spans of one trace may stand in several lines, children before their parents.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules.cli.command_error import CommandError

_STATUS_ERROR = 2


@dataclass(slots=True, eq=False)
class SpanNode:
    """A span of the file with the spans below it, in the order in which they began. Times are Unix ns."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    attributes: Mapping[str, Any]
    service: str
    failed: bool
    exception: str  # type and message of the exception that began in this span, or empty
    children: list[SpanNode] = field(default_factory=list)

    @property
    def phase(self) -> str | None:
        """Value of `torch.phase`; None on a span that the program made itself."""
        phase = self.attributes.get(semconv.PHASE)
        return phase if isinstance(phase, str) else None

    @property
    def duration(self) -> int:
        return self.end - self.start

    @property
    def step(self) -> int | None:
        index = self.attributes.get(semconv.STEP_INDEX)
        return index if isinstance(index, int) else None

    @property
    def dropped_before(self) -> int:
        """Of a step's or a rank's span: how many records were dropped since the step before it."""
        dropped = self.attributes.get(semconv.STEP_DROPPED)
        return dropped if isinstance(dropped, int) else 0

    @property
    def rank(self) -> int | None:
        """Of a rank's span: which rank it is."""
        rank = self.attributes.get(semconv.DISTRIBUTED_RANK)
        return rank if isinstance(rank, int) else None

    @property
    def ranks(self) -> list[SpanNode]:
        """Of a step's span: those of its ranks, by number. Of a rank's span: itself."""
        if self.phase == semconv.PHASE_RANK:
            return [self]
        found = [child for child in self.children if child.phase == semconv.PHASE_RANK]
        return sorted(found, key=lambda child: child.rank or 0)

    def walk(self) -> Iterator[SpanNode]:
        """Yield this span and all below it, parents first."""
        stack = [self]
        while stack:
            span = stack.pop()
            yield span
            stack.extend(reversed(span.children))


class TraceFile(NamedTuple):
    """What a file holds, or several."""

    name: str
    steps: list[SpanNode]  # spans of phase `step`, and of `rank` whose step is not there, by start
    forwards: list[SpanNode]  # root forwards outside any step, the same
    torn: bool  # the last line was cut off

    @classmethod
    def read(cls, *paths: Path) -> TraceFile:
        """Read all spans of `paths` and join them to trees.

        Raises:
            CommandError: a file cannot be read or is not OTLP JSON lines, or there is no span of ours.
        """
        spans, torn = [], False
        for path in paths:
            of_file, cut_off = _read_spans(path)
            spans += of_file
            torn = torn or cut_off
        name = str(paths[0]) if len(paths) == 1 else f"these {len(paths)} files"
        roots = _join(spans)
        steps, forwards = [], []
        for root in roots:
            inside = [span for span in root.walk() if span.phase == semconv.PHASE_STEP]
            if root.phase == semconv.PHASE_RANK:
                inside = [root]
            steps += inside
            if not inside and root.phase == semconv.PHASE_FORWARD:
                forwards.append(root)
        if not steps and not forwards:
            count = f"{len(spans)} span{'s' if len(spans) > 1 else ''}"
            raise CommandError(
                f"{name} holds {count}, but neither a training step nor a forward pass"
            )
        return cls(name, sorted(steps, key=_start), sorted(forwards, key=_start), torn)

    def ranks_of_steps(self) -> list[list[SpanNode]]:
        """Return the spans of the ranks of each step, by number; those of one trace belong together."""
        ranks: dict[str, list[SpanNode]] = {}
        for step in self.steps:
            ranks.setdefault(step.trace_id, []).extend(step.ranks)
        return [sorted(of_step, key=lambda span: span.rank or 0) for of_step in ranks.values()]


def _start(span: SpanNode) -> int:
    return span.start


def _read_spans(path: Path) -> tuple[list[SpanNode], bool]:
    spans: list[SpanNode] = []
    fault: str | None = None
    ended = True
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if fault:
                    raise CommandError(fault)
                ended = line.endswith("\n")
                if not line.strip():
                    continue
                try:
                    spans += _spans_of_request(json.loads(line))
                except (ValueError, TypeError, KeyError, AttributeError):
                    # Raised only if another line follows: a writer that was killed leaves half a last line.
                    fault = f"{path}: line {number} is not an OTLP JSON trace request"
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    if fault and (ended or not spans):
        raise CommandError(fault)
    if not spans:
        raise CommandError(f"{path} is empty: no trace has been written to it yet")
    return spans, fault is not None


def _spans_of_request(request: Any) -> Iterator[SpanNode]:
    for of_resource in request["resourceSpans"]:
        resource = _attributes(of_resource.get("resource", {}).get("attributes", ()))
        service = str(resource.get("service.name", ""))
        for of_scope in of_resource.get("scopeSpans", ()):
            for span in of_scope.get("spans", ()):
                yield _span(span, service)


def _span(span: Mapping[str, Any], service: str) -> SpanNode:
    exception = ""
    for event in span.get("events", ()):
        if event["name"] == semconv.EXCEPTION_EVENT:
            about = _attributes(event.get("attributes", ()))
            exception = ": ".join(
                str(about[key])
                for key in (semconv.EXCEPTION_TYPE, semconv.EXCEPTION_MESSAGE)
                if about.get(key)
            )
    return SpanNode(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span["name"],
        start=int(span["startTimeUnixNano"]),
        end=int(span["endTimeUnixNano"]),
        attributes=_attributes(span.get("attributes", ())),
        service=service,
        failed=span.get("status", {}).get("code") == _STATUS_ERROR,
        exception=exception,
    )


def _attributes(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in pairs}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, content in value.items():
        if kind == "intValue":  # JSON has no 64-bit integers: a string
            return int(content)
        if kind == "arrayValue":
            return [_value(item) for item in content.get("values", ())]
        return content
    return None


def _join(spans: Iterable[SpanNode]) -> list[SpanNode]:
    """Return the roots, with all else below them. A span sent twice counts once."""
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    roots: list[SpanNode] = []
    for span in sorted(by_id.values(), key=lambda span: (span.start, -span.end)):
        parent = by_id.get((span.trace_id, span.parent_id))
        (roots if parent is None else parent.children).append(span)
    for span in by_id.values():
        if len(span.ranks) > 1:  # by number, so that two steps look alike
            span.children.sort(key=lambda child: -1 if child.rank is None else child.rank)
    return roots
