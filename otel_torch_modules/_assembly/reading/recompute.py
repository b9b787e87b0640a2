"""What one backward computes once more between two of its marks, and where that belongs.

A checkpointed function need not be one module: it may be a lambda that calls several, or a layer's bound ``forward``,
whose children are then called directly. Whatever it is, its calls have the same caller in the forward pass and come in
its order. So the calls made directly from a backward are matched to forward calls from the last one to the
first, and where one does not precede the other another recompute began: that of a checkpoint inside a checkpoint.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from otel_torch_modules._assembly.reading.call import Call
from otel_torch_modules._assembly.reading.history import KnownCalls


class RecomputedFunction(NamedTuple):
    """One checkpointed function's recompute."""

    calls: list[Call]  # it is known now which forward call each repeats
    depth: int  # in the path, of the call whose backward holds it; -1 for the backward pass itself
    whole: bool  # that call is the one that is repeated

    @property
    def start(self) -> int:
        """When the first call began."""
        return self.calls[0].start

    @property
    def end(self) -> int:
        """When the last call ended."""
        return self.calls[-1].end

    def repeats_a_caller_of(self, call: Call) -> bool:
        """Return whether `call`, which is just inside the one that holds this run, is recomputed by it."""
        return self.whole or any(mine.repeats is call for mine in self.calls)


class _Candidate(NamedTuple):
    """A forward call that a recompute may repeat; of several the greatest does."""

    depth: int  # of the innermost call around it whose backward is open; -1 for none
    new: bool  # nothing has repeated it yet
    forward: bool  # not a recompute itself
    call: Call


class Recompute:
    """The calls made directly from one backward since its last mark.

    Args:
        known: the calls that may be repeated.
        novel: orders of the calls that may be though only a backward made them: the one around this one.
    """

    __slots__ = ("_known", "_novel", "_repeated", "calls")

    def __init__(self, known: KnownCalls, novel: range) -> None:
        self._known = known
        self._novel = novel
        self._repeated: set[Call] = set()
        self.calls: list[Call] = []

    def add(self, call: Call) -> None:
        """`call` is made now."""
        self.calls.append(call)

    def runs(self, path: list[Call]) -> list[RecomputedFunction]:
        """Return what has been recomputed, the first first, and forget it.

        Args:
            path: the calls whose backward is open, outermost first.
        """
        depths = {call: depth for depth, call in enumerate(path)}
        runs: list[RecomputedFunction] = []
        calls, self.calls = self.calls, []
        while calls:
            last = calls.pop()
            last.repeats = self._repeated_by(last, path, depths)
            run = [last]
            while calls and run[-1].repeats is not None:
                before = self._before(run[-1].repeats, calls[-1])
                if before is None:
                    break
                calls[-1].repeats = before
                run.append(calls.pop())
            for call in run:
                if call.repeats is not None:
                    call.novel = _outermost(call.repeats, {}).novel
                    self._repeated.add(call.repeats)
            host = last.repeats
            if host is None:  # not a recompute: a forward of its own, wherever backward stands
                runs.append(RecomputedFunction(run, len(path) - 1, whole=False))
                continue
            if len(run) > 1:
                host = host.parent
            while host is not None and host not in depths:
                host = host.parent
            depth = -1 if host is None else depths[host]
            runs.append(RecomputedFunction(run[::-1], depth, whole=host is last.repeats))
        return runs[::-1]

    def _repeated_by(self, call: Call, path: list[Call], depths: dict[Call, int]) -> Call | None:
        """Return the call that `call` repeats if it ended a recompute: the one that is open, or nearest to it."""
        for opened in reversed(path):
            if opened.site is call.site and opened.order < call.order:
                return opened
        until = path[-1].end if path else None  # what was called after it has run
        nearest = self._nearest(call, self._known.of(call.site, until), depths)
        if nearest is None or nearest.depth < 0:  # nothing of this record is open around it
            earlier = self._nearest(call, self._known.before(call.site, until), depths)
            if nearest is None or (earlier is not None and earlier[:-1] > nearest[:-1]):
                nearest = earlier
        return None if nearest is None else nearest.call

    def _nearest(
        self, call: Call, candidates: Iterable[Call], depths: dict[Call, int]
    ) -> _Candidate | None:
        best = None
        for candidate in candidates:
            if candidate.order >= call.order:
                continue
            around = _outermost(candidate, depths)
            depth = depths.get(around, -1)
            if depth < 0 and not self._may_repeat(around):
                continue
            found = _Candidate(
                depth, candidate not in self._repeated, not candidate.recompute, candidate
            )
            if best is None or found[:-1] > best[:-1]:
                best = found
        return best

    def _before(self, after: Call, call: Call) -> Call | None:
        """Return the call that `call` repeats if what came after it in the same function repeats `after`."""
        for candidate in self._known.beside(after, call.site):
            if (
                candidate.order < after.order
                and candidate.parent is after.parent
                and self._may_repeat(candidate)
            ):
                return candidate
        return None

    def _may_repeat(self, outermost: Call) -> bool:
        """Return whether a call in it may be a forward, as seen from here; else backward makes it anew each time."""
        return not outermost.novel or outermost.order in self._novel


def _outermost(call: Call, depths: Container[Call]) -> Call:
    """Return the innermost call around `call`, or itself, that is among `depths`; the outermost where none is."""
    while call not in depths and call.parent is not None:
        call = call.parent
    return call
