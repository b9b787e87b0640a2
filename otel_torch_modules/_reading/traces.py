"""All that sources hold: spans joined to traces, their steps, and which of these are whole."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._grammar import agree, counted, first_of
from otel_torch_modules._printable import printable
from otel_torch_modules._reading.arrivals import Arrivals
from otel_torch_modules._reading.attendance import Attendance
from otel_torch_modules._reading.damage import Damage
from otel_torch_modules._reading.files import read_file
from otel_torch_modules._reading.jaeger import read_jaeger
from otel_torch_modules._reading.join import Joiner
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules._reading.tempo import read_tempo
from otel_torch_modules._reading.wanted import leave_out_unwanted, options, service_of
from otel_torch_modules._trace import Span, Trace
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_MAX_SPANS_PER_STEP

TRUNCATED_FOR: Final = (
    f"had more spans than {OTEL_TORCH_MODULES_MAX_SPANS_PER_STEP} allows, "
    "or than there was memory for"
)
"""Why a step is truncated, as it ends a sentence about it."""

# Phases that stand below a step or an evaluation only: without it they are what is left of one.
_PARTS = (
    semconv.PHASE_DATA,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_OPTIMIZER,
)
_EVERYTHING = Query()
_OUTSIDE = (semconv.PHASE_EVALUATE, semconv.PHASE_FORWARD)


class Traces(NamedTuple):
    """What a source holds, or several. The columns of a step are those of its `trace`, from its number `at` on."""

    sources: Sequence[str]
    steps: list[Span]  # spans of phase `step`, and of `rank` whose step is not there, by start
    outside: list[Span]  # evaluations and root forwards outside any step, the same
    roots: list[Span]  # all of them, the program's too
    damages: list[Damage]  # one for each source
    fragments: int  # traces of which the root is not there
    resources: Mapping[
        str, Mapping[str, Any]
    ]  # what each process says of itself, by `Span.process`
    stalls: list[Span]  # of ranks, or of processes that have none, by start
    unwanted: int  # traces that were not asked for
    query: Query

    @classmethod
    def read(cls, *sources: object, query: Query = _EVERYTHING) -> Traces:
        """Read all spans of sources and join them to trees.

        Args:
            sources: names of files, ``-`` for standard input, ``jaeger=URL``, ``tempo=URL``.
            query: which traces are wanted.

        Raises:
            SourceError: a source cannot be read or is no OTLP, no trace is wanted, or there is neither a step nor a
                forward of ours.
        """
        traces, count = cls._read(sources, query)
        if not traces.steps and not traces.outside:
            losses = "".join(f" ({loss})" for loss in traces.cautions())
            raise SourceError(
                f"{traces.name} {traces.verb('holds', 'hold')} {counted(count, 'span')}, but neither a training step "
                f"nor a forward pass{losses}"
            )
        return traces

    @classmethod
    def read_stalls(cls, *sources: object, query: Query = _EVERYTHING) -> Traces:
        """Read the same, where stalls are what is looked for: there may be no step that has ended.

        Raises:
            SourceError: a source cannot be read or is no OTLP, or no trace is wanted.
        """
        return cls._read(sources, query._replace(phase=semconv.PHASE_STALL))[0]

    @classmethod
    def _read(cls, sources: Sequence[object], query: Query) -> tuple[Traces, int]:
        """Return what there is, and how many spans."""
        arrivals = Arrivals()
        searched: set[str] = set()
        damages = [_read_source(str(source), query, arrivals, searched) for source in sources]
        count = arrivals.count
        unwanted = leave_out_unwanted(query, arrivals, searched)
        missing: dict[str, list[int | None]] = {}
        for damage in damages:
            for place in damage.places:
                missing.setdefault(place.trace_id, []).append(place.time)
        parts = [
            _Parts.of(trace, missing.get(trace.trace_id, ())) for trace in Joiner(arrivals).traces()
        ]
        traces = cls(
            [str(source) for source in sources],
            sorted((step for part in parts for step in part.steps), key=_start),
            sorted((span for part in parts for span in part.outside), key=_start),
            sorted((root for part in parts for root in part.roots), key=_start),
            damages,
            sum(part.is_fragment for part in parts),
            arrivals.resources,
            sorted((span for part in parts for span in part.stalls), key=_start),
            unwanted,
            query,
        )
        if unwanted and not parts:
            verb = traces.verb("holds", "hold")
            found = counted(unwanted, "trace")
            raise SourceError(f"{traces.name} {verb} {found}, none of {traces._asked}")
        return traces, count

    @property
    def lanes(self) -> list[Span]:
        """Where the steps' phases ran on their devices, by start."""
        heads = (head for step in self.steps for head in step.ranks or [step])
        return sorted((lane for head in heads if (lane := head.lane) is not None), key=_start)

    @property
    def attendance(self) -> Attendance:
        """Which ranks are there in which steps."""
        attendance = Attendance()
        attendance.take(self.steps, self.resources)
        return attendance

    @property
    def whole_steps(self) -> list[Span]:
        """The steps of which nothing is missing that is known of."""
        return [step for step in self.steps if not step.incomplete]

    @property
    def truncated(self) -> int:
        """How many steps have fewer module spans than they had."""
        return sum(step.truncated for step in self.steps)

    @property
    def name(self) -> str:
        """What the sources are called in a sentence."""
        count = len(self.sources)
        return agree(count, self.damages[0].source, f"these {count} files")

    def verb(self, one: str, many: str) -> str:
        """Return which of the two agrees with `name`."""
        return agree(len(self.sources), one, many)

    def losses(self) -> Iterator[str]:
        """Yield what is to be told of what could not be read, and of what that has made incomplete."""
        for damage in self.damages:
            yield from damage.sentences()
        if self.unwanted:
            were = counted(self.unwanted, "trace is", "traces are")
            was = agree(self.unwanted, "was", "were")
            yield f"{self.name}: {were} not of {self._asked} and {was} left out"
        if self.fragments:
            were = counted(
                self.fragments, "trace has no root and was", "traces have no root and were"
            )
            parts = agree(self.fragments, "a part of it was", "parts of them were")
            yield f"{self.name}: {were} left out: {parts} lost"
        incomplete = len(self.steps) - len(self.whole_steps)
        if incomplete:
            steps = counted(incomplete, "step is", "steps are")
            yield f"{self.name}: {steps} incomplete: spans of {agree(incomplete, 'it', 'them')} were lost"
        yield from (f"{self.name}: {gap}" for gap in self.attendance.gaps())

    def cautions(self) -> Iterator[str]:
        """Yield the losses, and what else is to be known by who reads of all steps as of one run."""
        yield from self.losses()
        if self.truncated:
            are = counted(self.truncated, "step is", "steps are")
            yield (
                f"{self.name}: {are} truncated: {agree(self.truncated, 'it', 'they')} {TRUNCATED_FOR}"
            )
        again = self._made_again
        if again:
            several = counted(len(again), "number of a step", "numbers of steps")
            yield (
                f"{self.name} {self.verb('holds', 'hold')} {several} more than once, {first_of(again)}: a job was "
                "started again, or they are of several; --step takes the last of a number"
            )
        for ranks in self.attendance.absent():
            yield f"{self.name} {self.verb('holds', 'hold')} {ranks}"
        services = sorted({service_of(self.resources.get(step.process, {})) for step in self.steps})
        if len(services) > 1:
            holds = f"{self.name} {self.verb('holds', 'hold')}"
            yield f"{holds} steps of {len(services)} services, {first_of(services)}: all are taken together"
        stalls = {span.trace_id: span.step for span in self.stalls}
        if stalls:
            steps = sorted({step for step in stalls.values() if step is not None})
            at = f", at {agree(len(steps), 'step', 'steps')} {first_of(steps)}" if steps else ""
            yield (
                f"{self.name} {self.verb('holds', 'hold')} {counted(len(stalls), 'stall')}{at}: "
                "otel-torch-modules stalls says where the job stood still"
            )

    @property
    def _made_again(self) -> list[int]:
        """The numbers of steps that a rank has in several traces."""
        traces: dict[tuple[int | None, int], set[str]] = {}
        for step in self.steps:
            for head in step.ranks or [step]:
                if step.step is not None:
                    traces.setdefault((head.rank, step.step), set()).add(step.trace_id)
        return sorted({number for (_, number), ids in traces.items() if len(ids) > 1})

    @property
    def _asked(self) -> str:
        return printable(options(self.query))

    def ranks_of_whole_steps(self) -> list[list[Span]]:
        """Return the spans of the ranks of each whole step, by number; those of one trace belong together."""
        ranks: dict[tuple[str, int | None], list[Span]] = {}
        cut = {(step.trace_id, step.step) for step in self.steps if step.incomplete}
        for step in self.steps:
            place = (step.trace_id, step.step)
            if place not in cut:
                ranks.setdefault(place, []).extend(step.ranks)
        return [sorted(of_step, key=lambda span: span.rank or 0) for of_step in ranks.values()]


_BACKENDS: Final = {"jaeger": read_jaeger, "tempo": read_tempo}


def _read_source(source: str, query: Query, arrivals: Arrivals, searched: set[str]) -> Damage:
    """Read a source; those traces that a backend has found are noted in `searched`."""
    kind, _, url = source.partition("=")
    read_backend = _BACKENDS.get(kind)
    if read_backend is not None:
        query.progress.begin(kind, None)
        before = set(arrivals.traces)
        try:
            return read_backend(url, query, arrivals)
        finally:
            searched |= arrivals.traces.keys() - before
            query.progress.end()
    return read_file(source, arrivals, query.progress)


def _start(span: Span) -> int:
    return span.start


class _Parts(NamedTuple):
    """What a trace consists of."""

    steps: list[Span]
    outside: list[Span]
    roots: list[Span]
    stalls: list[Span]
    is_fragment: bool  # parts of it were lost, the root among them

    @classmethod
    def of(cls, trace: Trace, missing: Sequence[int | None]) -> _Parts:
        """Look at a trace of which spans that began at the times `missing` are known to be lost."""
        roots = [Span(trace, at) for at in trace.shape.roots]
        steps: list[Span] = []
        outside: list[Span] = []
        for root in roots:
            if root.is_stall:
                continue
            of_root = (
                bisect_left(trace.shape.steps, end) for end in (root.at, trace.shape.after[root.at])
            )
            inside = [Span(trace, at) for at in trace.shape.steps[slice(*of_root)]]
            is_rank = root.rank is not None
            if is_rank and not root.is_evaluation:
                inside = [root]
            steps += inside
            if not inside and (is_rank or root.phase in _OUTSIDE):
                outside.append(root)
        for step in steps:
            if any(time is None or _covers(step, time) for time in missing):
                trace.incomplete.add(step.at)
        fragments, fragmentary = _fragments(trace, steps, roots, is_damaged=bool(missing))
        return cls(
            steps,
            [span for span in outside if span not in fragments],
            [root for root in roots if root not in fragments],
            [span for root in roots if root.is_stall for span in root.ranks or [root]],
            fragmentary and not steps,
        )


def _covers(step: Span, time: int) -> bool:
    return any(span.start <= time <= span.end for span in (step, *step.ranks))


def _fragments(
    trace: Trace, steps: Sequence[Span], roots: Sequence[Span], *, is_damaged: bool
) -> tuple[Collection[Span], bool]:
    """Return the roots whose parent was lost, and whether there are such spans; mark the steps to which they belong.

    That a parent is not there is no fault by itself: a span of the program's, below which steps or forward passes lie,
    may go elsewhere.
    """
    of_program = {step.parent_id for step in steps}
    pieces = [
        root
        for root in roots
        if root.parent_id
        and root.phase not in (None, semconv.PHASE_STEP, semconv.PHASE_RANK)
        and root.parent_id not in of_program
    ]
    parents_lost = {piece.parent_id for piece in pieces if piece.phase in _PARTS or is_damaged}
    fragments: set[Span] = set()
    for piece in pieces:
        if _mark_owners(steps, piece.start) or piece.parent_id in parents_lost:
            fragments.add(piece)
    for start in trace.astray:
        _mark_owners(steps, start)
    return fragments, bool(fragments or trace.astray)


def _mark_owners(steps: Iterable[Span], time: int) -> bool:
    """Mark the steps in which something is missing that began at `time`; return whether there are such steps."""
    owners = [step for step in steps if _covers(step, time)]
    for step in owners:
        step.trace.incomplete.add(step.at)
    return bool(owners)
