"""Records become trees: each anew, or as the one before it that it is like."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

from otel_torch_modules._assembly.device import OnDevice
from otel_torch_modules._assembly.device_lane import add_lane, lane_of
from otel_torch_modules._assembly.exposed import say_exposed
from otel_torch_modules._assembly.reading.alone import alone
from otel_torch_modules._assembly.reading.between import add_between, between
from otel_torch_modules._assembly.reading.call import Call, Calls
from otel_torch_modules._assembly.reading.enclose import enclose
from otel_torch_modules._assembly.reading.heads import describe_heads, heads, why_kept
from otel_torch_modules._assembly.reading.history import History, ReadCalls
from otel_torch_modules._assembly.reading.tree import RecordTree
from otel_torch_modules._assembly.repeating.layout import Plan, with_moments, without_moments
from otel_torch_modules._assembly.repeating.passing import add_passing, without_passing
from otel_torch_modules._assembly.repeating.pattern import Pattern
from otel_torch_modules._assembly.self_time import add_self_times
from otel_torch_modules._assembly.settling import Settling
from otel_torch_modules._assembly.snapshot import Snapshot, read_snapshot
from otel_torch_modules._engine.pauses import pause_after
from otel_torch_modules._events import WIDTH
from otel_torch_modules._records import Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import CONSUMER, INTERNAL, PRODUCER, Kinds, Span
from otel_torch_modules.config import Config

# Patterns that are kept: a loop has a few, such as that of its last batch; slots of logs that they may be of.
_MOST_PATTERNS = 8
_MOST_SLOTS = 1_000_000

_TRIES = 3  # to make a layout


class Assembler:
    """Makes trees of records.

    A record that is like one before it in all but times is not read: see `repeating.layout`.

    Args:
        config: the kinds of spans and how many there may be.
    """

    def __init__(self, config: Config) -> None:
        separate = config.span_kind == "separate"
        self._kinds = Kinds(PRODUCER, CONSUMER) if separate else Kinds(INTERNAL, INTERNAL)
        self._max_spans = config.max_spans_per_step
        self._history = History()
        self._settling = Settling()
        self._order = 0  # of the next call
        self._seen: deque[_Seen] = deque()  # the one seen last first

    def assemble(self, record: Record) -> Span | SpanColumns:
        """Return the tree of `record`: its root span, or columns where it is like an earlier one."""
        if record.kind == "checkpoint":
            return alone(record)
        tree = self._assemble(record)
        if record.site is not None:
            root = tree if isinstance(tree, Span) else tree.root
            why = why_kept(record)
            root.say((*why,), (*why.values(),))
        return tree

    def _assemble(self, record: Record) -> Span | SpanColumns:
        if record.passing:
            self._settling.settle(record)
            return self._assemble_without_passing(record)
        seen = self._find(record)
        if seen is None:
            return self._read(record)
        if seen.plan is None:
            return self._lay_out(seen, record, self._history)
        return self._repeat(seen, seen.plan, record) or self._read(record)

    def _assemble_without_passing(self, record: Record) -> Span | SpanColumns:
        columns, whole = None, record.log
        record.log, passing = without_passing(whole)
        seen = self._find(record)
        if seen is not None and seen.plan is None and seen.tries:
            order = self._order
            self._lay_out(seen, record, self._history.copy()).release()
            self._order = order
        elif seen is not None and seen.plan is not None:
            columns = self._repeat(seen, seen.plan, record, passing)
        record.log = whole  # others look at the record too
        return columns or self._read(record)

    def read_snapshot(self, record: Record) -> Snapshot:
        """Return the tree of `record`, a stall: it is like no other, and none after it has to do with it."""
        return read_snapshot(record, self._kinds, self._max_spans)

    def _find(self, record: Record) -> _Seen | None:
        """Return what is known of records like `record`; take note of it where that is nothing."""
        for place, seen in enumerate(self._seen):
            if seen.pattern.matches(record):
                del self._seen[place]
                self._seen.appendleft(seen)
                return seen
        pattern = Pattern.of(record)
        if pattern is not None:
            self._seen.appendleft(_Seen(pattern))
            while len(self._seen) > 1 and (
                len(self._seen) > _MOST_PATTERNS
                or sum(seen.pattern.length for seen in self._seen) > _MOST_SLOTS
            ):
                self._seen.pop()
        return None

    def _open(self, record: Record, order: int, history: History) -> RecordTree:
        return RecordTree(record, self._kinds, self._max_spans, order, history)

    def _read(self, record: Record) -> Span:
        of_modules = record.device is not None and record.device.of_modules
        timed = with_moments(record) if of_modules else record
        tree = self._open(timed, self._order, self._history)
        root, _ = self._grow(tree, record, timed)
        return _complete(root, tree.heads[-1], record, timed)

    def _lay_out(self, seen: _Seen, record: Record, history: History) -> Span:
        """Return the tree of `record`, and keep what it has in common with others like it."""
        if seen.tries == 0:
            return self._read(record)
        seen.tries -= 1
        timed = with_moments(record)
        tree = self._open(timed, self._order, history)
        root, stretched = self._grow(tree, record, timed)
        ends = tree.made.ends(seen.pattern.thread)
        if not stretched and tree.self_contained and ends is not None:
            seen.numbers = ends[1] - ends[0]
            seen.plan = Plan.of(root, len(tree.heads), tree.truncated, seen.pattern.length)
        return _complete(root, tree.heads[-1], record, timed)

    def _grow(self, tree: RecordTree, record: Record, timed: Record) -> tuple[Span, bool]:
        """Return what `tree` becomes by the log of `timed`, and whether spans had to be stretched.

        Args:
            tree: opened.
            record: what is read.
            timed: the same, or a copy of it with moments for times.
        """
        tree.read(timed.log)
        self._order = tree.order
        root = tree.finish()
        stretched = enclose(root)
        if not record.phases_only:
            add_self_times(root)
        if record.device is not None:
            OnDevice(record).say(root)
        return root, stretched

    def _repeat(
        self, seen: _Seen, plan: Plan, record: Record, passing: Sequence[list[Any]] = ()
    ) -> SpanColumns | None:
        """Return the columns of `record`, from which `passing` was taken out; None where it has to be read."""
        pattern = seen.pattern
        first = pattern.first(record)
        if first + pattern.lowest < self._history.end(pattern.thread):
            return None  # its backward may have come to a call of an earlier record
        spans = heads(record)
        pause_after(pattern.calls)
        columns = plan.columns(record, spans)
        if columns is None:
            return None
        layout = plan.layout
        if passing:
            say_exposed(record, add_passing(columns, passing, set(record.log[1::WIDTH])))
        describe_heads(spans, record, layout.truncated)
        starts, ends = columns.starts, columns.ends
        for head, start, end in zip(spans, starts, ends, strict=False):
            head.start, head.end = start, end
        if record.kind == "step":
            phases = [(starts[place], ends[place]) for place in layout.phases]
            phases += [(span.start, span.end) for span in columns.beside_phases]
            columns.between = between(spans[-1], sorted(phases))
            if record.device is not None:
                columns.lane = lane_of(columns)
        if record.site is not None:
            root = layout.spans[0]
            spans[0].kind, spans[0].attributes = root.kind, root.attributes
            spans[0].keys, spans[0].values = root.keys, columns.values_at(0)
        for place, points in columns.points.items():
            if place < len(spans):
                spans[place].points = points
        unfold = partial(self._unfold, record, record.log, columns, self._order)
        self._order += pattern.calls
        calls = _RepeatedCalls(pattern.thread, (first, first + seen.numbers), unfold)
        pause_after(pattern.calls)
        self._history.begin(calls, is_step=record.kind == "step")
        pause_after(pattern.calls)  # of an earlier record, that goes with it
        return columns

    def _unfold(
        self, record: Record, log: list[Any], columns: SpanColumns, order: int
    ) -> ReadCalls:
        """Return the calls of a record that was not read, with the spans that were sent."""
        tree = self._open(record, order, History())
        tree.read(log)
        root = tree.finish()
        enclose(root)
        for span, span_id in zip(root.walk(), columns.span_ids or (), strict=False):
            span.span_id = span_id
        root.release()
        return tree.made


def _complete(root: Span, top: Span, record: Record, timed: Record) -> Span:
    """Give a tree plain times, put below `top`, its last head, what follows from its phases, and return it."""
    if timed is not record:
        without_moments(root)
    if record.kind == "step":
        add_between(top)
        add_lane(top)
    return root


class _Seen:
    """What is known of the records with one pattern."""

    __slots__ = ("numbers", "pattern", "plan", "tries")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.plan: Plan | None = None
        self.numbers = 0  # how many nodes may be those of calls
        self.tries = _TRIES  # left


class _RepeatedCalls:
    """The calls of a record that was not read, read when somebody asks for them after all.

    Args:
        thread: the one that made them.
        ends: of the thread's numbers.
        unfold: reads them.
    """

    def __init__(self, thread: int, ends: tuple[int, int], unfold: Callable[[], ReadCalls]) -> None:
        self._thread = thread
        self._ends = ends
        self._unfold = unfold

    @cached_property
    def _unfolded(self) -> ReadCalls:
        return self._unfold()

    @property
    def calls(self) -> Calls:
        return self._unfolded.calls

    def ends(self, thread: int) -> tuple[int, int] | None:
        return self._ends if thread == self._thread else None

    def owner(self, thread: int, number: int) -> Call | None:
        return self._unfolded.owner(thread, number)
