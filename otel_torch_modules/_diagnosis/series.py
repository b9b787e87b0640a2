"""The steps of one rank as columns: how long each took, and its own time in each place.

Own time is a span's without that of the spans below it; over all places of a step it adds up to the step's time.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from statistics import median
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.device_times import (
    ToldBy,
    lasted,
    own_times_on_device,
    says_modules,
    says_phases,
    told_by,
)
from otel_torch_modules._diagnosis.neighbours import KindsInTurn, kinds_in_turn
from otel_torch_modules._diagnosis.nesting import nesting
from otel_torch_modules._diagnosis.places import Places, TimedPlace
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Span

MS = 1e6  # ns
_EXCEPTIONS = (semconv.KEPT_SLOW, semconv.KEPT_FAILED)
_WHOLES = (semconv.PHASE_STEP, semconv.PHASE_RANK)
_SOME = 9  # steps: of fewer the middle third may have one that is unlike the others
_CHOSEN = (*_EXCEPTIONS, semconv.KEPT_FIRST, semconv.KEPT_EVERY)  # by `KEEP`


def own_times(root: Span) -> list[int]:
    """Return the own time of a span and of all below it, in ns and in their order."""
    starts, ends, parents = nesting(root)
    own = [end - start for start, end in zip(starts, ends, strict=True)]
    for at in range(1, len(own)):
        parent = parents[at]
        # What sticks out of its parent is not the parent's.
        inside = min(ends[at], ends[parent]) - max(starts[at], starts[parent])
        if inside > 0:
            own[parent] -= inside
    return [
        max(time, 0) for time in own
    ]  # spans of several threads below one may be longer than it


class Series:
    """Steps in order of time. Times of columns are ms, of `starts` and `ends` Unix ns.

    `own[place][i]` is the own time of step `i` in a place. A step that is not `in_full` was sent with phases only, or
    its device tells of these alone where it tells of modules in others: what its modules took is its roots' own time.

    Args:
        rank: of whose steps they are.
        steps: the spans of steps, or of the rank's parts of them.
        places: where the own time of spans belongs.
        by: whose time they are told by; as far as it can be by the device where it is None.
    """

    def __init__(
        self, rank: int | None, steps: Sequence[Span], places: Places, by: ToldBy | None = None
    ) -> None:
        self.rank = rank
        self.steps = steps
        self.told_by = told_by(steps) if by is None else by
        self._places = places
        self.numbers = [step.step if step.step is not None else at for at, step in enumerate(steps)]
        by_device = self.told_by is not ToldBy.PROGRAM
        stretches = lasted(steps) if by_device else ((step.start, step.end) for step in steps)
        self.starts, self.ends = list[int](), list[int]()
        for start, end in stretches:
            self.starts.append(start)
            self.ends.append(end)
        self.ms = [(end - start) / MS for start, end in zip(self.starts, self.ends, strict=True)]
        self.spans = [step.shape.after[step.at] - step.at for step in steps]
        self.in_full = sent_in_full(steps)
        if self.told_by is ToldBy.MODULES:
            self.in_full = [*map(says_modules, steps)]
        self.own: dict[TimedPlace, array[float]] = {}
        tables: dict[tuple[Shape, int], _Table] = {}
        for number, step in enumerate(steps):
            table = tables.get((step.shape, step.at))
            if table is None:
                table = tables[step.shape, step.at] = self._table(step, places)
            own_of_spans = (
                own_times_on_device(step, self.ends[number] - self.starts[number], self.told_by)
                if by_device and says_phases(step)
                else own_times(step)
            )
            sums = _sums(own_of_spans, table)
            for column, own in zip(table.columns, sums, strict=True):
                column.extend([0.0] * (number - len(column)))
                column.append(own / MS)
        for column in self.own.values():
            column.extend([0.0] * (len(steps) - len(column)))

    def _table(self, step: Span, places: Places) -> _Table:
        of_spans = places.of_shape(step.shape, step.at)
        distinct = list(dict.fromkeys(of_spans))
        numbers = {place: number for number, place in enumerate(distinct)}
        return _Table(
            [numbers[place] for place in of_spans],
            [self.own.setdefault(place, array("d")) for place in distinct],
        )

    def place_of(self, span: Span) -> TimedPlace:
        """Return where the own time of a span is counted that lies in one of the steps, or of the step's own span."""
        shape, step = span.shape, span.at
        while shape.sites[step].phase not in _WHOLES:
            step = shape.parents[step]
        return self._places.of_shape(shape, step)[span.at - step]

    def __len__(self) -> int:
        return len(self.steps)

    @cached_property
    def phases(self) -> Mapping[str, Sequence[float]]:
        """Own time of each step by phase."""
        sums: dict[str, array[float]] = {}
        for place, column in self.own.items():
            known = sums.get(place.phase)
            sums[place.phase] = (
                array("d", column)
                if known is None
                else array("d", map(float.__add__, known, column))
            )
        return sums

    @cached_property
    def usual_steps(self) -> Series:
        """The steps that have their modules and were not sent for being slow or failed; all of them where none is."""
        chosen = [at for at, in_full in enumerate(self.in_full) if in_full]
        others = [at for at in chosen if self.steps[at].text(semconv.STEP_KEPT) not in _EXCEPTIONS]
        return self.select(others or chosen or range(len(self)))

    @cached_property
    def in_turn(self) -> KindsInTurn | None:
        """The two kinds of steps, where every second one takes longer."""
        return kinds_in_turn(self.numbers, self.ms) if all(self.in_full) else None

    @cached_property
    def middling(self) -> Series:
        """The middle third of the steps by how long they took, or of few the one in the middle.

        Their mean is robust and, unlike the medians of places, adds up.
        """
        count = len(self)
        cut = count // 3 if count >= _SOME else (count - 1) // 2
        in_order = sorted(range(count), key=self.ms.__getitem__)
        return self.select(sorted(in_order[cut : count - cut]))

    @cached_property
    def calls(self) -> Mapping[TimedPlace, float]:
        """How many spans a step has in each place, on average."""
        sums: Counter[TimedPlace] = Counter()
        for (shape, first), steps in Counter((step.shape, step.at) for step in self.steps).items():
            sites = shape.sites[first : shape.after[first]]
            for place, site in zip(self._places.of_shape(shape, first), sites, strict=True):
                if site.phase not in _WHOLES:
                    sums[place] += steps
        return {place: calls / len(self) for place, calls in sums.items()}

    def told_as(self, by: ToldBy) -> Series:
        """Return the same steps told by that."""
        if by is self.told_by:
            return self
        told = Series(self.rank, self.steps, self._places, by)
        told.numbers = self.numbers
        return told

    def phase(self, name: str) -> Sequence[float]:
        """Return the own time of each step in a phase."""
        return self.phases.get(name) or [0.0] * len(self)

    def attribute(self, key: str) -> list[float | None]:
        """Return a number that each step's span has, or None."""
        values: list[float | None] = []
        for step in self.steps:
            number = step.number(key)
            values.append(step.measure(key) if number is None else number)
        return values

    def select(self, chosen: Sequence[int]) -> Series:
        """Return the series of some of its steps, by their numbers in this one."""
        part = object.__new__(Series)
        part.rank = self.rank
        part.told_by, part._places = self.told_by, self._places
        for name in ("steps", "numbers", "starts", "ends", "ms", "spans", "in_full"):
            column = getattr(self, name)
            setattr(part, name, [column[at] for at in chosen])
        part.own = {
            place: array("d", map(column.__getitem__, chosen)) for place, column in self.own.items()
        }
        return part


def sent_in_full(steps: Sequence[Span]) -> list[bool]:
    """Return of each step whether its modules were sent: `KEEP` and `MAX_OVERHEAD` leave those of most steps out."""
    reasons = [step.text(semconv.STEP_KEPT) for step in steps]
    chosen = any(reason in _CHOSEN for reason in reasons)
    if chosen or any(step.number(semconv.STEP_STRIDE) is not None for step in steps):
        return [
            _has_modules(step.shape, step.at) and (reason is not None or not chosen)
            for step, reason in zip(steps, reasons, strict=True)
        ]
    return [True] * len(steps)


@lru_cache(maxsize=1_000)
def _has_modules(shape: Shape, first: int) -> bool:
    """Return whether there is a module's span below another one's."""
    return any(
        shape.sites[at].fqn is not None and shape.sites[shape.parents[at]].fqn is not None
        for at in range(first + 1, shape.after[first])
    )


class _Table(NamedTuple):
    """Of steps that look alike: in which column each span's own time is counted."""

    numbers: Sequence[int]
    columns: Sequence[array[float]]


def _sums(own: Iterable[int], table: _Table) -> list[int]:
    """Return the own time of a step in each column, in ns."""
    sums = [0] * len(table.columns)
    for number, time in zip(table.numbers, own, strict=True):
        sums[number] += time
    return sums


def series_of(steps: Iterable[Span]) -> list[Series]:
    """Return a series for each rank, by number; one, of rank None, in a job of one process."""
    of_rank: dict[int | None, list[Span]] = {}
    shapes: dict[Shape, None] = {}
    for step in steps:
        for span in step.ranks or [step]:
            of_rank.setdefault(span.rank, []).append(span)
            shapes[span.shape] = None
    places = Places(site for shape in shapes for site in shape.sites)
    in_order = sorted(of_rank.items(), key=lambda entry: -1 if entry[0] is None else entry[0])
    return [
        Series(rank, sorted(spans, key=lambda span: span.start), places) for rank, spans in in_order
    ]


def usual(values: Sequence[float]) -> float:
    """Return the median, 0 of nothing."""
    return median(values) if values else 0.0


def gaps(series: Series) -> Iterator[tuple[int, float]]:
    """Yield the time in ms between each step and the next one of its process, where none is missing between them."""
    numbers, steps = series.numbers, series.steps
    for at in range(len(series) - 1):
        if numbers[at + 1] == numbers[at] + 1 and steps[at].process == steps[at + 1].process:
            yield at, max(series.starts[at + 1] - series.ends[at], 0) / MS
