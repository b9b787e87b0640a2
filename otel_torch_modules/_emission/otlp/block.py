"""Spans that have the same holes, written at once: whole columns of ids, times and values go between what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import add
from typing import Any

from otel_torch_modules._emission.otlp.language import Language, Pieces
from otel_torch_modules._events import Varying


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
    def values(self) -> Iterable[tuple[int, Varying]]:
        """The keys, each with the place of its piece."""
        return enumerate(self.keys, _FIRST_VALUE)


# What spans with the same attributes have in common: language, name, kind, trace flags, whether they have a link to a
# span of the same trace, whether the span above is another process's, None where they hang below nothing, and the keys
# of their values.
Alike = tuple[Language, str, int, int, bool, bool | None, tuple[Varying, ...]]


@dataclass(frozen=True, eq=False, slots=True)
class Template:
    """A span but for its ids, times and values. It is kept on its attributes.

    Args:
        maker: what it is kept for.
        alike: what it is of.
        form: of which it is.
        length: of all but the values.
        opening: what it begins with where all its values are known, and of types that are `sized`.
        name: the piece with its name.
        attributes: the piece with what does not vary.
        next: that of other spans with the same attributes. There are one or two most often, for which a dictionary
            takes the processor through more of its memory than anything else that is done for a span.
    """

    maker: object
    alike: Alike
    form: Form
    length: int
    opening: bytes
    name: bytes
    attributes: bytes
    next: Template | None


# A span's pieces. Its values' come from the last of these on; with a link the last three are that link's.
_OPENING, _TRACE, _SPAN_ID, _, _PARENT_ID, _NAME, _START, _, _END, _ATTRIBUTES = range(10)
_FIRST_VALUE = 10


class Forms:
    """The forms that an encoder's spans have, each of them once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Form] = {}

    def cut(
        self, keys: tuple[Varying, ...], linked: bool, outermost: bool, pieces: Pieces
    ) -> tuple[Form, bytes, bytes]:
        """Return the form of a span, its piece with the name and that with the attributes.

        Args:
            keys: of its values.
            linked: whether it has a link, to a span of the same trace.
            outermost: whether it hangs below nothing.
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
        return form, name, attributes


Run = tuple[bytes, int]
"""A trace id as it is written, and how many spans have it, one after the other."""


class SpanBlock:
    """The pieces of some spans of one form, with nothing in the holes yet.

    Args:
        form: theirs.
        language: in which they are written.
        openings: of their templates.
        names: of their templates.
        attributes: of their templates.
    """

    __slots__ = ("_form", "_language", "_stride", "pieces")

    def __init__(
        self,
        form: Form,
        language: Language,
        openings: Sequence[bytes],
        names: Sequence[bytes],
        attributes: Sequence[bytes],
    ) -> None:
        self._form = form
        self._language = language
        self._stride = stride = len(form.frame)
        self.pieces = pieces = [*form.frame] * len(names)
        pieces[_OPENING::stride] = openings
        pieces[_NAME::stride] = names
        pieces[_ATTRIBUTES::stride] = attributes

    @classmethod
    def of(cls, form: Form, language: Language, templates: Sequence[Template]) -> SpanBlock:
        """Return the block of spans that have these templates."""
        return cls(
            form,
            language,
            [template.opening for template in templates],
            [template.name for template in templates],
            [template.attributes for template in templates],
        )

    def copies(self, count: int) -> SpanBlock:
        """Return one with the same in it so many times."""
        other = SpanBlock(self._form, self._language, (), (), ())
        other.pieces = self.pieces * count
        return other

    def put_ids(
        self,
        traces: Iterable[Run],
        own: Sequence[bytes],
        parents: Sequence[bytes],
        linked: Sequence[bytes],
    ) -> None:
        """Write ids; those of the spans that these are linked to only where there is a link."""
        pieces, form, stride = self.pieces, self._form, self._stride
        pieces[_TRACE::stride] = _for_each(traces, form.trace)
        pieces[_SPAN_ID::stride] = own
        pieces[_PARENT_ID::stride] = parents
        if form.linked:
            pieces[stride - 3 :: stride] = _for_each(traces, form.link)
            pieces[stride - 2 :: stride] = linked

    def put_times(self, starts: Sequence[bytes], ends: Sequence[bytes]) -> None:
        """Write times."""
        self.pieces[_START :: self._stride] = starts
        self.pieces[_END :: self._stride] = ends

    def put_values(
        self, columns: Sequence[tuple[int, Varying, list[bytes]]], lengths: Iterable[int]
    ) -> None:
        """Write values, and what spans begin with where these are not of the lengths that were reckoned with.

        Args:
            columns: of each the place of its piece, its key, and what is written.
            lengths: of the spans without them.
        """
        pieces, stride, sized = self.pieces, self._stride, self._language.sized
        as_reckoned = True
        for place, key, column in columns:
            pieces[place::stride] = column
            as_reckoned = as_reckoned and key.type in sized and all(column)
        if not as_reckoned:
            for _, _, column in columns:
                lengths = map(add, lengths, map(len, column))
            pieces[_OPENING::stride] = self._language.openings(lengths)

    def parts(self, counts: Iterable[int]) -> Iterator[list[bytes]]:
        """Yield the pieces of the first so many spans, then of those that follow."""
        start = 0
        for count in counts:
            end = start + count * self._stride
            yield self.pieces[start:end]
            start = end


def _for_each(traces: Iterable[Run], around: Pieces) -> list[bytes]:
    pieces: list[bytes] = []
    for trace_id, count in traces:
        pieces += repeat(trace_id.join(around), count)
    return pieces


def joined(pieces: list[bytes], language: Language) -> bytes:
    """Return the spans of these pieces; the first has nothing before it that stands between two."""
    pieces[0] = pieces[0].removeprefix(language.between)
    return b"".join(pieces)
