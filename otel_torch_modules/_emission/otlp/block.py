"""Spans that have the same holes, written at once: whole columns of ids, times and values go between what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from otel_torch_modules._emission.otlp.language import Pieces
from otel_torch_modules._records import Varying


@dataclass(frozen=True, eq=False)
class Form:
    """Which holes spans have, and what they have in common else.

    Args:
        keys: of their values.
        linked: whether they have a link, to a span of the same trace.
        outermost: whether they hang below nothing.
        flags: the trace flags.
    """

    keys: tuple[Varying, ...]
    linked: bool
    outermost: bool
    flags: int

    @property
    def stride(self) -> int:
        """How many pieces a span has."""
        return FIRST_VALUE + len(self.keys) + (5 if self.linked else 1)


# Where the holes are among a span's pieces; those of its values come from the last of these on, and those of a link
# are the second and the fourth of the last four.
OPENING, _TRACE_ID, _SPAN_ID, _PARENT_ID, _START, _END = range(0, 12, 2)
FIRST_VALUE = 12


def woven(form: Form, pieces: Sequence[bytes]) -> Pieces:
    """Return `pieces` of a span with its holes, empty, between them.

    Args:
        form: of the span.
        pieces: what lies before, between and after trace id, own id, parent's id, start, end, values, and, where it is
            linked, the trace id and the id of that.
    """
    found = [piece for kept in pieces for piece in (b"", kept)]
    found[FIRST_VALUE : FIRST_VALUE + 1] = [b""] * len(form.keys)
    return (*map(_one_of, found),)


# Most of what is between holes is the same in all spans: as one object it stays in the processor's caches.
@lru_cache(maxsize=256)
def _one_of(piece: bytes) -> bytes:
    return piece


def fill(
    pieces: list[bytes],
    form: Form,
    trace_id: bytes,
    own: Sequence[bytes],
    parents: Sequence[bytes],
    starts: Sequence[bytes],
    ends: Sequence[bytes],
    linked: Sequence[bytes],
) -> None:
    """Put ids and times into the pieces of spans of a form."""
    stride = form.stride
    trace_ids = [trace_id] * len(own)
    pieces[_TRACE_ID::stride] = trace_ids
    pieces[_SPAN_ID::stride] = own
    pieces[_PARENT_ID::stride] = parents
    pieces[_START::stride] = starts
    pieces[_END::stride] = ends
    if form.linked:
        pieces[stride - 4 :: stride] = trace_ids
        pieces[stride - 2 :: stride] = linked
