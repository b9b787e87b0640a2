"""OTLP from columns: the bytes that are alike in all records with one layout are laid out once.

For each record a copy of the block gets what goes into the holes, and is joined. What is small is done for several
records at once: for each by itself it is the number of functions called that costs, not what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from operator import add
from typing import Any, NamedTuple

from otel_torch_modules._emission.otlp.block import Form, SpanBlock, Template, joined
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.language import Pieces
from otel_torch_modules._engine.pauses import pause, slices
from otel_torch_modules._events import Varying
from otel_torch_modules._spans.columns import SpanColumns, pick
from otel_torch_modules._spans.layout import Layout
from otel_torch_modules._weak_table import WeakTable

_NUMBERS_AT_ONCE = 1_024


class EncodedBlock(NamedTuple):
    """Some spans, as fields of ``ScopeSpans``."""

    data: bytes
    span_count: int
    part: str = ""  # of the services


class ColumnsEncoder:
    """Encodes all spans of columns but their heads and those that stand apart.

    Args:
        encoder: knows the bytes of a span around its ids, times and values.
        block_size: how many spans are encoded at once.
    """

    def __init__(self, encoder: SpanEncoder, block_size: int) -> None:
        self._encoder = encoder
        self._language = encoder.language
        self._block_size = block_size
        self._blocks = WeakTable[Layout, tuple[int, list[_Places]]]()

    def encode(self, records: Sequence[SpanColumns], flags: int) -> Iterator[list[EncodedBlock]]:
        """Yield the spans of each record, some of each at a time, with a pause after each whole block.

        Args:
            records: of one layout, with their ids; heads, and spans apart, are left to others.
            flags: the trace flags.
        """
        language = self._language
        traces = [columns.root.trace for columns in records]
        offsets = [repeat(trace.clock_offset) for trace in traces]
        trace_ids = [language.trace_id(trace.trace_id) for trace in traces]
        ids = _written(language.span_ids, [columns.span_ids or () for columns in records])
        starts, ends = (
            _written(language.times, list(map(map, repeat(add), times, offsets)))
            for times in (
                [columns.starts for columns in records],
                [columns.ends for columns in records],
            )
        )
        values = [columns.values for columns in records]
        for block in self._blocks_of(records[0].layout, flags):
            encoded = block.encode(trace_ids, ids, starts, ends, values)
            yield encoded
            if encoded[0].span_count * len(records) >= self._block_size:
                pause()

    def _blocks_of(self, layout: Layout, flags: int) -> list[_Places]:
        known = self._blocks.get(layout)
        if known is None or known[0] != flags:
            known = flags, list(self._make_blocks(layout, flags))
            self._blocks.put(layout, known)
        return known[1]

    def _make_blocks(self, layout: Layout, flags: int) -> Iterator[_Places]:
        groups: dict[tuple[Form, str], list[tuple[int, Template]]] = {}
        apart = set(layout.apart)
        for place in range(layout.heads, len(layout.spans)):
            if place not in apart:
                span = layout.spans[place]
                linked = place in layout.links
                alike = self._language, span.name, span.kind, flags, linked, False, span.keys
                template = self._encoder.template(span.attributes, alike)
                part = self._encoder.services.part_of(span.phase)
                groups.setdefault((template.form, part), []).append((place, template))
        for (form, part), group in groups.items():
            for some in slices(group, self._block_size):
                yield _Places(self._encoder, layout, some, form, part)


class _Places:
    """The spans at some places of a layout, all of one form and one part."""

    __slots__ = ("_block", "_encoder", "_lengths", "_links", "_own", "_parents", "_part", "_varies")

    def __init__(
        self,
        encoder: SpanEncoder,
        layout: Layout,
        spans: list[tuple[int, Template]],
        form: Form,
        part: str,
    ) -> None:
        self._encoder = encoder
        self._part = part
        places = [place for place, _ in spans]
        templates = [template for _, template in spans]
        self._own = pick(places)
        self._parents = pick([layout.parents[place] for place in places])
        self._links = pick([layout.links[place] for place in places] if form.linked else [])
        self._varies = [(place, key) for place, key in form.values if key not in layout.values]
        # What is the same in all records is written now.
        alike = [
            (place, key, encoder.attributes(key, self._own(layout.values[key])))
            for place, key in form.values
            if key in layout.values
        ]
        sized = encoder.size_of(key for _, key in self._varies)
        self._block = SpanBlock.of(form, encoder.language, templates)
        self._block.put_values(alike, [template.length + sized for template in templates])
        self._lengths = [template.length for template in templates]
        for _, _, column in alike:
            self._lengths = list(map(add, self._lengths, map(len, column)))

    def encode(
        self,
        trace_ids: list[bytes],
        ids: list[list[bytes]],
        starts: list[list[bytes]],
        ends: list[list[bytes]],
        values: list[dict[Varying, list[Any]]],
    ) -> list[EncodedBlock]:
        """Return the spans of each record, given the ids, times and values of each."""
        records, count, own = len(trace_ids), len(self._lengths), self._own
        block = self._block.copies(records)
        block.put_ids(
            [(trace_id, count) for trace_id in trace_ids],
            _picked(own, ids),
            _picked(self._parents, ids),
            _picked(self._links, ids),
        )
        block.put_times(_picked(own, starts), _picked(own, ends))
        columns = [
            (
                place,
                key,
                self._encoder.attributes(key, _picked(own, [known[key] for known in values])),
            )
            for place, key in self._varies
        ]
        block.put_values(columns, self._lengths * records)
        language, part = self._encoder.language, self._part
        return [
            EncodedBlock(joined(pieces, language), count, part)
            for pieces in block.parts([count] * records)
        ]


def _picked(
    pick_own: Callable[[Any], tuple[Any, ...]], records: Iterable[Sequence[Any]]
) -> list[Any]:
    return [*chain.from_iterable(map(pick_own, records))]


def _written(
    write: Callable[[list[int]], Pieces], records: Sequence[Iterable[int]]
) -> list[list[bytes]]:
    """Return the numbers of each record, of which there are as many in all of them."""
    numbers = [*chain.from_iterable(records)]
    written: list[bytes] = []
    for some in slices(numbers, _NUMBERS_AT_ONCE):
        written += write(some)
    count = len(written) // len(records)
    return [written[start : start + count] for start in range(0, len(written), count)]
