"""On which track of a timeline each span lies: a process for each rank, in it a track for each phase.

On a track spans lie in one another or one after the other, never across: what would, because threads ran beside each
other, lies on a second track of its phase. So a track can be written as it comes, begin by begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Span, Trace

_JOB = "job"  # the process of what lies above the ranks
_PROGRAM = "program"  # spans of its own outside all of ours
_ORDER = (
    semconv.PHASE_STEP,
    semconv.PHASE_EVALUATE,
    semconv.PHASE_DATA,
    semconv.PHASE_FORWARD,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_OPTIMIZER,
    semconv.PHASE_BETWEEN,
    semconv.PHASE_DEVICE,
)
_MOST_BESIDE = 64  # tracks of a phase: of what lies beside even more, the last one has all


class Process(NamedTuple):
    """A rank, or what stands in its place."""

    number: int  # from 1 on
    name: str


class Track:
    """A row of a timeline."""

    def __init__(self, number: int, process: Process, name: str, order: int) -> None:
        self.number = number  # from 1 on
        self.process = process
        self.name = name
        self.order = order  # among the tracks of its process
        self._open: list[tuple[int, Trace, int]] = []  # end, and which span
        self._last = 0  # begin of the span that came last

    def take(self, trace: Trace, at: int, *, anyway: bool) -> list[int] | None:
        """Put a span here; return the ends of those that end before it begins. None: there is no place for it."""
        start, end = trace.starts[at], trace.ends[at]
        inside = len(self._open)
        while inside and self._open[inside - 1][0] <= start:
            inside -= 1
        if not anyway:
            if start < self._last:
                return None
            if inside and not self._is_below(inside - 1, trace, at, end):
                return None
        closed = [entry[0] for entry in reversed(self._open[inside:])]
        del self._open[inside:]
        self._open.append((end, trace, at))
        self._last = max(start, self._last)
        return closed

    def _is_below(self, number: int, trace: Trace, at: int, end: int) -> bool:
        upper_end, upper_trace, upper = self._open[number]
        return upper_trace is trace and upper < at < trace.shape.after[upper] and end <= upper_end

    def close(self) -> list[int]:
        """Return the ends of the spans that are still open, in order of time."""
        return [end for end, _, _ in reversed(self._open)]


class OnTrack(NamedTuple):
    """A span on its track."""

    trace: Trace
    at: int
    track: Track
    ended: list[int]  # ends of spans of this track that come before its begin


class _Rows(NamedTuple):
    """Where the spans of a tree go, from its root on."""

    processes: Sequence[str]
    phases: Sequence[str]


class Timeline:
    """The processes and tracks that there are so far."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.tracks: list[Track] = []
        self._of_phase: dict[tuple[str, str], list[Track]] = {}
        self._rows: dict[tuple[Shape, int, str], _Rows] = {}

    def place(self, root: Span) -> Iterator[OnTrack]:
        """Yield a root and all spans below it in order of time, those above before those below."""
        trace, first = root.trace, root.at
        key = (root.shape, first, root.process)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = _rows(root)
        numbers = range(first, root.shape.after[first])
        for at in sorted(numbers, key=trace.starts.__getitem__):
            row = rows.processes[at - first], rows.phases[at - first]
            yield self._put(trace, at, *row)

    def _put(self, trace: Trace, at: int, process: str, phase: str) -> OnTrack:
        tracks = self._of_phase.setdefault((process, phase), [])
        for number, track in enumerate(tracks, 1):
            ended = track.take(trace, at, anyway=number == _MOST_BESIDE)
            if ended is not None:
                return OnTrack(trace, at, track, ended)
        track = self._new_track(process, phase, len(tracks))
        tracks.append(track)
        return OnTrack(trace, at, track, track.take(trace, at, anyway=True) or [])

    def _new_track(self, name: str, phase: str, beside: int) -> Track:
        process = self.processes.get(name)
        if process is None:
            process = self.processes[name] = Process(len(self.processes) + 1, name)
        place = _ORDER.index(phase) if phase in _ORDER else len(_ORDER)
        track = Track(
            len(self.tracks) + 1,
            process,
            f"{phase} {beside + 1}" if beside else phase,
            place * _MOST_BESIDE + beside,
        )
        self.tracks.append(track)
        return track


def _rows(root: Span) -> _Rows:
    shape, first = root.shape, root.at
    processes: list[str] = []
    phases: list[str] = []
    above_lane = root.above_lane
    rank = None if above_lane is None else above_lane.rank
    own_process = f"process {root.process}".rstrip() if rank is None else f"rank {rank}"
    for at in range(first, shape.after[first]):
        site = shape.sites[at]
        above = shape.parents[at] - first
        if site.rank is not None:
            process = f"rank {site.rank}"
        elif site.phase in (semconv.PHASE_STEP, semconv.PHASE_EVALUATE) and _has_ranks(shape, at):
            process = _JOB
        else:
            process = processes[above] if at > first else own_process
        phase = phases[above] if at > first else _PROGRAM
        if site.phase is not None:
            phase = site.phase
        if site.rank is not None and phase == semconv.PHASE_RANK:
            phase = semconv.PHASE_STEP
        processes.append(process)
        phases.append(phase)
    return _Rows(processes, phases)


def _has_ranks(shape: Shape, at: int) -> bool:
    return any(shape.sites[child].rank is not None for child in shape.children(at))


class Flows:
    """Which backwards follow from which forwards. Flows are numbered from 1 on, each from one span to one."""

    def __init__(self) -> None:
        self._trace: Trace | None = None
        self._before: dict[Trace, int] = {}  # how many flows there were before those of a trace
        self._count = 0
        self._begin: dict[int, list[int]] = {}
        self._end: dict[int, int] = {}

    def turn_to(self, trace: Trace) -> None:
        """Answer for the spans of this trace from now on."""
        if trace is self._trace:
            return
        self._trace = trace
        self._begin, self._end = {}, {}
        if not any(trace.link_ids):
            return
        places = dict(zip(trace.span_ids, range(len(trace)), strict=True))
        flow = self._before.setdefault(trace, self._count)
        for at, link in enumerate(trace.link_ids):
            forward = places.get(link) if link else None
            if forward is not None:
                flow += 1
                self._begin.setdefault(forward, []).append(flow)
                self._end[at] = flow
        self._count = max(self._count, flow)

    def begin(self, at: int) -> Sequence[int]:
        """Return the flows that begin at a span."""
        return self._begin.get(at, ())

    def end(self, at: int) -> Sequence[int]:
        """Return the flow that ends at a span, if one does."""
        return (self._end[at],) if at in self._end else ()
