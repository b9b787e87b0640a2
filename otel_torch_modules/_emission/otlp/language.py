"""What is the same in all languages of OTLP: a span with holes for its ids, times and values.

A language says how the standard encoding of spans looks, how ids, times and attributes are written in it, and what
stands between spans and around them. The rest, which is what makes encoding cheap, does not know which one it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from opentelemetry.sdk.trace import ReadableSpan

from otel_torch_modules._events import Varying

Pieces = tuple[bytes, ...]


class Language(Protocol):
    """A way to write an ``ExportTraceServiceRequest``."""

    name: str
    between: bytes
    """What stands between two spans."""
    sized: frozenset[type]
    """The types whose values, where they are known, are no reason for `openings` that are other ones."""

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return `spans` of one resource and scope, with `between` between them, as the standard encoder has them."""

    def around(self, span: ReadableSpan) -> tuple[bytes, bytes]:
        """Return the resource and the scope of `span`, for `request`."""

    def request(self, resource: bytes, scope: bytes, spans: Iterable[bytes]) -> bytes:
        """Return the request that sends encoded `spans`. Several, one after the other, are one that sends all."""

    def split(self, encoded: bytes, span_count: int, most: int) -> Iterable[tuple[bytes, int]]:
        """Yield encoded spans in parts of `most` bytes, where receivers mind, and how many spans are in each."""

    def trace_id(self, trace_id: int) -> bytes:
        """Return an id of 16 bytes as it is written."""

    def span_ids(self, span_ids: Sequence[int]) -> Pieces:
        """Return ids of 8 bytes as they are written."""

    def times(self, times: Sequence[int]) -> Pieces:
        """Return nanoseconds since the epoch as they are written."""

    def attributes(self, key: Varying, values: Sequence[Any]) -> list[bytes]:
        """Return attributes, whole, as they are written after another one; nothing for None."""

    def opened(self, span: bytes) -> bytes:
        """Return an encoded span without what depends on its length."""

    def openings(self, lengths: Iterable[int]) -> list[bytes]:
        """Return what `opened` takes away of spans that are so long without it, with what is between them."""


def cut(data: bytes, variables: Iterable[bytes]) -> Pieces:
    """Return what lies between `variables`, which occur in `data` in this order; nothing before an empty one."""
    pieces = []
    for variable in variables:
        piece, found, data = data.partition(variable) if variable else (b"", True, data)
        if not found:
            raise ValueError(
                "the standard encoder does not write fields in the order of their numbers"
            )
        pieces.append(piece)
    return (*pieces, data)
