"""The tree that assembly makes and emission sends: what is known of a span before it is OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._events import Varying
from otel_torch_modules._records import OuterParent, Raised

# How long a module's span lasts without the spans below it (s).
SELF_TIME: Final = Varying(semconv.SELF_TIME, float)

# Values of opentelemetry.trace.SpanKind.
INTERNAL: Final = 0
PRODUCER: Final = 3
CONSUMER: Final = 4


SECOND: Final = 1_000_000_000  # ns


class Kinds(NamedTuple):
    """The kinds of module spans."""

    forward: int  # where nodes were recorded
    backward: int


class Trace(NamedTuple):
    """What all spans of one record share."""

    trace_id: int
    clock_offset: int  # ns; add it to a time of a span for nanoseconds since the epoch
    trace_flags: int
    trace_state: Any
    parent: OuterParent | None  # of the root span
    attributes: Mapping[str, Any] = MappingProxyType({})  # of every span, on top of its own


class Note(NamedTuple):
    """A call of `opentelemetry.trace.Span.<method>` that the program made on a span of ours."""

    method: str
    arguments: tuple[Any, ...]
    time: int


class Happening(NamedTuple):
    """An event of a span: something without a duration."""

    name: str
    time: int
    attributes: Mapping[str, Any]


class SharedAttributes(dict[str, Any]):
    """Attributes made once for many spans, never to be changed: what follows from them need be found only once.

    `encoded` is emission's: what it has found, which dies with what it was found for.
    """

    __slots__ = ("encoded",)

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        super().__init__(attributes)
        self.encoded: Any = None


class Span:
    """A node of the tree. Times are perf_counter_ns."""

    __slots__ = (
        "attributes",
        "children",
        "end",
        "error",
        "keys",
        "kind",
        "link",
        "name",
        "notes",
        "parent",
        "phase",
        "points",
        "remote",
        "span_id",
        "start",
        "trace",
        "values",
    )

    def __init__(
        self,
        trace: Trace,
        parent: Span | None,
        name: str,
        phase: str,
        kind: int,
        start: int,
        end: int,
        attributes: Mapping[str, Any],
    ) -> None:
        self.trace = trace
        self.parent = parent
        self.name = name
        self.phase = phase
        self.kind = kind
        self.start = start
        self.end = end
        self.attributes = attributes  # what all spans of its place have
        # What each has of its own, and the value of each of these; None for what is not known.
        self.keys: tuple[Varying, ...] = ()
        self.values: tuple[Any, ...] = ()
        self.children: list[Span] | tuple[()] = ()  # a list of its own would cost a leaf too much
        self.link: Span | None = None  # the forward or recompute span of a backward span
        self.error: Raised | None = None
        self.notes: list[Note] | None = None
        self.points: list[Happening] | None = None
        self.remote = False  # sent by another process: here only for its children to point at
        self.span_id = 0  # 0 until emission, or the program, asks for one
        if parent is not None:
            parent.adopt(self)

    def say(self, keys: tuple[Varying, ...], values: tuple[Any, ...]) -> None:
        """Add values, one for each of `keys`; what was said before of the same is forgotten."""
        if len(keys) != len(values):
            raise ValueError(f"{len(values)} values for the {len(keys)} attributes {keys}")
        if self.keys:
            said = self.said | dict(zip(keys, values, strict=True))
            keys, values = (*said,), (*said.values(),)
        self.keys, self.values = keys, values

    @property
    def said(self) -> dict[Varying, Any]:
        """The values by their keys."""
        return dict(zip(self.keys, self.values, strict=True))

    @property
    def all_attributes(self) -> Mapping[str, Any]:
        """The attributes with the values that are known."""
        if not self.keys:
            return self.attributes
        known = {key.name: value for key, value in self.said.items() if value is not None}
        return {**self.attributes, **known}

    @property
    def on_host(self) -> list[Span]:
        """The spans right below but for the device's lane: those whose times are of this one's."""
        return [child for child in self.children if child.phase != semconv.PHASE_DEVICE]

    def adopt(self, child: Span) -> None:
        """Put `child`, whose parent this is, below this span."""
        if self.children:
            self.children.append(child)
        else:
            self.children = [child]

    def take(self, other: Span) -> None:
        """Put `other`, which is below another span, below this one."""
        if other.parent is not None:
            other.parent.children = [child for child in other.parent.children if child is not other]
        other.parent = self
        self.adopt(other)

    def release(self) -> None:
        """Let go of all that is below, once the tree is not needed any more.

        Spans that hold each other would stay until the garbage collector finds them, and each step would call it.
        """
        stack = [self]
        while stack:
            span = stack.pop()
            stack.extend(span.children)
            span.children = ()

    def walk(self) -> Iterator[Span]:
        """Yield this span and all below it, parents before children, children in order."""
        stack = [self]
        while stack:
            span = stack.pop()
            yield span
            stack.extend(reversed(span.children))

    def __repr__(self) -> str:
        return (
            f"<{self.name} {(self.end - self.start) / 1e6:.3f} ms, {len(self.children)} children>"
        )


in_time: Final[Callable[[Span], tuple[int, int]]] = attrgetter("start", "end")
"""Sorts spans by their starts, and those that start together by their ends."""
