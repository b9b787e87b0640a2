"""What the trees of records that are like each other have in common: all but times, ids and the values that vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from otel_torch_modules._events import Varying
from otel_torch_modules._spans.span import Span


class Prototype(NamedTuple):
    """What one span has in all records."""

    name: str
    phase: str
    kind: int
    attributes: Mapping[str, Any]
    keys: tuple[Varying, ...] = ()  # of the values that it may have


class Layout:
    """The plan of a tree.

    Args:
        spans: of the tree of one of these records, the root first.
        heads: how many of the first of them belong to the process and not to the program: step and rank.
        truncated: whether module spans are missing.
    """

    def __init__(self, spans: list[Span], heads: int, truncated: bool) -> None:
        places = {id(span): place for place, span in enumerate(spans)}
        self.spans = [
            Prototype(span.name, span.phase, span.kind, span.attributes, span.keys)
            for span in spans
        ]
        """What each span has; a step's own attributes are those of the record read."""
        self.heads = heads
        self.truncated = truncated
        self.parents = [0, *(places[id(span.parent)] for span in spans[1:])]
        """The place of each span's parent; the root's is its own."""
        self.children = [[places[id(child)] for child in span.children] for span in spans]
        """The places of the spans below each, in the order of their starts."""
        self.links = {
            place: places[id(span.link)]
            for place, span in enumerate(spans)
            if span.link is not None
        }
        """The place of the span that each backward span is linked to."""
        self.phases = [
            place for place in range(heads, len(spans)) if self.parents[place] == heads - 1
        ]
        """The places of the spans right below the heads, in the order of their starts."""
        self.apart = [place for place in range(heads, len(spans)) if spans[place].points]
        """The places of the spans that are encoded one by one."""
        self.values: dict[Varying, list[Any]] = {}
        """Values that are the same in all records, for each span; None where it has no such value."""
