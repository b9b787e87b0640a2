"""How long a step, its phases and its modules took, added up: what the tree of a step comes to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._spans.columns import SpanColumns, pick
from otel_torch_modules._spans.layout import Layout
from otel_torch_modules._spans.span import SECOND, SELF_TIME, Span
from otel_torch_modules._weak_table import WeakTable

Kind = tuple[str, str]
"""The pattern of a module's name, and a phase."""

_Modules = dict[Kind, Callable[[Any], tuple[Any, ...]]]


class Figures(NamedTuple):
    """What one step came to, in seconds."""

    duration: float
    phases: dict[str, float]  # of what lies right below the step
    modules: dict[Kind, float]  # own time, where it is known


class StepFigures:
    """Adds up trees. Where a module's spans are in a layout is found once for all steps that have it."""

    def __init__(self) -> None:
        self._modules = WeakTable[Layout, _Modules]()

    def of(self, tree: Span | SpanColumns, heads: int) -> Figures:
        """Return the figures of a step.

        Args:
            tree: its spans, with the modules' own times.
            heads: how many of the first are the process's: the step's, and the rank's below it.
        """
        return self._of_columns(tree) if isinstance(tree, SpanColumns) else _of_spans(tree, heads)

    def _of_columns(self, columns: SpanColumns) -> Figures:
        layout = columns.layout
        found = self._modules.get(layout)
        if found is None:
            found = _modules(layout)
            self._modules.put(layout, found)
        phases: defaultdict[str, float] = defaultdict(float)
        for place in layout.phases:
            seconds = (columns.ends[place] - columns.starts[place]) / SECOND
            phases[layout.spans[place].phase] += seconds
        top = columns.heads[-1]
        for span in (*columns.between, *columns.beside_phases):
            phases[span.phase] += (span.end - span.start) / SECOND
        own = columns.values[SELF_TIME]
        modules = {kind: sum(of(own), 0.0) for kind, of in found.items()}
        return Figures((top.end - top.start) / SECOND, dict(phases), modules)


def _modules(layout: Layout) -> _Modules:
    """Return where the spans of each kind of module are in a layout."""
    places: defaultdict[Kind, list[int]] = defaultdict(list)
    for place, span in enumerate(layout.spans):
        pattern = span.attributes.get(semconv.MODULE_PATTERN)
        if pattern is not None and SELF_TIME in span.keys:
            places[pattern, span.phase].append(place)
    return {kind: pick(found) for kind, found in places.items()}


def _of_spans(root: Span, heads: int) -> Figures:
    top = root
    for _ in range(heads - 1):
        top = next(iter(top.children))
    phases: defaultdict[str, float] = defaultdict(float)
    for span in top.on_host:
        phases[span.phase] += (span.end - span.start) / SECOND
    modules: defaultdict[Kind, float] = defaultdict(float)
    for span in top.walk():
        pattern = span.attributes.get(semconv.MODULE_PATTERN)
        if pattern is not None and SELF_TIME in span.keys:
            modules[pattern, span.phase] += span.said[SELF_TIME]
    return Figures((top.end - top.start) / SECOND, dict(phases), dict(modules))
