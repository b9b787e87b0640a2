"""Spans that have the same holes, written at once: whole columns of ids, times and values go between what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_torch_modules._emission.otlp.language import Pieces
from otel_torch_modules._records import Varying


@dataclass(frozen=True, eq=False)
class Form:
    """What spans are, but for name and attributes.

    Args:
        keys: of their values.
        linked: whether they have a link, to a span of the same trace.
        outermost: whether they hang below nothing.
        trace: what stands before and after their trace id.
        link: what stands before and after that of their link.
        frame: the pieces of one, empty where they differ.
    """

    keys: tuple[Varying, ...]
    linked: bool
    outermost: bool
    trace: Pieces
    link: Pieces
    frame: Pieces

    @property
    def stride(self) -> int:
        """How many pieces a span has."""
        return len(self.frame)


class Template(NamedTuple):
    """A span but for its ids, times and values.

    Args:
        form: of which it is.
        length: of all but the values.
        name: the piece with its name.
        attributes: the piece with what does not vary.
    """

    form: Form
    length: int
    name: bytes
    attributes: bytes


# A span's pieces. Its values' come from the last of these on; with a link the last three are that link's.
OPENING, _TRACE, _SPAN_ID, _, _PARENT_ID, _NAME, _START, _, _END, _ATTRIBUTES = range(10)
FIRST_VALUE = 10


class Forms:
    """The forms that an encoder's spans have, each of them once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Form] = {}

    def template(
        self, keys: tuple[Varying, ...], linked: bool, outermost: bool, length: int, pieces: Pieces
    ) -> Template:
        """Return the template of a span.

        Args:
            keys: of its values.
            linked: whether it has a link, to a span of the same trace.
            outermost: whether it hangs below nothing.
            length: of all but its values.
            pieces: what lies before, between and after trace id, own id, parent's id, start, end, values, and, where it
                is linked, the trace id and the id of that.
        """
        before, after_trace_id, after_own_id, name, between, attributes, after, *link = pieces
        if not keys:  # nothing lies between
            attributes, after = attributes + after, b""
        hole = b""
        frame = (
            *(hole, hole, hole, after_own_id, hole, hole, hole, between, hole, hole),
            *(hole for _ in keys),
            *((hole, hole, link[1]) if linked else (after,)),
        )
        of = (keys, linked, outermost, (before, after_trace_id), (after, *link[:1]), frame)
        form = self._known.get(of)
        if form is None:
            form = self._known[of] = Form(*of)
        return Template(form, length, name, attributes)


def begun(form: Form, templates: Sequence[Template]) -> list[bytes]:
    """Return the pieces of spans of one form, with nothing in the holes yet."""
    pieces = [*form.frame] * len(templates)
    pieces[_NAME :: form.stride] = [template.name for template in templates]
    pieces[_ATTRIBUTES :: form.stride] = [template.attributes for template in templates]
    return pieces


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
    pieces[_TRACE::stride] = [trace_id.join(form.trace)] * len(own)
    pieces[_SPAN_ID::stride] = own
    pieces[_PARENT_ID::stride] = parents
    pieces[_START::stride] = starts
    pieces[_END::stride] = ends
    if form.linked:
        pieces[stride - 3 :: stride] = [trace_id.join(form.link)] * len(own)
        pieces[stride - 2 :: stride] = linked
