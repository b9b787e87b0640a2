"""Spans, and events of spans, of what is shown as it is declared."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._events import Detail, Event, Point, Shown
from otel_torch_modules._spans.span import INTERNAL, Happening, SharedAttributes, Span, Trace


def span_of(
    event: Event,
    shown: Shown,
    detail: Any,
    trace: Trace,
    parent: Span | None,
    around: str,
    begin: int,
    end: int,
) -> Span:
    """Return the span of `event`, below `parent`, which says that it is in the phase `around`: see `Stacks.around`."""
    said = ""
    if shown.said is not None:
        said = detail.said if type(detail) is Detail else detail
    if shown.in_compiled:
        above = parent.attributes.get(semconv.MODULE_FQN, "") if parent is not None else ""
        attributes = _attributes_in_compiled(shown.phase, above, said)
    else:
        attributes = attributes_of_phase(shown.phase, shown.said or "", said, around)
    span = Span(trace, parent, shown.name + said, shown.phase, INTERNAL, begin, end, attributes)
    if type(detail) is Detail:
        span.say(event.values, detail.values)
    return span


def happening_of(event: Point, time: int, detail: Any) -> Happening:
    """Return the event of a span."""
    attributes: dict[str, Any] = {}
    said = detail
    if type(detail) is Detail:
        said = detail.said
        attributes = {
            key.name: value for key, value in zip(event.values, detail.values, strict=True)
        }
    if event.said and said is not None:
        attributes[event.said] = said
    return Happening(event.name, time, attributes)


@lru_cache(maxsize=1_000)
def _attributes_in_compiled(phase: str, above: str, path: str) -> SharedAttributes:
    """Return what the span of a module has that is at `path` below the compiled module `above`."""
    fqn = f"{above}.{path}" if above else path
    attributes = {
        semconv.PHASE: phase,
        semconv.MODULE_FQN: fqn,
        semconv.MODULE_PATTERN: ".".join(
            "*" if part.isdecimal() else part for part in fqn.split(".")
        ),
        semconv.COMPILED: True,
        semconv.COMPILED_REGION: True,
    }
    return SharedAttributes(attributes)


@lru_cache(maxsize=1_000)
def attributes_of_phase(
    phase: str, name: str = "", said: str = "", around: str = ""
) -> SharedAttributes:
    """Return what a span of `phase` has that says `said` in the attribute `name`, and is in the phase `around`."""
    attributes: dict[str, Any] = {semconv.PHASE: phase}
    if name:
        attributes[name] = said
    if around:
        attributes[semconv.PHASE_PARENT] = around
    return SharedAttributes(attributes)
