"""Spans as they arrive, packed by trace: a few dozen bytes each until all have been read.

The spans of one trace may stand in several lines and several files, children before their parents. So nothing is joined
before the end, and what waits until then must be small: numbers in columns, and what spans have in common once.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import nan
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._shape import Site
from otel_torch_modules._trace import Remark

# What is the same whenever the place is passed. All else varies from span to span, or may.
OF_A_SITE = frozenset(
    (
        semconv.PHASE,
        semconv.PHASE_PARENT,
        semconv.DISTRIBUTED_RANK,
        semconv.MODULE_FQN,
        semconv.MODULE_PATTERN,
        semconv.MODULE_CLASS,
        semconv.MODULE_CALL_INDEX,
        semconv.MODULE_TRAINING,
        semconv.MODULE_PARAMETERS,
        semconv.COMPILED,
        semconv.COMPILED_MODULES,
        semconv.COMPILED_REGION,
        semconv.CODE_FUNCTION_NAME,
        semconv.OPTIMIZER_CLASS,
    )
)
_PROCESS = ("service.instance.id", "host.name", "process.pid")  # the first of these names it
_ORIGIN = ("service.name", semconv.DISTRIBUTED_RUN_ID)  # what queries ask of it
_MEASURE = "torch."  # attributes of this prefix that are numbers are columns
_MOST_MEASURES = 16  # of one trace; what comes after is as any other attribute
_NO_ID = 0
_NO_REMARK = Remark({})


class Columns:
    """The spans of one trace in the order in which they came."""

    __slots__ = (
        "ends",
        "link_ids",
        "measures",
        "parent_ids",
        "processes",
        "remarks",
        "sites",
        "span_ids",
        "starts",
    )

    def __init__(self) -> None:
        self.span_ids = array("Q")
        self.parent_ids = array("Q")
        self.starts = array("Q")
        self.ends = array("Q")
        self.sites = array("I")
        self.processes = array("I")
        self.link_ids = array("Q")  # shorter where the last spans have none
        self.measures: dict[str, array[float]] = {}  # shorter where the last spans have none
        self.remarks: dict[int, Remark] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def link(self, at: int, span_id: int) -> None:
        """Note that the span numbered `at` links to another one of its trace."""
        missing = at - len(self.link_ids)
        if missing:
            self.link_ids.extend([_NO_ID] * missing)
        self.link_ids.append(span_id)

    def measure(self, at: int, key: str, value: float) -> bool:
        """Note a number of the span numbered `at`, unless there are too many kinds of them."""
        column = self.measures.get(key)
        if column is None:
            if len(self.measures) == _MOST_MEASURES:
                return False
            column = self.measures[key] = array("d")
        missing = at + 1 - len(column)
        if missing > 0:
            column.extend([nan] * missing)
        column[at] = value
        return True

    def measure_or_say(self, at: int, key: str, value: float) -> None:
        """Note a number of the span numbered `at`, wherever there is room."""
        if not self.measure(at, key, value):
            self.say(at, key, value)

    def add(self, block: Columns) -> None:
        """Add the spans of `block` behind those that there are, but for their remarks."""
        first = len(self)
        self.span_ids.extend(block.span_ids)
        self.parent_ids.extend(block.parent_ids)
        self.starts.extend(block.starts)
        # A host's clock may have been set back between them.
        self.ends.extend(map(max, block.starts, block.ends))
        self.sites.extend(block.sites)
        self.processes.extend(block.processes)
        if block.link_ids:
            self.link_ids.extend([_NO_ID] * (first - len(self.link_ids)))
            self.link_ids.extend(block.link_ids)
        for key, values in block.measures.items():
            column = self.measures.get(key)
            if column is not None or len(self.measures) < _MOST_MEASURES:
                column = self.measures.setdefault(key, array("d"))
                column.extend([nan] * (first - len(column)))
                column.extend(values)
                continue
            for at, value in enumerate(values):
                if value == value:
                    block.say(at, key, value)

    def say(self, at: int, key: str, value: float) -> None:
        """Have the span numbered `at` say by itself what would be in a column, were there not too many."""
        remark = self.remarks.get(at, _NO_REMARK)
        self.remarks[at] = remark._replace(attributes={**remark.attributes, key: value})


class Arrivals:
    """All spans that have been read so far."""

    def __init__(self) -> None:
        self.traces: dict[str, Columns] = {}
        self.sites: list[Site] = []
        self.processes: list[str] = []  # a name for each of `origins`
        self.origins: list[Mapping[str, Any]] = []  # resources that differ in what queries ask for
        self.resources: dict[str, Mapping[str, Any]] = {}  # of each process
        self.count = 0
        self.last: tuple[str, int] | None = None  # trace and end of the span that came last
        self._numbers: dict[object, int] = {}
        self._process_numbers: dict[tuple[str, ...], int] = {}

    def columns(self, trace_id: str) -> Columns:
        """Return those of a trace."""
        columns = self.traces.get(trace_id)
        if columns is None:
            columns = self.traces[trace_id] = Columns()
        return columns

    def process(self, attributes: Mapping[str, Any]) -> int:
        """Return the number of the process that sends, whose resource has these attributes."""
        name = next((str(attributes[key]) for key in _PROCESS if attributes.get(key)), "")
        origin = (name, *(str(attributes.get(key)) for key in _ORIGIN))
        number = self._process_numbers.setdefault(origin, len(self.processes))
        if number == len(self.processes):
            self.processes.append(name)
            self.origins.append(attributes)
            self.resources.setdefault(name, attributes)
        return number

    def site(self, name: str, attributes: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the number of the place that spans of this name and these attributes have, and what is not of it."""
        of_site = {key: attributes[key] for key in attributes if key in OF_A_SITE}
        others = {key: attributes[key] for key in attributes if key not in OF_A_SITE}
        known = (name, *((key, repr(value)) for key, value in of_site.items()))
        number = self._numbers.setdefault(known, len(self.sites))
        if number == len(self.sites):
            self.sites.append(Site(name, of_site))
        return number, others

    def add(
        self,
        trace_id: str,
        span_id: int,
        parent_id: int,
        start: int,
        end: int,
        process: int,
        site: int,
        remark: Remark = _NO_REMARK,
        link_id: int = _NO_ID,
    ) -> None:
        """Note one span. Ids are numbers as `id_number` makes them, 0 for none; times Unix ns.

        Args:
            link_id: of a span of the same trace.
        """
        columns = self.columns(trace_id)
        at = len(columns)
        columns.span_ids.append(span_id)
        columns.parent_ids.append(parent_id)
        columns.starts.append(start)
        # A host's clock may have been set back between them.
        columns.ends.append(max(start, end))
        columns.sites.append(site)
        columns.processes.append(process)
        if link_id:
            columns.link(at, link_id)
        self.remark(columns, at, remark)
        self.count += 1
        self.last = trace_id, columns.ends[at]

    def add_block(self, trace_id: str, block: Columns) -> None:
        """Note several spans of a trace."""
        columns = self.columns(trace_id)
        first = len(columns)
        columns.add(block)
        for at, remark in block.remarks.items():
            self.remark(columns, first + at, remark)
        self.count += len(block)
        self.last = trace_id, columns.ends[-1]

    def remark(self, columns: Columns, at: int, remark: Remark) -> None:
        """Note what the span numbered `at` has of its own."""
        others = {
            key: value
            for key, value in remark.attributes.items()
            if not (
                isinstance(value, float)
                and key.startswith(_MEASURE)
                and columns.measure(at, key, value)
            )
        }
        if others or remark.failed or remark.exception:
            columns.remarks[at] = remark._replace(attributes=others)


def are_measures(keys: Sequence[str]) -> bool:
    """Return whether attributes of these names that are numbers are columns."""
    return len(keys) <= _MOST_MEASURES and all(
        key.startswith(_MEASURE) and key not in OF_A_SITE for key in keys
    )


def id_number(text: str) -> int:
    """Return the id of a span as a number; what is no number of 64 bits is made one."""
    try:
        number = int(text, 16)
    except ValueError:
        number = _NO_ID
    if 0 < number < 1 << 64:
        return number
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1
