"""How long a module's span lasts without the spans below it: what sums of times over a kind of place are made of.

It is not known of a root whose modules were not recorded. Spans that are below it side by side, as those of threads may
be, are all taken away; it is never less than nothing.
"""

from __future__ import annotations

from operator import sub

from otel_torch_modules import semconv
from otel_torch_modules._engine.pauses import pause_after
from otel_torch_modules._spans.layout import Layout
from otel_torch_modules._spans.span import SECOND, SELF_TIME, Span

_ALONE = (SELF_TIME,)


def add_self_times(root: Span) -> None:
    """Give each module span of a tree its own."""
    for span in root.walk():
        if semconv.MODULE_FQN in span.attributes:
            own = span.end - span.start
            for child in span.children:
                own -= child.end - child.start
            # Not by `say`: every module span of a step that is read comes here, most of them with no other value.
            span.keys = (*span.keys, SELF_TIME) if span.keys else _ALONE
            span.values = (*span.values, own / SECOND if own > 0 else 0.0)


def self_times(layout: Layout, starts: list[int], ends: list[int]) -> list[float]:
    """Return that of all spans of a layout, the modules' among them."""
    durations = list(map(sub, ends, starts))
    own = durations.copy()
    own[0] += durations[0]  # the root is not below another one
    for parent, duration in zip(layout.parents, durations, strict=True):
        own[parent] -= duration
    pause_after(len(own))
    return [time / SECOND if time > 0 else 0.0 for time in own]
