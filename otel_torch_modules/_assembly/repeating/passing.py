"""What comes and goes in steps that do the same otherwise: a collection of garbage, a call that is long now and then.

It is taken out of a log before that is compared with others, and put below the innermost span around it afterwards.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._assembly.exposed import Launched
from otel_torch_modules._assembly.reading.shown import span_of
from otel_torch_modules._assembly.reading.stacks import told
from otel_torch_modules._assembly.settling import end_in
from otel_torch_modules._engine.pauses import pause_after
from otel_torch_modules._events import COLLECTION, WIDTH, Stretch
from otel_torch_modules._spans.columns import INSIDE, SpanColumns
from otel_torch_modules._spans.span import SECOND, SELF_TIME, Span


def without_passing(log: list[Any]) -> tuple[list[Any], list[list[Any]]]:
    """Return a copy of `log` that is without them, and their slots."""
    places = [
        place * WIDTH
        for place, tag in enumerate(log[::WIDTH])
        if type(tag) is Stretch and tag.passing
    ]
    passing = [log[place : place + WIDTH] for place in places]
    rest = log.copy()
    for place in reversed(places):
        del rest[place : place + WIDTH]
    pause_after(len(log) // WIDTH)
    return rest, passing


def add_passing(
    columns: SpanColumns, passing: Sequence[list[Any]], threads: set[int]
) -> list[Launched]:
    """Put spans of `passing` into a tree; return what goes on beside its thread.

    Args:
        columns: of the record without them.
        passing: the slots of each, as the log had them.
        threads: in which something else happened: what passes in another one is below the last head.
    """
    layout, starts, ends = columns.layout, columns.starts, columns.ends
    top = layout.heads - 1
    own = columns.values[SELF_TIME]
    launched: list[Launched] = []
    taken: Counter[int] = Counter()  # of the own time of what is in the layout
    held: list[tuple[int, int, Span]] = []  # what holds its thread: that, and where it would be
    for event, thread, start, end, detail in sorted(passing, key=_outermost_first):
        place = top
        while thread in threads or event is COLLECTION:  # all threads stand still meanwhile
            if event.beside and layout.spans[place].phase == semconv.PHASE_BACKWARD:
                break  # what a backward launches is below no module
            children = layout.children[place]
            at = bisect_right(children, start, key=starts.__getitem__) - 1
            if at < 0:
                break
            inner = children[at]
            if event.beside and start <= ends[inner]:
                end = end_in(event, detail, layout.spans[inner].phase, ends[inner], end)
            if ends[inner] < end:
                break
            place = inner
        outer = None
        for holder, held_at, known in held:
            if event.beside:
                if (holder, held_at) != (thread, place) or not known.start <= start <= known.end:
                    continue
                end = end_in(event, detail, known.phase, known.end, end)
            if known.start <= start and end <= known.end:
                outer = known
        above = layout.spans[place].phase
        around = told(above if outer is None else outer.phase)
        span = span_of(event, event.shown, detail, columns.root.trace, None, around, start, end)
        if event.beside:
            modules_end = None
            if outer is None and above == semconv.PHASE_BACKWARD:
                children = layout.children[place]
                modules_end = max(map(ends.__getitem__, children), default=starts[place])
            launched.append(Launched(span, modules_end))
        else:
            held.append((thread, place, span))
        if outer is not None:
            span.parent = outer
            place = INSIDE
        else:
            taken[place] += end - start
            if place == top:
                taken[place] -= _stretch_heads(columns, start, end)
        columns.passing.append((place, span))
    for place, time in taken.items():
        own[place] = max(round(own[place] * SECOND) - time, 0) / SECOND
    return launched


def _stretch_heads(columns: SpanColumns, start: int, end: int) -> int:
    """Have the heads hold what lasted from `start` to `end`; return by how much the last one grew.

    A step's do. A forward alone begins with its call, and ends with it, which its record does not.
    """
    starts, ends = columns.starts, columns.ends
    top = columns.layout.heads - 1
    before = ends[top] - starts[top]
    for head in range(top + 1):
        starts[head], ends[head] = min(starts[head], start), max(ends[head], end)
    return ends[top] - starts[top] - before


def _outermost_first(slots: list[Any]) -> tuple[int, int]:
    return slots[2], -slots[3]
