"""What a process that was killed has left behind, as the stall of its run: see `BlackBox`.

Times are nanoseconds since the epoch: the clock of the process that wrote them is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._assembly.reading.heads import describe_heads, heads
from otel_torch_modules._records import Record, SharedStep, Stall
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import INTERNAL, Span

Phase = tuple[str, str, int, int]
"""Name, value of `torch.phase`, start and end."""


def phases_of(tree: Span | SpanColumns, clock_offset: int) -> list[Phase]:
    """Return what lies right below the heads of a step's tree."""
    if isinstance(tree, SpanColumns):
        layout = tree.layout
        return [
            (
                layout.spans[place].name,
                layout.spans[place].phase,
                tree.starts[place] + clock_offset,
                tree.ends[place] + clock_offset,
            )
            for place in layout.phases
        ]
    top = tree
    while (
        top.phase == semconv.PHASE_STEP
        and top.children
        and top.children[0].phase == semconv.PHASE_RANK
    ):
        top = top.children[0]
    return [
        (span.name, span.phase, span.start + clock_offset, span.end + clock_offset)
        for span in top.on_host
    ]


def record_of(left: Mapping[str, Any]) -> Record:
    """Return the stall that a file of a process tells of, without its phases.

    Raises:
        KeyError, TypeError, ValueError: it is no such file.
    """
    phases = [
        (str(name), str(phase), int(start), int(end)) for name, phase, start, end in left["phases"]
    ]
    began, time = int(left["began"]), int(left["time"])
    modules = " → ".join(map(str, left["modules"]))
    record = Record(
        "stall",
        int(left["step"]),
        min([began, *(start for *_, start, _ in phases)]),
        0,
        end=max([time, *(end for *_, end in phases)]),
        stall=Stall(0.0, 0, semconv.STALL_KILLED, modules, "", (), None),
    )
    if left["shared"] is not None:
        trace_id, span_id, rank, sent_here = left["shared"]
        record.trace_id = int(trace_id, 16)
        record.shared = SharedStep(int(span_id, 16), int(rank), sent_here=bool(sent_here))
    return record


def tree_of(record: Record, left: Mapping[str, Any]) -> Span:
    """Return its tree: the last step's phases lie below the rank, and where it stood is an attribute."""
    spans = heads(record)
    describe_heads(spans, record, truncated=False)
    for head in spans:
        head.attributes = {**head.attributes, semconv.STALL_PLACE: str(left["place"])}
    for name, phase, start, end in left["phases"]:
        Span(spans[0].trace, spans[-1], name, phase, INTERNAL, start, end, {semconv.PHASE: phase})
    return spans[0]
