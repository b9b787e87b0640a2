"""Joins the spans of a trace to its tree.

What the steps of a training look like repeats itself, and so does the order in which their spans arrive: how they are
put in order is worked out for the first step, and only checked for those that arrive alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from math import nan
from operator import ge
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._reading.arrivals import Arrivals, Columns
from otel_torch_modules._shape import Shape, Site
from otel_torch_modules._trace import Trace

_MOST_LAYOUTS = 256


class _Layout(NamedTuple):
    """How spans that arrive in some order become those of a shape."""

    order: Sequence[int]  # which arrival is the span numbered so
    before: Sequence[int]  # which span must not have begun after this one: its sibling before it
    shape: Shape
    in_circles: Sequence[int]  # arrivals that no root leads to


class Joiner:
    """Makes traces of what has arrived."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._layouts: dict[tuple[bytes, tuple[int, ...]], _Layout] = {}
        self._shapes: dict[tuple[object, ...], Shape] = {}

    def traces(self) -> Iterator[Trace]:
        """Yield all traces; what has arrived is given up for them."""
        waiting = self._arrivals.traces
        for trace_id in list(waiting):
            yield self._join(trace_id, waiting.pop(trace_id))

    def _join(self, trace_id: str, columns: Columns) -> Trace:
        place = dict(zip(columns.span_ids, range(len(columns)), strict=True))
        if len(place) < len(columns):
            columns = _chosen(columns, sorted(place.values()))  # of a span sent twice the last
            place = dict(zip(columns.span_ids, range(len(columns)), strict=True))
        parents = tuple([place.get(parent, -1) for parent in columns.parent_ids])
        layout = self._layout(columns, parents)
        astray = [columns.starts[at] for at in layout.in_circles]
        columns = _chosen(columns, layout.order)
        processes = self._arrivals.processes
        only = {processes[number] for number in set(columns.processes)}
        return Trace(
            trace_id,
            layout.shape,
            columns.span_ids,
            columns.parent_ids,
            columns.starts,
            columns.ends,
            _Everywhere(only.pop(), len(columns))
            if len(only) == 1
            else tuple([processes[number] for number in columns.processes]),
            columns.measures,
            columns.remarks,
            columns.link_ids,
            astray,
        )

    def _layout(self, columns: Columns, parents: tuple[int, ...]) -> _Layout:
        key = (columns.sites.tobytes(), parents)
        known = self._layouts.get(key)
        if known is not None:
            starts = [columns.starts[at] for at in known.order]
            if all(map(ge, starts, map(starts.__getitem__, known.before))):
                return known
        if len(self._layouts) == _MOST_LAYOUTS:
            self._layouts.clear()
        layout = self._layouts[key] = self._work_out(columns, parents)
        return layout

    def _work_out(self, columns: Columns, parents: tuple[int, ...]) -> _Layout:
        sites = [self._arrivals.sites[number] for number in columns.sites]
        roots, children = _children(columns, parents, sites)
        heads = _taken_out(children, sites)
        order: list[int] = []
        new_parents: list[int] = []
        stack = [(at, -1) for at in reversed([*roots, *heads])]
        while stack:
            at, parent = stack.pop()
            stack.extend((child, len(order)) for child in reversed(children[at]))
            order.append(at)
            new_parents.append(parent)
        in_order = tuple([sites[at] for at in order])
        before = list(range(len(order)))
        last: dict[int, int] = {}
        for number, parent in enumerate(new_parents):
            if in_order[number].rank is None and order[number] not in heads:
                before[number] = last.get(parent, number)
                last[parent] = number
        numbers = dict(zip(order, range(len(order)), strict=True))
        lanes = {numbers[head]: numbers[lane] for lane, head in heads.items() if head in numbers}
        key = (in_order, tuple(new_parents), tuple(lanes.items()))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(in_order, key[1], lanes)
        in_circles = () if len(order) == len(sites) else sorted({*range(len(sites))} - {*order})
        return _Layout(order, before, shape, in_circles)


class _Everywhere(Sequence[str]):
    """The same for all spans."""

    def __init__(self, value: str, length: int) -> None:
        self._value = value
        self._length = length

    def __getitem__(self, at: int) -> str:  # type: ignore[override]
        return self._value

    def __len__(self) -> int:
        return self._length


def _children(
    columns: Columns, parents: Sequence[int], sites: Sequence[Site]
) -> tuple[list[int], list[list[int]]]:
    """Return the spans without a parent, and those below each, in order of time; ranks by number."""
    starts, ends = columns.starts, columns.ends
    roots: list[int] = []
    children: list[list[int]] = [[] for _ in sites]
    for at in sorted(range(len(sites)), key=lambda at: (starts[at], -ends[at])):
        parent = parents[at]
        (roots if parent < 0 else children[parent]).append(at)
    for below in children:
        if len([at for at in below if sites[at].rank is not None]) > 1:
            below.sort(key=lambda at: -1 if (rank := sites[at].rank) is None else rank)
    return roots, children


def _taken_out(children: Sequence[list[int]], sites: Sequence[Site]) -> dict[int, int]:
    """Take the lanes of devices out of the spans below steps and ranks; return of each lane whose it is, by rank."""
    heads: dict[int, int] = {}
    for at, below in enumerate(children):
        if sites[at].phase in (semconv.PHASE_STEP, semconv.PHASE_RANK):
            lanes = [child for child in below if sites[child].phase == semconv.PHASE_DEVICE]
            heads.update(dict.fromkeys(lanes, at))
            below[:] = [child for child in below if child not in lanes]
    in_order = sorted(
        heads, key=lambda lane: -1 if (rank := sites[heads[lane]].rank) is None else rank
    )
    return {lane: heads[lane] for lane in in_order}


def _chosen(columns: Columns, order: Sequence[int]) -> Columns:
    """Return the columns of the spans whose numbers `order` has, in that order."""
    chosen = Columns()
    for name in ("span_ids", "parent_ids", "starts", "ends", "sites", "processes"):
        column = getattr(columns, name)
        getattr(chosen, name).extend(map(column.__getitem__, order))
    if columns.link_ids:
        columns.link_ids.extend([0] * (len(columns) - len(columns.link_ids)))
        chosen.link_ids.extend(map(columns.link_ids.__getitem__, order))
    for key, measured in columns.measures.items():
        measured.extend([nan] * (len(columns) - len(measured)))
        chosen.measures[key] = array("d", map(measured.__getitem__, order))
    if columns.remarks:
        chosen.remarks = {
            number: columns.remarks[at] for number, at in enumerate(order) if at in columns.remarks
        }
    return chosen
