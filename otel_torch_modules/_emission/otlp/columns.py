"""OTLP from columns: the bytes that are alike in all records with one layout are laid out once.

A block is a list of byte strings, of which all but ids and times stay what they are. For each record a copy of the list
gets these as whole columns, and is joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple
from weakref import WeakKeyDictionary

from otel_torch_modules._emission.otlp.encoder import Template
from otel_torch_modules._emission.otlp.language import Language, Pieces
from otel_torch_modules._engine.pauses import pause, slices
from otel_torch_modules._spans.columns import SpanColumns, pick
from otel_torch_modules._spans.layout import Layout, Prototype

_NUMBERS_AT_ONCE = 1_024
_TEMPLATES_AT_ONCE = 16  # less than a millisecond

_PLAIN_STRIDE = 11  # byte strings of a span without a link: see Template
_LINK_STRIDE = 15


class EncodedBlock(NamedTuple):
    """Some spans, as fields of ``ScopeSpans``."""

    data: bytes
    span_count: int


class ColumnsEncoder:
    """Encodes all spans of columns but their heads and those that stand apart.

    Args:
        template: returns the bytes of a span around its ids and times, given what it has and whether it has a link.
        language: in which these are written.
        block_size: how many spans are encoded at once.
    """

    def __init__(
        self,
        template: Callable[[Prototype, bool, int], Template],
        language: Language,
        block_size: int,
    ) -> None:
        self._template = template
        self._language = language
        self._block_size = block_size
        self._blocks: WeakKeyDictionary[Layout, tuple[int, list[_Block]]] = WeakKeyDictionary()

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
        offset = trace.clock_offset
        ids = _written(self._language.span_ids, span_ids)
        starts = _written(self._language.times, [start + offset for start in columns.starts])
        ends = _written(self._language.times, [end + offset for end in columns.ends])
        for block in self._blocks_of(columns.layout, flags):
            encoded = block.encode(trace_id, ids, starts, ends)
            yield encoded
            if encoded.span_count == self._block_size:
                pause()

    def _blocks_of(self, layout: Layout, flags: int) -> list[_Block]:
        known = self._blocks.get(layout)
        if known is None or known[0] != flags:
            known = self._blocks[layout] = flags, list(self._make_blocks(layout, flags))
        return known[1]

    def _make_blocks(self, layout: Layout, flags: int) -> Iterator[_Block]:
        apart = set(layout.apart)
        places = [place for place in range(layout.heads, len(layout.spans)) if place not in apart]
        plain = [place for place in places if place not in layout.links]
        linked_ones = [place for place in layout.links if place not in apart]
        for group, linked in ((plain, False), (linked_ones, True)):
            for some in slices(group, self._block_size):
                templates = [
                    self._template(layout.spans[place], linked, flags)
                    for few in slices(some, _TEMPLATES_AT_ONCE)
                    for place in few
                ]
                yield _Block(layout, some, templates, self._language.between, linked=linked)


class _Block:
    """The spans at some places of a layout, all with a link or all without."""

    __slots__ = ("_linked", "_links", "_own", "_parents", "_pieces")

    def __init__(
        self,
        layout: Layout,
        places: list[int],
        templates: list[Template],
        between: bytes,
        *,
        linked: bool,
    ) -> None:
        self._linked = linked
        self._own = pick(places)
        self._parents = pick([layout.parents[place] for place in places])
        self._links = pick([layout.links.get(place, 0) for place in places])
        self._pieces: list[bytes] = []
        for template in templates:
            first, *pieces = template.pieces
            self._pieces.append(between + first if self._pieces else first)
            for piece in pieces:
                self._pieces += b"", piece
            if linked:
                for piece in template.link_pieces:
                    self._pieces += b"", piece

    def encode(self, trace_id: bytes, ids: Pieces, starts: Pieces, ends: Pieces) -> EncodedBlock:
        """Return the spans with these ids and times."""
        pieces = self._pieces.copy()
        stride = _LINK_STRIDE if self._linked else _PLAIN_STRIDE
        count = len(pieces) // stride
        pieces[1::stride] = [trace_id] * count
        pieces[3::stride] = self._own(ids)
        pieces[5::stride] = self._parents(ids)
        pieces[7::stride] = self._own(starts)
        pieces[9::stride] = self._own(ends)
        if self._linked:
            pieces[11::stride] = [trace_id] * count
            pieces[13::stride] = self._links(ids)
        return EncodedBlock(b"".join(pieces), count)


def _written(write: Callable[[list[int]], Pieces], numbers: list[int]) -> Pieces:
    return (*chain.from_iterable(map(write, slices(numbers, _NUMBERS_AT_ONCE))),)
