"""A record becomes a tree of spans, in one pass over its log."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._assembly.backward import FAILED, Backward, Room
from otel_torch_modules._assembly.call import Call, Calls, Names, shape_attributes
from otel_torch_modules._assembly.ruler import Rulers
from otel_torch_modules._assembly.span import (
    CONSUMER,
    INTERNAL,
    PRODUCER,
    Note,
    SharedAttributes,
    Span,
    Trace,
)
from otel_torch_modules._records import (
    DATA,
    EXIT,
    EXIT_BARE,
    MARK,
    OPTIMIZED,
    OPTIMIZER,
    SPAN_ID,
    TASK,
    TASK_END,
    WIDTH,
    CallDetail,
    Raised,
    Record,
    Shapes,
    Site,
)
from otel_torch_modules._slices import slices
from otel_torch_modules.config import Config

# How many calls of a module are looked at for the one that a recompute repeats.
_CALLS_LOOKED_AT = 64

# Slices of about a millisecond.
_EVENTS_AT_ONCE = 512
_SPANS_AT_ONCE = 4096

# What can be open in a thread: a module's call, an optimizer's step, a backward.
_Open = Call | Span | Backward


class Assembler:
    """Makes trees of records.

    It remembers the last few records: a backward may come after the step of its forward.

    Args:
        config: the kinds of spans and how many there may be.
    """

    def __init__(self, config: Config) -> None:
        separate = config.span_kind == "separate"
        self.forward_kind = PRODUCER if separate else INTERNAL
        self.backward_kind = CONSUMER if separate else INTERNAL
        self.max_spans = config.max_spans_per_step
        self.names = Names()
        self.rulers = Rulers()
        self.calls: deque[Calls] = deque(maxlen=2)  # of the last records
        self.order = count()  # of calls
        self.lost_marks = 0
        """How many marks were of nodes made too long ago: if a module made them, its backward has no span."""

    def assemble(self, record: Record) -> Span:
        """Return the root span of the tree of `record`."""
        self.rulers.begin(is_step=record.kind == "step")
        self.calls.append(Calls())
        assembly = _Assembly(self, record)
        assembly.read(record.log)
        return assembly.finish()


class _Assembly:
    """One record on its way to being a tree."""

    def __init__(self, assembler: Assembler, record: Record) -> None:
        self._assembler = assembler
        self._names = assembler.names
        self._rulers = assembler.rulers
        self._calls = assembler.calls[-1]
        self._record = record
        self._room = Room(assembler.max_spans, record.truncated)
        self._stacks: dict[int, list[_Open]] = {}
        self._backwards: dict[int, Backward] = {}
        self._counts: dict[Site, int] = {}  # calls of roots
        self._program_thread = 0  # the last one in which the program itself did something
        self._trace = Trace(
            record.trace_id,
            record.clock_offset,
            record.trace_flags,
            record.trace_state,
            record.parent,
        )
        self._evaluation = record.site  # until its call has been seen
        name, phase = semconv.STEP, semconv.PHASE_STEP
        if record.site is not None:
            name, phase = semconv.FORWARD_PREFIX + record.site.fqn, semconv.PHASE_FORWARD
        self._root = Span(
            self._trace,
            None,
            name,
            phase,
            INTERNAL,
            record.start,
            record.end,
            {semconv.PHASE: phase},
        )
        self._root.span_id = record.span_id
        self._top = self._root  # of what happens in this process
        shared = record.shared
        if shared is not None:
            self._root.span_id = shared.span_id
            self._root.remote = not shared.sent_here
            self._top = Span(
                self._trace,
                self._root,
                f"{semconv.RANK_PREFIX}{shared.rank}",
                semconv.PHASE_RANK,
                INTERNAL,
                record.start,
                record.end,
                {},
            )
            self._top.span_id = record.span_id

    def read(self, log: list[Any]) -> None:
        """Take in all events."""
        enter, leave, mark = self._enter, self._exit, self._mark
        forward_kind = self._assembler.forward_kind
        for events in slices(log, _EVENTS_AT_ONCE * WIDTH):
            for place in range(0, len(events) - WIDTH + 1, WIDTH):
                tag, thread, value, time, detail = events[place : place + WIDTH]
                if tag is MARK:
                    mark(thread, value, time, detail)
                elif tag is EXIT:
                    leave(thread, value, time, detail, forward_kind)
                elif isinstance(tag, Site):
                    enter(tag, thread, value, time, detail)
                elif tag is EXIT_BARE:
                    leave(thread, value, time, detail, INTERNAL)
                elif tag is TASK:
                    self._task(thread, value, time, detail)
                elif tag is TASK_END:
                    self._task_end(value, time, detail)
                elif tag is OPTIMIZER:
                    self._optimizer(thread, value, time)
                elif tag is OPTIMIZED:
                    self._optimized(thread, time)
                elif tag is DATA:
                    self._data(value, time)
                elif tag is SPAN_ID:
                    self._innermost_call(thread).span_id = value
                else:
                    self._note(thread, Note(value, detail, time))

    def finish(self) -> Span:
        """Close what is open and return the root."""
        for stack in self._stacks.values():
            for opened in reversed(stack):
                _end(opened, self._record.end)
        if self._record.failed and self._top.error is None:
            self._top.error = FAILED
        if self._record.kind == "step":
            self._root.attributes = self._step_attributes()
        if self._root is not self._top:
            self._root.error = self._top.error
            self._top.attributes = self._rank_attributes()
        spans = list(self._root.walk())
        for last in slices(spans[::-1], _SPANS_AT_ONCE):
            for span in last:
                parent = span.parent
                if parent is not None:
                    if span.start < parent.start:
                        parent.start = span.start
                    if span.end > parent.end:
                        parent.end = span.end
        for first in slices(spans, _SPANS_AT_ONCE):
            for span in first:
                if len(span.children) > 1:
                    span.children = sorted(span.children, key=_times)
        return self._root

    # Module calls.

    def _enter(self, site: Site, thread: int, first: int, time: int, detail: Any) -> None:
        stack = self._stacks.get(thread)
        if stack is None:
            stack = self._stacks[thread] = []
        top = stack[-1] if stack else None
        training = detail.training if isinstance(detail, CallDetail) else detail
        recompute = False
        parent_span: Span | None
        if isinstance(top, Call):
            recompute = top.recompute
            counts = top.counts
            if counts is None:
                counts = top.counts = {}
            parent_span = top.span or self._current(stack)
            call = Call(site, top, first, training, self._names.label(site, top))
        elif isinstance(top, Backward):
            recompute = True
            counts = {}  # its index is that of the call that it repeats
            parent_span = None  # until it is known where it belongs
            repeats = next(self._calls_of(site), None)  # until it is known which call it is
            label = self._names.label(site, None) if repeats is None else repeats.label
            call = Call(site, None, first, training, label)
            call.repeats = repeats
            top.recomputes(call)
        else:
            self._program_thread = thread
            counts = self._counts
            parent_span = self._current(stack)
            call = Call(site, None, first, training, self._names.label(site, None))
        call.start = call.end = time
        call.order = next(self._assembler.order)
        call.index = counts.get(site, 0)
        counts[site] = call.index + 1
        call.recompute = recompute
        phase = semconv.PHASE_RECOMPUTE if recompute else semconv.PHASE_FORWARD
        attributes: Mapping[str, Any] = self._names.attributes(call, phase)
        if isinstance(detail, CallDetail):
            attributes = {**attributes, **shape_attributes("input", detail.inputs)}
        if site is self._evaluation and not stack:
            self._evaluation = None
            span = self._top
            span.attributes = attributes
            span.start = time
            call.span = span
        elif self._room.take():
            prefix = semconv.RECOMPUTE_PREFIX if recompute else semconv.FORWARD_PREFIX
            name = prefix + call.label
            call.span = Span(
                self._trace, parent_span, name, phase, INTERNAL, time, time, attributes
            )
        self._calls.add(call)
        stack.append(call)
        self._rulers.of(thread).turn(first, call)

    def _exit(self, thread: int, last: int, time: int, detail: Any, kind: int) -> None:
        stack = self._stacks.get(thread, [])
        call = stack[-1] if stack else None
        if not isinstance(call, Call):  # an exception passed through what is open
            call = _innermost_call(stack)
            if call is None:
                return  # it was open when the record began
        while (opened := stack.pop()) is not call:
            _end(opened, time)
        call.end = time
        outer = call.parent or _innermost_call(stack)
        self._rulers.of(thread).turn(last, outer)
        span = call.span
        if span is None:
            return
        span.end = time
        if last > call.first and not call.recompute and kind != INTERNAL:
            span.kind = kind
        if span.kind != INTERNAL and call.parent is not None and call.parent.span is not None:
            call.parent.span.kind = span.kind  # its nodes are its caller's too
        if isinstance(detail, Raised):
            span.error = detail
            if not stack and not call.recompute:
                self._top.error = detail if span is self._top else Raised(*detail[:2], "")
        elif isinstance(detail, Shapes):
            span.attributes = {**span.attributes, **shape_attributes("output", detail)}

    def _calls_of(self, site: Site) -> Iterator[Call]:
        calls = (
            call for calls in reversed(self._assembler.calls) for call in reversed(calls.of(site))
        )
        return islice(calls, _CALLS_LOOKED_AT)

    # Backward.

    def _mark(self, thread: int, number: int, time: int, task: int) -> None:
        backward = self._backwards.get(task)
        if backward is None:  # it began in an earlier record
            backward = self._open_backward(thread, task, time, [])
        ruler = self._rulers.find(thread, number)
        if ruler is None:
            self._assembler.lost_marks += 1
        if time < backward.span.start:
            backward.span.start = time
        backward.reach(None if ruler is None else ruler.owner(number), time)

    def _task(self, thread: int, task: int, time: int, caller: int | None) -> None:
        stack = self._stacks.get(thread, [])
        if caller is None and not stack:
            # A device thread of the engine: who called it is not known.
            stack = self._stacks.get(self._program_thread, [])
        if stack and isinstance(stack[-1], Backward):
            stack[-1].settle()
        self._open_backward(thread, task, time, stack)

    def _open_backward(self, thread: int, task: int, time: int, around: list[_Open]) -> Backward:
        span = Span(
            self._trace,
            self._current(around),
            semconv.BACKWARD_PASS,
            semconv.PHASE_BACKWARD,
            INTERNAL,
            time,
            time,
            _BACKWARD_ATTRIBUTES,
        )
        backward = Backward(
            span, self._names, self._assembler.backward_kind, self._room, self._calls_of
        )
        self._backwards[task] = backward
        self._stacks.setdefault(thread, []).append(backward)
        return backward

    def _task_end(self, task: int, time: int, finished: bool | None) -> None:
        backward = self._backwards.get(task)
        if backward is None:
            return
        if finished is None:
            backward.close_modules(time)
            return
        if finished:
            backward.end(time)
        else:
            backward.fail(time)
        del self._backwards[task]
        for stack in self._stacks.values():
            if backward in stack:
                stack.remove(backward)

    # The loop.

    def _optimizer(self, thread: int, class_name: str, time: int) -> None:
        stack = self._stacks.setdefault(thread, [])
        self._program_thread = thread
        attributes = {
            semconv.PHASE: semconv.PHASE_OPTIMIZER,
            semconv.OPTIMIZER_CLASS: class_name,
        }
        name = semconv.OPTIMIZER_PREFIX + class_name
        phase = semconv.PHASE_OPTIMIZER
        parent = self._current(stack)
        stack.append(Span(self._trace, parent, name, phase, INTERNAL, time, time, attributes))

    def _optimized(self, thread: int, time: int) -> None:
        stack = self._stacks.get(thread) or []
        for place in reversed(range(len(stack))):
            span = stack[place]
            if isinstance(span, Span):
                span.end = time
                del stack[place]
                return

    def _data(self, start: int, end: int) -> None:
        phase = semconv.PHASE_DATA
        Span(
            self._trace,
            self._top,
            semconv.DATA_WAIT,
            phase,
            INTERNAL,
            start,
            end,
            _DATA_ATTRIBUTES,
        )

    def _step_attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            semconv.PHASE: semconv.PHASE_STEP,
            semconv.STEP_INDEX: self._record.index,
            semconv.STEP_MICRO_BATCHES: self._record.micro_batches,
        }
        if self._room.truncated:
            attributes[semconv.STEP_TRUNCATED] = True
        if self._record.stride is not None:
            attributes[semconv.STEP_STRIDE] = self._record.stride
        return attributes

    def _rank_attributes(self) -> dict[str, Any]:
        shared = self._record.shared
        assert shared is not None
        return {
            **self._step_attributes(),
            semconv.PHASE: semconv.PHASE_RANK,
            semconv.DISTRIBUTED_RANK: shared.rank,
        }

    # What the program says of our spans.

    def _innermost_call(self, thread: int) -> Span:
        call = _innermost_call(self._stacks.get(thread, []))
        return call.span if call is not None and call.span is not None else self._top

    def _note(self, thread: int, note: Note) -> None:
        span = self._innermost_call(thread)
        if span.notes is None:
            span.notes = []
        span.notes.append(note)

    def _current(self, stack: list[_Open]) -> Span:
        for opened in reversed(stack):
            if isinstance(opened, Span):
                return opened
            if isinstance(opened, Backward):
                return opened.innermost
            if opened.span is not None:
                return opened.span
        return self._top


_BACKWARD_ATTRIBUTES = SharedAttributes({semconv.PHASE: semconv.PHASE_BACKWARD})
_DATA_ATTRIBUTES = SharedAttributes({semconv.PHASE: semconv.PHASE_DATA})


def _end(opened: _Open, time: int) -> None:
    if isinstance(opened, Backward):
        opened.end(time)
        return
    span = opened.span if isinstance(opened, Call) else opened
    if span is not None:
        span.end = time


def _innermost_call(stack: list[_Open]) -> Call | None:
    return next((opened for opened in reversed(stack) if isinstance(opened, Call)), None)


def _times(span: Span) -> tuple[int, int]:
    return span.start, span.end
