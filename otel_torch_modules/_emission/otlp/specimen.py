"""A span whose ids, times and values occur nowhere else: encoded once, it shows what lies between them in all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import chain
from os import urandom
from typing import Any

from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._events import Varying
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import Span, Trace

_IDS_AND_TIMES = (16, 8, 8, 8, 8, 8)  # bytes
_VALUE = 7  # bytes of a value


class Specimen:
    """One span that is like others.

    Args:
        like: what it has in common with them.
        above: whether the span that it hangs below is another process's; None where there is none.
    """

    def __init__(self, like: Prototype, above: bool | None = False) -> None:
        # At once: each call of the operating system gives up the interpreter lock, and waits to have it back.
        drawn = BytesIO(urandom(sum(_IDS_AND_TIMES) + _VALUE * len(like.keys))).read
        trace_id, span_id, parent_id, link_id, start, end = map(drawn, _IDS_AND_TIMES)
        self._link_id = int.from_bytes(link_id, "big")
        trace = Trace(int.from_bytes(trace_id, "big"), 0, 0, None, None)
        self.parent: Span | None = None
        if above is not None:
            self.parent = Span(trace, None, "", "", 0, 1, 1, {})
            self.parent.span_id = int.from_bytes(parent_id, "big")
            self.parent.remote = above
        self.span = Span(
            trace,
            self.parent,
            like.name,
            like.phase,
            like.kind,
            int.from_bytes(start, "little"),
            int.from_bytes(end, "little"),
            like.attributes,
        )
        self.span.span_id = int.from_bytes(span_id, "big")
        self.span.say(like.keys, tuple([_value(key.type, drawn(_VALUE)) for key in like.keys]))

    @property
    def root(self) -> Span:
        """The span without a parent."""
        return self.span if self.parent is None else self.parent

    def add_link(self) -> None:
        """Link the span to another one of its trace."""
        self.span.link = Span(self.span.trace, None, "", "", 0, 1, 1, {})
        self.span.link.span_id = self._link_id

    def varies(
        self, language: Language, attributes: Callable[[Varying, Sequence[Any]], list[bytes]]
    ) -> list[bytes]:
        """Return the ids, times and, together, values as they are written, in this order; empty for what it has not.

        Args:
            language: in which ids and times are.
            attributes: writes values.
        """
        span = self.span
        trace_id = language.trace_id(span.trace.trace_id)
        above = [] if self.parent is None else [self.parent.span_id]
        columns = [attributes(key, [value]) for key, value in span.said.items()]
        written = [
            trace_id,
            *language.span_ids([span.span_id]),
            b"".join(language.span_ids(above)),
            *language.times([span.start, span.end]),
            b"".join(chain.from_iterable(columns)),
        ]
        if span.link is not None:
            written += trace_id, *language.span_ids([span.link.span_id])
        return written


def _value(kind: type, drawn: bytes) -> Any:
    if kind is bool:
        return True
    number = int.from_bytes(drawn, "big")
    if kind is int:
        return number - (1 << 63)  # it takes all bytes that there may be
    if kind is float:
        return number / 7
    text = f"{number:014x}"
    return text if kind is str else (text,)
