"""A table with a row for each span, as Parquet: for DuckDB, Polars, Spark. Needs pyarrow, the extra `parquet`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow
from pyarrow import parquet

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.places import BETWEEN, Places, TimedPlace
from otel_torch_modules._diagnosis.series import own_times
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Span

_ROWS_AT_ONCE = 1 << 16
_MOST = (1 << 63) - 1  # what a column holds: times of OTLP may be twice as large

_WORD = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())  # of few values
_ID = pyarrow.string()
_TIME = pyarrow.timestamp("ns", "UTC")
SCHEMA = pyarrow.schema(
    [
        ("trace_id", _WORD),
        ("span_id", _ID),
        ("parent_id", _ID),
        ("forward_id", _ID),
        ("process", _WORD),
        ("rank", pyarrow.int64()),
        ("step", pyarrow.int64()),
        ("depth", pyarrow.int32()),
        ("name", _WORD),
        ("phase", _WORD),
        ("module", _WORD),
        ("pattern", _WORD),
        ("class", _WORD),
        ("start", _TIME),
        ("duration_ns", pyarrow.int64()),
        ("self_ns", pyarrow.int64()),
        ("failed", pyarrow.bool_()),
        ("incomplete", pyarrow.bool_()),
        ("exception", pyarrow.string()),
        ("attributes", pyarrow.string()),
    ]
)
"""What docs/convert.md says of each column."""

_IN_COLUMNS = (semconv.PHASE, semconv.MODULE_FQN, semconv.MODULE_CLASS, semconv.STEP_INDEX)


def write_parquet(roots: Sequence[Span], out: IO[bytes]) -> None:
    """Write the spans of `roots`."""
    shapes = {root.shape: None for root in roots}
    places = Places(site for shape in shapes for site in shape.sites)
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    with parquet.ParquetWriter(out, SCHEMA, compression="zstd") as writer:
        table = _Shapes(places)
        for root in roots:
            for row in _rows(root, table):
                for name, value in row.items():
                    columns[name].append(value)
            if len(columns["name"]) >= _ROWS_AT_ONCE:
                _flush(columns, writer)
        _flush(columns, writer)


def _flush(columns: dict[str, list[Any]], writer: parquet.ParquetWriter) -> None:
    writer.write_table(pyarrow.table(columns, schema=SCHEMA))
    for column in columns.values():
        column.clear()


class _Shapes:
    """What is alike in all trees of a shape."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._known: dict[tuple[Shape, int], Sequence[tuple[TimedPlace, int, int | None]]] = {}

    def of(self, root: Span) -> Sequence[tuple[TimedPlace, int, int | None]]:
        """Return the place of each span, how deep it lies, and on which rank."""
        key = (root.shape, root.at)
        known = self._known.get(key)
        if known is None:
            shape = root.shape
            depths: list[int] = []
            ranks: list[int | None] = []
            above_lane = root.above_lane
            of_root = shape.sites[root.at].rank if above_lane is None else above_lane.rank
            for at in range(root.at, shape.after[root.at]):
                above = shape.parents[at] - root.at
                depths.append(depths[above] + 1 if at > root.at else 0)
                rank = shape.sites[at].rank
                ranks.append(of_root if at == root.at else ranks[above] if rank is None else rank)
            of_shape = self._places.of_shape(shape, root.at)
            known = self._known[key] = list(zip(of_shape, depths, ranks, strict=True))
        return known


def _rows(root: Span, shapes: _Shapes) -> Iterator[Mapping[str, Any]]:
    steps: list[int | None] = []
    above_lane = root.above_lane
    around = None if above_lane is None else above_lane.step
    known = zip(root.walk(), shapes.of(root), own_times(root), strict=True)
    for span, (place, depth, rank), own in known:
        above = steps[root.shape.parents[span.at] - root.at] if depth else around
        step = span.step if span.at in root.trace.remarks else None
        steps.append(above if step is None else step)
        site = span.site
        rest = {key: value for key, value in span.attributes.items() if key not in _IN_COLUMNS}
        yield {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_id": span.parent_id or None,
            "forward_id": span.link_id or None,
            "process": span.process,
            "rank": rank,
            "step": steps[-1],
            "depth": depth,
            "name": span.name,
            "phase": site.phase or (place.phase if place.phase != BETWEEN else None),
            "module": site.fqn,
            "pattern": place.pattern,
            "class": site.module_class,
            "start": min(span.start, _MOST),
            "duration_ns": min(span.duration, _MOST),
            "self_ns": min(own, _MOST),
            "failed": span.failed,
            "incomplete": span.incomplete,
            "exception": span.exception or None,
            "attributes": json.dumps(rest, ensure_ascii=False) if rest else None,
        }
