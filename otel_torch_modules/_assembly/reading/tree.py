"""A record becomes a tree of spans, in one pass over its log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._assembly.exposed import say_exposed
from otel_torch_modules._assembly.reading.backward import Backward, SpanLimit
from otel_torch_modules._assembly.reading.call import CALL_INDEX, Call, attributes_of, label_of
from otel_torch_modules._assembly.reading.declared import SHOWN, DeclaredSpans
from otel_torch_modules._assembly.reading.heads import describe_heads, heads
from otel_torch_modules._assembly.reading.history import History, KnownCalls, ReadCalls
from otel_torch_modules._assembly.reading.shown import (
    attributes_of_phase,
)
from otel_torch_modules._assembly.reading.stacks import Open, Stacks, end, innermost_call
from otel_torch_modules._engine.pauses import slices
from otel_torch_modules._events import (
    CALL,
    EXIT,
    EXIT_BARE,
    MARK,
    NOTE,
    SPAN_ID,
    TASK,
    TASK_END,
    WIDTH,
    Detail,
    Event,
)
from otel_torch_modules._notes import Notes
from otel_torch_modules._records import Raised, Record
from otel_torch_modules._site import Site
from otel_torch_modules._spans.span import INTERNAL, Kinds, Note, Span

_ENDED = Raised("", "an exception ended the step", "")

_EVENTS_AT_ONCE = 512  # about a millisecond


class RecordTree:
    """One record on its way to being a tree.

    Args:
        record: what is read.
        kinds: of module spans.
        max_spans: how many module spans there may be.
        order: of its first call among those of all records.
        history: the calls of the records before it.
    """

    def __init__(
        self,
        record: Record,
        kinds: Kinds,
        max_spans: int,
        order: int,
        history: History,
    ) -> None:
        self._record = record
        self._kinds = kinds
        self.order = order
        """Of the next call."""
        self._history = history
        self._made = ReadCalls()
        earlier = history.begin(self._made, is_step=record.kind == "step")
        self._known = KnownCalls(self._made.calls, earlier, order)
        self._own_marks_only = True
        self._limit = SpanLimit(max_spans, record.truncated)
        self._backwards: dict[int, Backward] = {}
        self._counts: dict[Site, int] = {}  # calls of roots
        self._evaluation = record.site  # until its call has been seen
        self._counts_roots = record.kind != "eval"
        is_passes = record.kind == "eval" and record.site is None
        self.heads = heads(record)
        self._root = self.heads[0]
        self._top = self.heads[-1]  # of what happens in this process
        self._trace = self._root.trace
        self._stacks = Stacks(self._top, semconv.PHASE_EVALUATE if is_passes else "")
        self._declared = DeclaredSpans(self._top, self._stacks, self._limit)

    @property
    def made(self) -> ReadCalls:
        """The calls of the record."""
        return self._made

    @property
    def self_contained(self) -> bool:
        """Whether no call of an earlier record made any difference."""
        return self._own_marks_only and self._known.own_only

    @property
    def truncated(self) -> bool:
        """Whether module spans are missing."""
        return self._limit.truncated

    def read(self, log: list[Any]) -> None:
        """Take in all events."""
        enter, rule_of, declared = RecordTree._enter, RULES.get, self._declared
        for events in slices(log, _EVENTS_AT_ONCE * WIDTH):
            for place in range(0, len(events) - WIDTH + 1, WIDTH):
                tag, thread, value, time, detail = events[place : place + WIDTH]
                rule = rule_of(tag)
                if rule is not None:
                    rule(self, tag, thread, value, time, detail)
                elif isinstance(tag, Site):
                    enter(self, tag, thread, value, time, detail)
                else:
                    SHOWN[type(tag)](declared, tag, thread, value, time, detail)

    def unfinished(self) -> list[Span]:
        """Return the spans that are open: all of a thread's from the outermost to the innermost."""
        return self._stacks.spans()

    def finish(self) -> Span:
        """Close what is open and return the root."""
        self._stacks.end_all(self._record.end)
        self._declared.settle()
        say_exposed(self._record, self._declared.launched())
        if self._record.failed and self._top.error is None:
            self._top.error = self._record.raised or _ENDED
        describe_heads(self.heads, self._record, self.truncated)
        error = self._top.error
        if error is not None and self._root is not self._top:
            self._root.error = Raised(*error[:2], "")  # told once, where it happened
        return self._root

    # Module calls.

    def _enter(self, site: Site, thread: int, first: int, time: int, detail: Any) -> None:
        stack = self._stacks.of(thread)
        top = stack[-1] if stack else None
        training = detail.said if type(detail) is Detail else detail
        recompute = False
        parent_span: Span | None
        if isinstance(top, Call):
            recompute = top.recompute
            counts = top.counts
            if counts is None:
                counts = top.counts = {}
            parent_span = top.span or self._stacks.current(stack)
            call = Call(site, top, first, training, label_of(site, top))
        elif isinstance(top, Backward):
            recompute = True
            counts = {}  # its index is that of the call that it repeats
            parent_span = None  # until it is known where it belongs
            repeats = self._last_call_of(site)  # until it is known which call it is
            label = label_of(site, None) if repeats is None else repeats.label
            call = Call(site, None, first, training, label)
            call.repeats = repeats
            call.novel = True
            if repeats is not None:
                call.base = repeats.base
            top.recomputes(call)
        else:
            self._stacks.program_thread = thread
            # No index where there may be thousands of calls: those of an evaluation, or of a dataset for each sample.
            loads = isinstance(top, Span) and top.phase == semconv.PHASE_DATA
            counts = self._counts if self._counts_roots and not loads else {}
            parent_span = self._stacks.current(stack)
            call = Call(site, None, first, training, label_of(site, None))
        call.start = call.end = time
        call.order = self.order
        self.order += 1
        call.index = counts.get(site, 0)
        counts[site] = call.index + 1
        call.recompute = recompute
        phase = semconv.PHASE_RECOMPUTE if recompute else semconv.PHASE_FORWARD
        attributes = attributes_of(call, phase, self._stacks.around(stack))
        # By name: threads that call a module for the first time at once may have a site each.
        if self._evaluation is not None and not stack and site.fqn == self._evaluation.fqn:
            self._evaluation = None
            span = self._top
            span.attributes = attributes
            span.start = time
            call.span = span
        elif self._limit.take():
            prefix = semconv.RECOMPUTE_PREFIX if recompute else semconv.FORWARD_PREFIX
            name = prefix + call.label
            call.span = Span(
                self._trace, parent_span, name, phase, INTERNAL, time, time, attributes
            )
        if call.span is not None:
            if call.index:
                call.span.say((CALL_INDEX,), (call.index,))
            if type(detail) is Detail:
                call.span.say(CALL.values, detail.values)
        self._made.calls.add(call)
        stack.append(call)
        self._made.ruler(thread).turn(first, call)

    def _exit(self, event: Event, thread: int, last: int, time: int, detail: Any) -> None:
        stack = self._stacks.of(thread)
        call = stack[-1] if stack else None
        if not isinstance(call, Call):  # an exception passed through what is open
            call = innermost_call(stack)
            if call is None:
                return  # it was open when the record began
        while (opened := stack.pop()) is not call:
            end(opened, time)
        call.end = time
        outer = call.parent or innermost_call(stack)
        self._made.ruler(thread).turn(last, outer)
        span = call.span
        if span is None:
            return
        span.end = time
        if event is EXIT and last > call.first and not call.recompute:
            span.kind = self._kinds.forward
        if span.kind != INTERNAL and call.parent is not None and call.parent.span is not None:
            call.parent.span.kind = span.kind  # its nodes are its caller's too
        if isinstance(detail, Raised):
            span.error = detail
            if not stack and not call.recompute:
                self._top.error = detail if span is self._top else Raised(*detail[:2], "")
        elif type(detail) is Detail:
            span.say(event.values, detail.values)

    def _last_call_of(self, site: Site) -> Call | None:
        return next(self._known.of(site), None) or next(self._known.before(site), None)

    # Backward.

    def _mark(self, _: Event, thread: int, number: int, time: int, task: int) -> None:
        backward = self._backwards.get(task)
        if backward is None:  # it began in an earlier record
            backward = self._open_backward(thread, task, time, [])
        ruler = self._made.ruler(thread)
        if ruler.starts_by(number):
            owner = ruler.owner(number)
        else:
            owner = self._history.owner(thread, number)
            self._own_marks_only = self._own_marks_only and owner is None
        backward.reach(owner, time)

    def _task(self, _: Event, thread: int, task: int, time: int, caller: int | None) -> None:
        stack = self._stacks.of(thread)
        if caller is None and not stack:
            # A device thread of the engine: who called it is not known.
            stack = self._stacks.of(self._stacks.program_thread)
        if stack and isinstance(stack[-1], Backward):
            stack[-1].settle()
        self._open_backward(thread, task, time, stack)

    def _open_backward(self, thread: int, task: int, time: int, around: list[Open]) -> Backward:
        span = Span(
            self._trace,
            self._stacks.current(around),
            semconv.BACKWARD_PASS,
            semconv.PHASE_BACKWARD,
            INTERNAL,
            time,
            time,
            attributes_of_phase(semconv.PHASE_BACKWARD, around=self._stacks.around(around)),
        )
        outer = next((open_ for open_ in reversed(around) if isinstance(open_, Backward)), None)
        since = self.order if outer is None else outer.since
        kind = self._kinds.backward
        backward = Backward(span, kind, self._limit, self._known, since, self.order)
        self._backwards[task] = backward
        self._stacks.of(thread).append(backward)
        return backward

    def _task_end(self, _: Event, __: int, task: int, time: int, finished: bool | None) -> None:
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
        self._stacks.remove(backward)

    # What the program says of our spans.

    def _span_id(self, _: Event, thread: int, span_id: int, __: int, ___: Any) -> None:
        self._stacks.innermost_module(thread).span_id = span_id

    def _note(self, _: Event, thread: int, method: Any, time: int, arguments: Any) -> None:
        span = self._stacks.innermost_module(thread)
        if span.notes is None:
            span.notes = []
        said = arguments.in_order() if type(arguments) is Notes else [(method, arguments, time)]
        span.notes.extend(Note(*one) for one in said)


# tree, event or site, thread, slot 2, time, slot 4
_Rule = Callable[[RecordTree, Any, int, Any, int, Any], None]

RULES: dict[Event, _Rule] = {
    EXIT: RecordTree._exit,
    EXIT_BARE: RecordTree._exit,
    MARK: RecordTree._mark,
    TASK: RecordTree._task,
    TASK_END: RecordTree._task_end,
    SPAN_ID: RecordTree._span_id,
    NOTE: RecordTree._note,
}
