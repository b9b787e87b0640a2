"""OTLP from columns: the bytes that are alike in all records with one layout are laid out once.

For each record a copy of the block gets what goes into the holes, and is joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
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

    def encode(
        self, columns: SpanColumns, span_ids: list[int], flags: int
    ) -> Iterator[EncodedBlock]:
        """Yield the spans of `columns`, with a pause after each whole block.

        Args:
            columns: whose heads, and spans apart, are left to others.
            span_ids: of all spans, the heads included.
            flags: the trace flags.
        """
        trace = columns.root.trace
        trace_id = self._language.trace_id(trace.trace_id)
        offset = repeat(trace.clock_offset)
        ids = _written(self._language.span_ids, span_ids)
        starts = _written(self._language.times, [*map(add, columns.starts, offset)])
        ends = _written(self._language.times, [*map(add, columns.ends, offset)])
        for block in self._blocks_of(columns.layout, flags):
            encoded = block.encode(trace_id, ids, starts, ends, columns.values)
            yield encoded
            if encoded.span_count == self._block_size:
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
        trace_id: bytes,
        ids: list[bytes],
        starts: list[bytes],
        ends: list[bytes],
        values: dict[Varying, list[Any]],
    ) -> EncodedBlock:
        """Return the spans with these ids, times and values."""
        block, own = self._block.copy(), self._own
        block.put_ids(trace_id, own(ids), self._parents(ids), self._links(ids))
        block.put_times(own(starts), own(ends))
        columns = [
            (place, key, self._encoder.attributes(key, own(values[key])))
            for place, key in self._varies
        ]
        block.put_values(columns, self._lengths)
        return EncodedBlock(joined([block], self._encoder.language), len(self._lengths), self._part)


def _written(write: Callable[[list[int]], Pieces], numbers: list[int]) -> list[bytes]:
    written: list[bytes] = []
    for some in slices(numbers, _NUMBERS_AT_ONCE):
        written += write(some)
    return written
